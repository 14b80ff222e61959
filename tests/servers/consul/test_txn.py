"""``/v1/txn`` as Consul 1.16 answers."""

import base64
from typing import Any

from tests.servers.mounted import Mounted, served


def step(verb: str, key: str, value: bytes | None = None, **fields: object) -> dict[str, Any]:
    encoded = None if value is None else base64.b64encode(value).decode()
    return {"KV": {"Verb": verb, "Key": key, "Value": encoded, **fields}}


async def transact(there: Mounted, *steps: dict[str, Any], status: int = 200) -> Any:
    answer = await there.ask("/v1/txn", status, method="PUT", json=list(steps))
    assert answer.headers["content-type"] == "application/json"
    return answer.json()


@served
async def test_what_is_set_is_told_without_its_value_and_what_is_read_with_it(
    there: Mounted,
) -> None:
    done = await transact(there, step("set", "a", b"1", Flags=2**64 - 1), step("get", "a"))

    assert done["Errors"] is None
    written, read = (each["KV"] for each in done["Results"])
    index = there.registry.revision
    assert written == {
        "LockIndex": 0,
        "Key": "a",
        "Flags": 2**64 - 1,
        "Value": None,
        "CreateIndex": index,
        "ModifyIndex": index,
    }
    assert read == {**written, "Value": base64.b64encode(b"1").decode()}


@served
async def test_one_that_fails_changes_nothing_and_names_what_failed(there: Mounted) -> None:
    await transact(there, step("set", "a", b"1"))
    index = there.registry.revision

    failed = await transact(
        there,
        step("set", "new", b"x"),
        step("cas", "a", b"2", Index=index + 9),
        step("get", "none"),
        step("check-not-exists", "a"),
        step("check-index", "a", Index=index + 9),
        step("check-index", "none", Index=1),
        step("check-session", "a", Session="s"),
        step("check-session", "none", Session="s"),
        step("delete-cas", "a", Index=index + 9),
        step("lock", "a", b"", Session="nobody"),
        step("unlock", "a", b"", Session="nobody"),
        status=409,
    )

    assert failed["Results"] is None
    assert failed["Errors"] == [
        {"OpIndex": 1, "What": 'failed to set key "a", index is stale'},
        {"OpIndex": 2, "What": 'key "none" doesn\'t exist'},
        {"OpIndex": 3, "What": 'key "a" exists'},
        {
            "OpIndex": 4,
            "What": f'failed index check for key "a", current modify index {index} != {index + 9}',
        },
        {"OpIndex": 5, "What": 'failed to check index, key "none" doesn\'t exist'},
        {
            "OpIndex": 6,
            "What": 'failed session check for key "a", current session "" != "s"',
        },
        {"OpIndex": 7, "What": 'failed to check session, key "none" doesn\'t exist'},
        {"OpIndex": 8, "What": 'failed to delete key "a", index is stale'},
        {"OpIndex": 9, "What": 'invalid session "nobody"'},
        {
            "OpIndex": 10,
            "What": 'failed to unlock key "a", lock isn\'t held, or is held by another session',
        },
    ]
    assert (await there.ask("/v1/kv/?keys")).json() == ["a"]


@served
async def test_every_verb_does_what_it_says(there: Mounted) -> None:
    session = (await there.ask("/v1/session/create", method="PUT")).json()["ID"]
    await transact(
        there,
        *[step("set", key, b"v") for key in ("t/1", "t/2", "d", "e", "c", "tree/1", "tree/2")],
    )
    index = there.registry.revision

    done = await transact(
        there,
        step("check-index", "c", Index=index),
        step("check-not-exists", "none"),
        step("cas", "c", b"w", Index=index),
        step("cas", "fresh", b"f", Index=0),
        step("lock", "lock", b"l", Session=session),
        step("check-session", "lock", Session=session),
        step("unlock", "lock", b"u", Session=session),
        step("delete", "d"),
        step("delete-cas", "e", Index=index),
        step("delete-tree", "tree/"),
        step("get-tree", "t/"),
        step("get-or-empty", "none"),
    )

    assert [(each["KV"]["Key"], each["KV"]["Value"]) for each in done["Results"]] == [
        ("c", None),
        ("c", None),
        ("fresh", None),
        ("lock", None),
        ("lock", None),
        ("lock", None),
        ("t/1", "dg=="),
        ("t/2", "dg=="),
        ("none", None),
    ]
    assert done["Results"][3]["KV"]["Session"] == session
    assert "Session" not in done["Results"][5]["KV"]
    assert (await there.ask("/v1/kv/?keys")).json() == ["c", "fresh", "lock", "t/1", "t/2"]


@served
async def test_one_that_only_reads_writes_nothing_and_says_how_fresh_it_is(there: Mounted) -> None:
    await transact(there, step("set", "a", b"1"))
    revision = there.registry.revision

    answer = await there.ask("/v1/txn?consistent", method="PUT", json=[step("get", "a")])

    assert answer.json()["Results"][0]["KV"]["Value"] == "MQ=="
    assert answer.headers["x-consul-knownleader"] == "true"
    assert there.registry.revision == revision
    failed = await transact(there, step("get", "none"), status=409)
    assert failed["Errors"] == [{"OpIndex": 0, "What": 'key "none" doesn\'t exist'}]


@served
async def test_what_it_does_wakes_who_waits(there: Mounted) -> None:
    await transact(there, step("set", "a", b"1"))
    index = there.registry.revision

    await transact(there, step("set", "b", b"1"), step("delete", "a"))

    answer = await there.ask(f"/v1/kv/a?index={index}&wait=60s", 404)
    assert int(answer.headers["x-consul-index"]) > index


@served
async def test_a_key_that_is_held_back_cannot_be_locked(there: Mounted) -> None:
    one = (await there.ask("/v1/session/create", method="PUT")).json()["ID"]
    two = (await there.ask("/v1/session/create", method="PUT")).json()["ID"]
    await transact(there, step("lock", "k", b"", Session=one))
    held = await transact(there, step("lock", "k", b"", Session=two), status=409)
    assert held["Errors"][0]["What"] == 'failed to lock key "k", lock is already held'

    await there.ask(f"/v1/session/destroy/{one}", method="PUT")

    failed = await transact(there, step("lock", "k", b"", Session=two), status=409)
    assert failed["Errors"][0]["What"] == 'failed to lock key "k" due to lock delay'


@served
async def test_what_cannot_be_is_refused_whole(there: Mounted) -> None:
    async def refused(steps: object, status: int) -> str:
        return (await there.ask("/v1/txn", status, method="PUT", json=steps)).text

    many = [step("set", f"k{number}", b"") for number in range(129)]
    assert "(129 > 128)" in await refused(many, 413)
    assert "too large" in await refused([step("set", "k", bytes(512 * 1024 + 1))], 413)
    assert "decode value" in await refused([{"KV": {"Verb": "set", "Key": "k", "Value": "*"}}], 400)
    assert "Failed to parse body" in await refused({"KV": {}}, 400)
    for wrong, what in (
        (step("set", "", b""), "Must provide key"),
        (step("steal", "k"), 'unknown KV verb "steal"'),
        (step("lock", "k", b""), "missing session"),
        (step("set", "k", b"", Flags=2**64), "Index and Flags must be unsigned numbers of 64 bits"),
        (step("cas", "k", b"", Index=-1), "Index and Flags must be unsigned numbers of 64 bits"),
    ):
        failed = await transact(there, step("set", "k", b""), wrong, status=409)
        assert failed["Errors"] == [{"OpIndex": 1, "What": what}]
    assert (await there.ask("/v1/kv/?keys")).json() == []
