"""Everything that a user of a Python library for Consul does with keys; fails with a traceback.

py_keys.py HOST:PORT [ttl]       with ttl, waits until a session's lease is over
"""

import base64
import sys
import threading
import time

import consul


def raises(do, *arguments, **keywords):
    try:
        do(*arguments, **keywords)
    except consul.ConsulException:
        return True
    return False


def keys(c):
    assert c.kv.put("app/a", "one", flags=7) is True
    index, entry = c.kv.get("app/a")
    assert int(index) > 0
    assert (entry["Value"], entry["Flags"], entry["Key"]) == (b"one", 7, "app/a")
    assert entry["LockIndex"] == 0
    missing, nothing = c.kv.get("none")
    assert nothing is None
    assert int(missing) > 0

    assert c.kv.put("app/b/c", b"\x00\xff") is True
    assert c.kv.put("app/empty", "") is True
    assert c.kv.get("app/empty")[1]["Value"] in (None, b"")
    _, tree = c.kv.get("app/", recurse=True)
    assert [each["Key"] for each in tree] == ["app/a", "app/b/c", "app/empty"]
    _, names = c.kv.get("app/", keys=True, separator="/")
    assert names == ["app/a", "app/b/", "app/empty"]

    modified = entry["ModifyIndex"]
    assert c.kv.put("app/a", "two", cas=0) is False
    assert c.kv.put("app/a", "two", cas=modified) is True
    assert c.kv.put("app/a", "three", cas=modified) is False
    assert c.kv.delete("app/a", cas=modified) is False
    assert c.kv.get("app/a")[1]["Value"] == b"two"
    assert c.kv.delete("app/", recurse=True) is True
    assert c.kv.get("app/", recurse=True)[1] is None


def waiting(c, another):
    index, _ = c.kv.get("wait")
    found = []

    def wait():
        found.append(another.kv.get("wait", index=index, wait="30s")[1])

    thread = threading.Thread(target=wait)
    thread.start()
    c.kv.put("unrelated", "x")
    time.sleep(0.1)
    assert not found
    c.kv.put("wait", "now")
    thread.join(10)
    assert found[0]["Value"] == b"now"


def locks(c):
    one = c.session.create("one", lock_delay=0)
    two = c.session.create("two", lock_delay=0, behavior="delete")
    _, info = c.session.info(one)
    assert (info["Name"], info["Behavior"], info["LockDelay"]) == ("one", "release", 0)
    assert {one, two} <= {each["ID"] for each in c.session.list()[1]}
    assert len(c.session.node(info["Node"])[1]) >= 2
    assert c.kv.put("lock", "1", acquire=one) is True
    assert c.kv.put("lock", "2", acquire=two) is False
    assert c.kv.get("lock")[1]["Session"] == one
    assert c.session.destroy(one) is True
    assert "Session" not in c.kv.get("lock")[1]
    assert c.kv.put("lock", "2", acquire=two) is True
    assert c.kv.put("lock", "2", release=two) is True
    assert c.kv.put("lock", "2", acquire=two) is True
    assert c.session.destroy(two) is True
    assert c.kv.get("lock")[1] is None
    assert c.session.info(one)[1] is None
    assert raises(c.session.renew, one)
    assert raises(c.kv.put, "lock", "3", acquire=one)
    leased = c.session.create("leased", ttl=10)
    assert c.session.renew(leased)["TTL"] == "10s"
    c.session.destroy(leased)


def transactions(c):
    value = base64.b64encode(b"x").decode()
    done = c.txn.put(
        [
            {"KV": {"Verb": "set", "Key": "t/a", "Value": value}},
            {"KV": {"Verb": "get", "Key": "t/a"}},
        ]
    )
    assert done["Errors"] is None
    assert [each["KV"]["Value"] for each in done["Results"]] == [None, value]
    assert raises(c.txn.put, [{"KV": {"Verb": "get", "Key": "none"}}])
    assert raises(
        c.txn.put,
        [
            {"KV": {"Verb": "delete", "Key": "t/a"}},
            {"KV": {"Verb": "check-not-exists", "Key": "t/a"}},
            {"KV": {"Verb": "cas", "Key": "t/a", "Value": value, "Index": 1}},
        ],
    )
    assert c.kv.get("t/a")[1]["Value"] == b"x"
    catalog_transactions(c, value)


def catalog_transactions(c, value):
    web = {"ID": "web-1", "Service": "txn-web", "Port": 80}
    check = {"Node": "txn-1", "CheckID": "up", "ServiceID": "web-1", "Status": "passing"}
    done = c.txn.put(
        [
            {"Node": {"Verb": "set", "Node": {"Node": "txn-1", "Address": "10.0.0.1"}}},
            {"Service": {"Verb": "set", "Node": "txn-1", "Service": web}},
            {"Check": {"Verb": "set", "Check": check}},
            {"KV": {"Verb": "set", "Key": "t/b", "Value": value}},
        ]
    )
    assert [list(each) for each in done["Results"]] == [["Node"], ["Service"], ["Check"], ["KV"]]
    _, (found,) = c.health.service("txn-web", passing=True)
    assert (found["Node"]["Address"], found["Service"]["Port"]) == ("10.0.0.1", 80)
    read = {"Service": {"Verb": "get", "Node": "txn-1", "Service": {"ID": "web-1"}}}
    index = c.txn.put([read])["Results"][0]["Service"]["ModifyIndex"]
    stale = {"Verb": "cas", "Node": "txn-1", "Service": {**web, "ModifyIndex": index + 1}}
    node = {"Verb": "delete", "Node": {"Node": "txn-1"}}
    assert raises(c.txn.put, [{"Service": stale}, {"Node": node}])
    assert c.txn.put([read])["Results"][0]["Service"]["ModifyIndex"] == index
    c.txn.put([{"Node": node}])
    assert c.health.service("txn-web")[1] == []


def events(c):
    assert c.event.fire("deploy", "now")
    _, listed = c.event.list("deploy")
    assert [(each["Name"], each["Payload"]) for each in listed][-1:] == [("deploy", "bm93")] or [
        (each["Name"], each["Payload"]) for each in listed
    ][-1:] == [("deploy", b"now")]


def lease(c):
    session = c.session.create("leased", ttl=10, lock_delay=0)
    assert c.kv.put("leased", "x", acquire=session) is True
    time.sleep(3)
    renewed = time.monotonic()
    c.session.renew(session)
    time.sleep(8.5)  # past the end of what was not renewed
    assert c.kv.get("leased")[1]["Session"] == session
    index, _ = c.kv.get("leased")
    while "Session" in c.kv.get("leased", index=index, wait="5s")[1]:
        assert time.monotonic() - renewed < 21
    assert time.monotonic() - renewed >= 10
    assert c.session.info(session)[1] is None


def main():
    host, _, port = sys.argv[1].rpartition(":")
    c, another = (consul.Consul(host=host, port=int(port)) for _ in range(2))
    keys(c)
    waiting(c, another)
    locks(c)
    transactions(c)
    events(c)
    if sys.argv[2:] == ["ttl"]:
        lease(c)


main()
