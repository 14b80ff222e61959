"""``/v1/kv`` as Consul 1.16 answers, field by field."""

import asyncio
import base64
import functools

from tests.servers.mounted import Mounted, served


async def put(there: Mounted, path: str, value: bytes = b"v", **params: str) -> bool:
    answer = await there.ask(f"/v1/kv/{path}", method="PUT", content=value, params=params)
    assert answer.headers["content-type"] == "application/json"
    return bool(answer.json())


async def session(there: Mounted, **fields: object) -> str:
    answer = await there.ask("/v1/session/create", method="PUT", json=fields)
    return str(answer.json()["ID"])


def index_of(answer: object) -> int:
    return int(answer.headers["x-consul-index"])  # type: ignore[attr-defined]


@served
async def test_a_key_is_shown_with_every_field(there: Mounted) -> None:
    assert await put(there, "a/b", b"value", flags=str(2**64 - 1))

    answer = await there.ask("/v1/kv/a/b")

    (entry,) = answer.json()
    assert entry == {
        "LockIndex": 0,
        "Key": "a/b",
        "Flags": 2**64 - 1,
        "Value": base64.b64encode(b"value").decode(),
        "CreateIndex": entry["CreateIndex"],
        "ModifyIndex": entry["ModifyIndex"],
    }
    assert index_of(answer) == entry["ModifyIndex"] == entry["CreateIndex"] > 0
    assert answer.headers["x-consul-knownleader"] == "true"
    assert int(answer.headers["x-consul-lastcontact"]) == 0


@served
async def test_an_empty_value_is_null(there: Mounted) -> None:
    await put(there, "empty", b"")

    assert (await there.ask("/v1/kv/empty")).json()[0]["Value"] is None
    assert (await there.ask("/v1/kv/empty?raw")).content == b""


@served
async def test_a_missing_key_is_404_with_nothing_but_its_index(there: Mounted) -> None:
    for path in ("none", "none?raw", "none?recurse", "none?keys", "?recurse"):
        answer = await there.ask(f"/v1/kv/{path}", 404)
        assert answer.content == b""
        assert index_of(answer) == 1

    await put(there, "other")
    await put(there, "another")
    assert index_of(await there.ask("/v1/kv/none", 404)) == there.registry.revision > 1
    assert (await there.ask("/v1/kv/", 400)).text == "Missing key name"


@served
async def test_raw_is_the_bytes_and_no_browser_runs_them(there: Mounted) -> None:
    await put(there, "page", b"<script>\x00\xff")

    answer = await there.ask("/v1/kv/page?raw")

    assert answer.content == b"<script>\x00\xff"
    assert answer.headers["content-type"] == "text/plain"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"] == "sandbox"
    assert index_of(answer) > 0


@served
async def test_keys_may_be_any_text(there: Mounted) -> None:
    for path, key in (
        ("a%20b%23c%3Fd", "a b#c?d"),
        ("dir/", "dir/"),
        ("%C3%A9/x", "é/x"),
        ("a%2Fb", "a/b"),
        ("100%25", "100%"),
    ):
        assert await put(there, path)
        assert (await there.ask(f"/v1/kv/{path}")).json()[0]["Key"] == key


@served
async def test_recurse_lists_all_under_a_prefix_by_key(there: Mounted) -> None:
    for key in ("app/b", "app/a", "apple", "app", "other", "app/a/x"):
        await put(there, key)

    listed = (await there.ask("/v1/kv/app?recurse")).json()
    assert [entry["Key"] for entry in listed] == ["app", "app/a", "app/a/x", "app/b", "apple"]
    listed = (await there.ask("/v1/kv/app/?recurse=")).json()
    assert [entry["Key"] for entry in listed] == ["app/a", "app/a/x", "app/b"]
    assert len((await there.ask("/v1/kv/?recurse")).json()) == 6


@served
async def test_keys_are_names_up_to_the_separator(there: Mounted) -> None:
    assert (await there.ask("/v1/kv/?keys")).json() == []
    for key in ("web/a", "web/b/1", "web/b/2", "web/bc", "x"):
        await put(there, key)

    async def names(path: str) -> object:
        return (await there.ask(f"/v1/kv/{path}")).json()

    assert await names("web/?keys") == ["web/a", "web/b/1", "web/b/2", "web/bc"]
    assert await names("web/?keys&separator=/") == ["web/a", "web/b/", "web/bc"]
    assert await names("?keys&seperator=/") == ["web/", "x"]
    assert await names("web/b?keys&separator=/") == ["web/b/", "web/bc"]


