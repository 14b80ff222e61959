"""What becomes of the log when etcd is killed, stopped, cut off or swapped."""

import asyncio
import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.node.etcd.logs import writer
from tests.node.etcd.servers import EtcdServer, three
from tests.node.etcd.world import run, until

from waypost.errors import CorruptData, TimedOut, Unavailable
from waypost.node.etcd.client import EtcdClient
from waypost.node.etcd.opening import find_epoch
from waypost.node.etcd.settings import EtcdSettings


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EtcdServer]:
    it = EtcdServer(tmp_path).start()
    yield it
    it.stop()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[list[EtcdServer]]:
    with contextlib.ExitStack() as ends:
        members = three(tmp_path)
        for each in members:
            ends.callback(each.stop)
        yield members


def _settings(*servers: EtcdServer) -> EtcdSettings:
    return EtcdSettings(endpoints=tuple(each.endpoint for each in servers), prefix="/test")


def test_a_killed_etcd_that_comes_back_has_every_acknowledged_entry_once(
    server: EtcdServer,
) -> None:
    async def story() -> None:
        async with writer(_settings(server)) as a:
            for n in range(1, 101):
                a.log.append(b"%d" % n, n)
                if n == 50:
                    await a.heard.count(20)
                    server.kill()
                    await asyncio.to_thread(server.start)
            await a.heard.until(lambda: len(a.heard.tokens) + len(a.heard.refusals) == 100)
            live = list(a.heard.payloads)

            assert not set(a.heard.tokens) & set(a.heard.refusals)
            assert all(isinstance(e, TimedOut) for e in a.heard.refusals.values())
            assert len(set(live)) == len(live), "no entry twice"
        async with writer(_settings(server)) as again:
            assert again.heard.payloads == live
            assert {b"%d" % n for n in a.heard.tokens} <= set(again.heard.payloads)

    run(story)


def test_without_a_majority_writes_and_linearizable_reads_fail_and_say_so(
    cluster: list[EtcdServer],
) -> None:
    async def story() -> None:
        async with writer(_settings(*cluster)) as a:
            await a.append(b"1", 1)
            cluster[1].kill()
            cluster[2].kill()
            a.log.append(b"2", 2)
            a.log.barrier(3)
            await a.heard.until(lambda: {2, 3} <= set(a.heard.refusals))

            assert isinstance(a.heard.refusals[2], TimedOut)
            assert "may still be applied" in str(a.heard.refusals[2])
            assert type(a.heard.refusals[3]) is Unavailable
            assert "majority" in str(a.heard.refusals[3])
            assert not a.log.is_writable
            assert a.heard.payloads == [b"1"], "what is known is still known"
            assert a.heard.end is None

            cluster[1].start(wait=False)
            await asyncio.to_thread(cluster[1].wait)
            await a.append(b"4", 4)
            assert a.heard.tokens == [1, 4]
            await until(lambda: a.log.is_writable)  # the watch may tell it before the answer does
            assert a.heard.payloads in ([b"1", b"4"], [b"1", b"2", b"4"])

    run(story)


def test_a_member_that_stands_still_is_left_for_another(cluster: list[EtcdServer]) -> None:
    async def story() -> None:
        async with writer(_settings(*cluster)) as a:
            await a.append(b"1", 1)
            cluster[0].stand_still()
            try:
                for n in range(2, 10):
                    await a.append(b"%d" % n, n)
                a.log.barrier(99)
                await a.heard.until(lambda: 99 in a.heard.passed)
                assert a.heard.tokens == list(range(1, 10))
                assert a.heard.payloads == [b"%d" % n for n in range(1, 10)]
            finally:
                cluster[0].go_on()

    run(story)


def test_an_etcd_that_was_swapped_is_refused(server: EtcdServer, tmp_path: Path) -> None:
    async def story() -> None:
        settings = _settings(server)
        async with writer(settings) as a:
            await a.append(b"1", 1)
            server.kill()
            shutil.rmtree(server.directory)
            server.cluster = server.cluster.replace("m0", "m9")
            server.name = "m9"  # another cluster, with an id of its own, at the same address
            server.options = ("--initial-cluster-token=another",)
            await asyncio.to_thread(server.start)
            a.log.barrier(2)
            await a.heard.until(lambda: a.heard.end)

            assert isinstance(a.heard.end, CorruptData)
            assert "swapped" in str(a.heard.end)

    run(story)


def test_a_restored_etcd_is_refused_until_the_loss_is_accepted(
    server: EtcdServer, tmp_path: Path
) -> None:
    async def story() -> None:
        settings = _settings(server)
        async with writer(settings) as a:
            await a.append(b"1", 1)
            backup = tmp_path / "backup"
            server.ctl("snapshot", "save", str(backup))
            await a.append(b"2", 2)
        server.kill()
        shutil.rmtree(server.directory)
        server.ctl(
            "snapshot",
            "restore",
            str(backup),
            f"--data-dir={server.directory}",
            f"--name={server.name}",
            f"--initial-cluster={server.cluster}",
            f"--initial-advertise-peer-urls={server.peer}",
            "--initial-cluster-token=restored",
        )
        await asyncio.to_thread(server.start)

        with pytest.raises(CorruptData, match="accept-data-loss"):
            async with writer(settings):
                pass
        client = EtcdClient(settings)
        await find_epoch(client, settings.prefix, "a", accept_restored=True)
        client.close()
        async with writer(settings) as a:
            assert a.heard.payloads == [b"1"]

    run(story)


def test_the_prefix_of_something_else_is_refused(server: EtcdServer) -> None:
    async def story() -> None:
        server.ctl("put", "/test/current", "some other program's")

        with pytest.raises(CorruptData, match="choose another prefix"):
            async with writer(_settings(server)):
                pass

    run(story)


def test_an_etcd_that_is_not_there_is_told_by_its_address(server: EtcdServer) -> None:
    server.kill()

    async def story() -> None:
        with pytest.raises(TimedOut, match=server.endpoint):
            async with writer(_settings(server)):
                pass

    run(story)
