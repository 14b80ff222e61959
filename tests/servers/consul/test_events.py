"""``/v1/event``: what was fired is listed, in order, and wakes who waits for it."""

import uuid

from tests.servers.mounted import Mounted, served


async def fire(there: Mounted, name: str, payload: bytes = b"") -> int:
    await there.ask(f"/v1/event/fire/{name}", method="PUT", content=payload)
    return there.registry.revision


@served
async def test_an_event_has_the_fields_of_consul(there: Mounted) -> None:
    fired = await there.ask(
        "/v1/event/fire/deploy?node=n&service=web&tag=v1", method="PUT", content=b"1609030"
    )

    shown = fired.json()
    assert str(uuid.UUID(shown["ID"])) == shown["ID"]
    assert shown == {
        "ID": shown["ID"],
        "Name": "deploy",
        "Payload": "MTYwOTAzMA==",
        "NodeFilter": "n",
        "ServiceFilter": "web",
        "TagFilter": "v1",
        "Version": 1,
        "LTime": 0,
    }
    assert (await there.ask("/v1/event/list")).json() == [{**shown, "LTime": 1}]


@served
async def test_the_list_is_of_all_or_of_one_name(there: Mounted) -> None:
    empty = await there.ask("/v1/event/list")
    assert empty.json() == []
    assert int(empty.headers["x-consul-index"]) == 1
    for name in ("a", "b", "a"):
        await fire(there, name)

    every = (await there.ask("/v1/event/list")).json()
    assert [(each["Name"], each["LTime"], each["Payload"]) for each in every] == [
        ("a", 1, None),
        ("b", 2, None),
        ("a", 3, None),
    ]
    assert [each["LTime"] for each in (await there.ask("/v1/event/list?name=a")).json()] == [1, 3]


@served
async def test_a_wait_ends_with_the_next_event_of_that_name(there: Mounted) -> None:
    await fire(there, "a")
    index = int((await there.ask("/v1/event/list?name=a")).headers["x-consul-index"])
    await fire(there, "b")

    unchanged = await there.ask(f"/v1/event/list?name=a&index={index}&wait=20ms")
    assert int(unchanged.headers["x-consul-index"]) == index
    await fire(there, "a")
    answer = await there.ask(f"/v1/event/list?name=a&index={index}&wait=60s")
    assert len(answer.json()) == 2
    assert int(answer.headers["x-consul-index"]) > index


@served
async def test_an_event_is_small_and_has_a_name(there: Mounted) -> None:
    assert (await there.ask("/v1/event/fire/", 400, method="PUT")).text == "Missing name"
    too_large = await there.ask("/v1/event/fire/a", 400, method="PUT", content=bytes(513))
    assert "at most 512" in too_large.text