@served
async def test_cas_sets_what_it_says_and_nothing_else(there: Mounted) -> None:
    assert not await put(there, "k", cas="7")
    assert await put(there, "k", b"1", cas="0")
    assert not await put(there, "k", b"2", cas="0")
    modified = (await there.ask("/v1/kv/k")).json()[0]["ModifyIndex"]
    assert not await put(there, "k", b"2", cas=str(modified + 1))
    assert await put(there, "k", b"2", cas=str(modified))

    stale = await there.ask(f"/v1/kv/k?cas={modified}", method="DELETE")
    assert stale.json() is False
    modified = (await there.ask("/v1/kv/k")).json()[0]["ModifyIndex"]
    assert (await there.ask(f"/v1/kv/k?cas={modified}", method="DELETE")).json() is True
    assert (await there.ask("/v1/kv/k?cas=3", method="DELETE")).json() is True  # it is gone
    await there.ask("/v1/kv/k", 404)


@served
async def test_delete_answers_true_and_takes_a_tree_with_recurse(there: Mounted) -> None:
    for key in ("a/1", "a/2", "ab", "b"):
        await put(there, key)

    assert (await there.ask("/v1/kv/none", method="DELETE")).json() is True
    assert (await there.ask("/v1/kv/a/1", method="DELETE")).json() is True
    assert (await there.ask("/v1/kv/a?recurse", method="DELETE")).json() is True
    assert (await there.ask("/v1/kv/?keys")).json() == ["b"]
    assert (await there.ask("/v1/kv/", 400, method="DELETE")).text == "Missing key name"
    assert (await there.ask("/v1/kv/?recurse", method="DELETE")).json() is True
    assert (await there.ask("/v1/kv/?keys")).json() == []


@served
async def test_what_cannot_be_combined_or_read_is_400(there: Mounted) -> None:
    for path in ("k?cas=0&acquire=x", "k?acquire=x&release=x", "k?cas=1&release=x"):
        answer = await there.ask(f"/v1/kv/{path}", 400, method="PUT")
        assert answer.text.startswith("Conflicting flags: ")
    await there.ask("/v1/kv/k?recurse&cas=1", 400, method="DELETE")
    for path in ("k?flags=-1", "k?flags=x", f"k?flags={2**64}", "k?cas="):
        assert "ParseUint" in (await there.ask(f"/v1/kv/{path}", 400, method="PUT")).text
    assert (await there.ask("/v1/kv/", 400, method="PUT")).text == "Missing key name"
    await there.ask("/v1/kv/k", 404)


@served
async def test_a_value_over_512_kib_is_413(there: Mounted) -> None:
    assert await put(there, "k", bytes(512 * 1024))

    too_large = await there.ask("/v1/kv/k", 413, method="PUT", content=bytes(512 * 1024 + 1))
    assert "max size: 524288 bytes" in too_large.text
    await there.ask("/v1/kv/k", 413, method="PUT", content=bytes(3 << 20))


@served
async def test_keys_take_no_more_than_they_may(there: Mounted) -> None:
    node = there.standalone.node
    await put(there, "old", bytes(2_000))
    node.keys_bytes_max = node.catalog.keyspace.keys.size + 1_000

    refused = await there.ask("/v1/kv/k", 500, method="PUT", content=bytes(2_000))

    assert "--keys-max" in refused.text
    assert await put(there, "old", bytes(1_999))  # what shrinks always goes through
    body = [{"KV": {"Verb": "set", "Key": f"k{number}", "Value": ""}} for number in range(4)]
    assert "--keys-max" in (await there.ask("/v1/txn", 500, method="PUT", json=body)).text
    await there.ask("/v1/kv/old", method="DELETE")
    assert await put(there, "k", bytes(2_000))


@served
async def test_one_session_holds_a_lock(there: Mounted) -> None:
    one, two = await session(there, LockDelay=0), await session(there, LockDelay="0s")

    assert await put(there, "lock", b"one", acquire=one)
    assert not await put(there, "lock", b"two", acquire=two)
    (entry,) = (await there.ask("/v1/kv/lock")).json()
    assert (entry["Session"], entry["LockIndex"]) == (one, 1)
    assert not await put(there, "lock", b"", release=two)
    assert await put(there, "lock", b"", release=one)
    (entry,) = (await there.ask("/v1/kv/lock")).json()
    assert "Session" not in entry
    assert await put(there, "lock", b"two", acquire=two)
    assert (await there.ask("/v1/kv/lock")).json()[0]["LockIndex"] == 2

    answer = await there.ask("/v1/kv/lock?acquire=nobody", 500, method="PUT")
    assert answer.text == 'invalid session "nobody"'
    await there.ask("/v1/kv/lock?acquire=", 500, method="PUT")


# Blocking queries


