"""Takes a lock again and again, by py-consul; prints from when to when it had it.

py_locker.py NAME HOST:PORT...       asks another node when one does not answer
"""

import json
import sys
import time

import consul

NAME, *NODES = sys.argv[1:]


def ask(do):
    """Do it at a node that answers; None if it is not known what became of it."""
    host, _, port = NODES[0].rpartition(":")
    try:
        return do(consul.Consul(host=host, port=int(port)))
    except Exception as error:
        print(repr(error), file=sys.stderr, flush=True)
        NODES.append(NODES.pop(0))
        time.sleep(0.05)
        return None


def until(do):
    while (answer := ask(do)) is None:
        pass
    return answer


def is_mine(session):
    _, entry = until(lambda c: c.kv.get("locks/one", consistency="consistent"))
    return entry is not None and entry.get("Session") == session


def main():
    session = until(lambda c: c.session.create(NAME, ttl=20, lock_delay=0))
    renewed = time.monotonic()
    while True:
        if time.monotonic() - renewed > 3:
            until(lambda c: c.session.renew(session))
            renewed = time.monotonic()
        came = ask(lambda c: c.kv.put("locks/one", NAME, acquire=session))
        if came is None:
            came = is_mine(session)
        if not came:
            time.sleep(0.02)
            continue
        since = time.monotonic_ns()
        time.sleep(0.02)
        until_ns = time.monotonic_ns()
        print(json.dumps([since, until_ns]), flush=True)
        while ask(lambda c: c.kv.put("locks/one", "", release=session)) is None:
            if not is_mine(session):
                break
        time.sleep(0.03)


main()
