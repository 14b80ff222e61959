import asyncio

import pytest
from tests.servers.http.world import World, served, until

from waypost.catalog.snapshots import digest, load
from waypost.commands import Command, Register
from waypost.model import Instance
from waypost.servers.http.backup import STREAMS_MAX
from waypost.storage.looking import LookingDisk
from waypost.storage.snapshots import chunks_of, examine

PATH = "/api/v1/snapshot"


async def fill(world: World, count: int) -> None:
    """Records that take about 600 bytes each."""
    for start in range(0, count, 500):
        some: list[Command] = [
            Register(Instance("web", f"w{n}", "10.0.0.1", 80, meta={"k": "x" * 500}))
            for n in range(start, min(start + 500, count))
        ]
        await world.registry.write(some)


@served
async def test_it_holds_the_state_of_the_moment_at_which_it_was_asked_for(
    world: World, tmp_path: object
) -> None:
    await fill(world, 2_000)
    before = digest(world.node.catalog)
    async with world.client.stream("GET", PATH) as answer:
        await fill(world, 3_000)  # while it is under way
        content = b"".join([piece async for piece in answer.aiter_bytes()])

    assert digest(world.node.catalog) != before
    file = f"{tmp_path}/a.snap"
    with open(file, "wb") as out:
        out.write(content)
    disk = LookingDisk(str(tmp_path))
    assert examine(disk, "a.snap").snap.index == int(answer.headers["waypost-revision"])
    assert digest(load(chunks_of(disk, "a.snap"))) == before


@served
async def test_only_so_many_are_read_at_once_and_one_whose_reader_left_ends(world: World) -> None:
    await fill(world, 20_000)  # more than the sockets between hold
    readers = [asyncio.open_connection(world.host, world.port) for _ in range(STREAMS_MAX)]
    writers = [writer for _, writer in await asyncio.gather(*readers)]
    for writer in writers:
        writer.write(b"GET %b HTTP/1.1\r\nhost: x\r\n\r\n" % PATH.encode())

    async def is_refused() -> bool:
        return (await world.client.get(PATH, headers={"connection": "close"})).status_code == 503

    async with asyncio.timeout(10):
        while not await is_refused():
            await asyncio.sleep(0.01)
    for writer in writers:
        writer.close()

    async with asyncio.timeout(10):
        while await is_refused():
            await asyncio.sleep(0.01)
    await until(lambda: not world.node.catalog._captures)


@pytest.mark.parametrize("consistency", ["default", "linearizable"])
@served
async def test_both_consistencies_are_known(world: World, consistency: str) -> None:
    answer = await world.ask("GET", f"{PATH}?consistency={consistency}", 200)

    assert answer.headers["content-type"] == "application/vnd.waypost.snapshot"


@served
async def test_any_other_is_refused(world: World) -> None:
    await world.get(f"{PATH}?consistency=sometimes", 400)