async def blocked(there: Mounted, path: str, index: int) -> "asyncio.Task[object]":
    """Begin a blocking query, and return when it waits."""
    door_waits = there.standalone.node.key_waits
    before = len(door_waits._by_key) + len(door_waits._by_prefix) + len(door_waits._by_topic)
    task = asyncio.ensure_future(
        there.client.get(f"/v1/{path}{'&' if '?' in path else '?'}index={index}&wait=60s")
    )
    while (
        len(door_waits._by_key) + len(door_waits._by_prefix) + len(door_waits._by_topic) == before
    ):
        await asyncio.sleep(0.002)
        assert not task.done(), task.result()
    return task


@served
async def test_a_blocking_query_wakes_for_its_own_key_alone(there: Mounted) -> None:
    await put(there, "a", b"1")
    index = index_of(await there.ask("/v1/kv/a"))
    waiting = await blocked(there, "kv/a", index)

    await put(there, "b", b"1")
    await put(there, "a", b"1")  # changes nothing
    await put(there, "ab", b"1")
    await asyncio.sleep(0.02)
    assert not waiting.done()
    await put(there, "a", b"2")

    answer = await waiting
    assert answer.json()[0]["Value"] == base64.b64encode(b"2").decode()  # type: ignore[attr-defined]
    assert index_of(answer) > index


@served
async def test_a_query_on_a_missing_key_waits_until_it_is_there(there: Mounted) -> None:
    await put(there, "other")
    index = index_of(await there.ask("/v1/kv/new", 404))
    waiting = await blocked(there, "kv/new", index)

    await put(there, "another")
    await asyncio.sleep(0.02)
    assert not waiting.done()
    await put(there, "new", b"1")

    assert (await waiting).json()[0]["Key"] == "new"  # type: ignore[attr-defined]


@served
async def test_a_removal_wakes_who_waits_and_is_seen_by_who_comes_later(there: Mounted) -> None:
    await put(there, "dir/a")
    index = index_of(await there.ask("/v1/kv/dir/a"))
    listed = index_of(await there.ask("/v1/kv/dir/?recurse"))
    single = await blocked(there, "kv/dir/a", index)
    tree = await blocked(there, "kv/dir/?recurse", listed)

    await there.ask("/v1/kv/dir?recurse", method="DELETE")

    for waiting, path, before in (
        (single, "kv/dir/a?", index),
        (tree, "kv/dir/?recurse&", listed),
    ):
        answer = await waiting
        assert answer.status_code == 404  # type: ignore[attr-defined]
        assert index_of(answer) > before
        later = await there.client.get(f"/v1/{path}index={before}&wait=60s")
        assert later.status_code == 404
        assert index_of(later) >= index_of(answer)


@served
async def test_a_prefix_wakes_for_what_is_under_it_alone(there: Mounted) -> None:
    await put(there, "p/a")
    index = index_of(await there.ask("/v1/kv/p/?keys"))
    waiting = await blocked(there, "kv/p/?keys", index)

    await put(there, "p")
    await put(there, "q/a")
    await asyncio.sleep(0.02)
    assert not waiting.done()
    await put(there, "p/b")

    assert (await waiting).json() == ["p/a", "p/b"]  # type: ignore[attr-defined]


@served
async def test_who_gives_up_waiting_leaves_nothing_behind(there: Mounted) -> None:
    waits = there.standalone.node.key_waits
    tasks = [await blocked(there, path, 1) for path in ("kv/a", "kv/b?recurse", "session/list")]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

    while waits._by_key or waits._by_prefix or waits._by_topic or waits._lengths:
        await asyncio.sleep(0.002)


@served
async def test_no_wake_up_is_lost_between_an_answer_and_the_next_question(there: Mounted) -> None:
    """Watchers that follow by index alone see the last of many changes."""
    last, keys = 200, ("w/a", "w/b", "v/c")

    async def follow(path: str, is_last: "functools.partial[bool]") -> int:
        index, seen = 0, 0
        while True:
            answer = await there.client.get(f"/v1/kv/{path}index={index}&wait=10s")
            assert index_of(answer) >= index
            index, seen = index_of(answer), seen + 1
            if is_last(answer):
                return seen

    def has_value(value: int, answer: object) -> bool:
        values = [base64.b64decode(entry["Value"]) for entry in answer.json()]  # type: ignore[attr-defined]
        return b"%d" % value in values

    for key in keys:
        await put(there, key, b"0")
    is_last = functools.partial(has_value, last)
    followers = [asyncio.ensure_future(follow(f"{key}?", is_last)) for key in keys]  # type: ignore[arg-type]
    followers += [
        asyncio.ensure_future(follow("w/?recurse&", is_last))
        for _ in range(3)  # type: ignore[arg-type]
    ]
    for value in range(1, last + 1):
        for key in keys:
            await put(there, key, b"%d" % value)

    async with asyncio.timeout(20):
        await asyncio.gather(*followers)
