"""What answers when no registry does."""

import asyncio
import logging
import os
import time
from pathlib import Path

import pytest
from tests.client.records import record
from tests.client.scripted import Peer, scripted

from waypost import wire
from waypost.client import lastknown
from waypost.client.connect import connect
from waypost.client.lastknown import Known, LastKnown, directory_default
from waypost.errors import Unavailable


def written(directory: Path, *services: str, registry: str = "r:1") -> None:
    async def run() -> None:
        last_known = LastKnown(directory, registry)
        for service in services:
            known = last_known.known(service, "c1", 1000, [record("o1", service=service)])
            last_known.remember(known)
        await last_known.close()

    asyncio.run(run())


def test_what_one_process_knew_another_one_recalls(tmp_path: Path) -> None:
    written(tmp_path / "made", "orders")

    recalled = LastKnown(tmp_path / "made", "r:1").recall("orders")

    assert recalled is not None
    known, source = recalled
    assert source == "disk"
    assert (known.cluster, known.as_of_ms) == ("c1", 1000)
    assert known.records == [record("o1")]
    assert (tmp_path / "made").stat().st_mode & 0o777 == 0o700


def test_registries_and_services_are_told_apart(tmp_path: Path) -> None:
    written(tmp_path, "orders")

    assert LastKnown(tmp_path, "other:1").recall("orders") is None
    assert LastKnown(tmp_path, "r:1").recall("web") is None


def test_without_a_directory_it_remembers_and_writes_nothing(tmp_path: Path) -> None:
    async def run() -> None:
        last_known = LastKnown(None, "r:1")
        last_known.remember(last_known.known("orders", "c1", 1000, []))
        recalled = last_known.recall("orders")
        assert recalled is not None
        assert recalled[1] == "cache"
        await last_known.close()

    asyncio.run(run())


@pytest.mark.parametrize("content", [b"", b"\xc1", b"\x95\x01", b"garbage" * 100])
def test_a_damaged_file_is_reported_and_not_used(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    written(tmp_path, "orders")
    (file,) = tmp_path.iterdir()
    file.write_bytes(content)

    with caplog.at_level(logging.WARNING, "waypost"):
        assert LastKnown(tmp_path, "r:1").recall("orders") is None

    assert str(file) in caplog.text


def test_a_directory_that_cannot_be_written_is_reported_once_and_fails_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_bytes(b"")

    with caplog.at_level(logging.WARNING, "waypost"):
        written(in_the_way, "orders", "web")

    assert len(caplog.records) == 1
    assert str(in_the_way) in caplog.text


def test_no_more_files_are_kept_than_there_may_be_and_the_oldest_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lastknown, "FILES_MAX", 3)
    for age, service in enumerate("abcd"):
        written(tmp_path, service)
        for file in tmp_path.iterdir():
            stat = file.stat()
            os.utime(file, (stat.st_atime, stat.st_mtime - 10 + age))
    written(tmp_path, "e")

    last_known = LastKnown(tmp_path, "r:1")

    assert len(list(tmp_path.iterdir())) == 3
    assert last_known.recall("e") is not None
    assert last_known.recall("a") is None


def test_a_service_that_is_too_large_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    written(tmp_path, "orders")
    monkeypatch.setattr(lastknown, "FILE_BYTES_MAX", 20)

    with caplog.at_level(logging.WARNING, "waypost"):
        written(tmp_path, "orders")

    assert list(tmp_path.iterdir()) == []
    assert "at most 20" in caplog.text


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lastknown, "REMEMBERED_MAX", 2)
    last_known = LastKnown(None, "r:1")
    for service in "abc":
        last_known.remember(last_known.known(service, "c1", 1, []))

    assert [last_known.recall(service) is None for service in "abc"] == [True, False, False]


def test_many_changes_within_a_second_are_one_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lastknown, "WRITE_AFTER_S", 0.05)

    async def run() -> None:
        made: list[Known] = []
        last_known = LastKnown(tmp_path, "r:1")

        def make() -> Known:
            made.append(last_known.known("orders", "c1", len(made), []))
            return made[-1]

        for _ in range(100):
            last_known.write_later("orders", make)
        while not list(tmp_path.glob("*.msgpack")):
            await asyncio.sleep(0.005)
        assert len(made) == 1
        await last_known.close()
        assert len(made) == 1

    asyncio.run(run())


def test_the_cache_is_where_caches_belong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/cache/me")
    assert directory_default() == Path("/var/cache/me/waypost")
    for no_path in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", no_path)
        assert directory_default() == Path.home() / ".cache" / "waypost"


def taught(directory: Path) -> str:
    """Let a client learn one service from a registry that is gone afterwards."""

    async def run() -> str:
        async with scripted() as node:

            def snapshot(peer: Peer, watch_id: int, body: bytes) -> None:
                peer.send(wire.SNAPSHOT, watch_id, wire.Snapshot(4, [record("o1", port=9001)]))

            node.answers[wire.WATCH] = snapshot
            async with connect(str(node.address), cache_dir=directory) as registry:
                await registry.service("orders").ready()
            return str(node.address)

    return asyncio.run(run())


def test_a_consumer_that_starts_while_the_registry_is_away_uses_what_is_on_disk(
    tmp_path: Path,
) -> None:
    before = time.time()
    address = taught(tmp_path)

    async def run() -> None:
        async with connect(address, cache_dir=tmp_path) as registry:
            orders = registry.service("orders")
            async with orders.call() as instance:
                assert instance.port == 9001
            assert orders.source == "disk"
            assert before - 1 <= orders.as_of <= time.time()
            assert 0 <= orders.age < 60
            answer = await registry.resolve("orders")
            assert (answer.source, [i.port for i in answer.instances]) == ("disk", [9001])
            assert 0 <= answer.age < 60
            watch = registry.watch("orders")
            assert (await anext(watch)).record.instance.port == 9001
            assert watch.source == "disk"

    asyncio.run(run())


def test_nothing_is_made_up_for_what_was_never_known(tmp_path: Path) -> None:
    address = taught(tmp_path)

    async def run() -> None:
        async with connect(address, cache_dir=tmp_path) as registry:
            with pytest.raises(Unavailable):
                await registry.resolve("web")
            with pytest.raises(Unavailable):
                await registry.service("web").ready()
            with pytest.raises(Unavailable):
                await registry.resolve("orders", max_stale=3600)
            with pytest.raises(Unavailable):
                await registry.resolve("orders", consistency="linearizable")

    asyncio.run(run())


def test_the_registry_replaces_what_was_on_disk_as_soon_as_it_answers(tmp_path: Path) -> None:
    address = taught(tmp_path)
    host, _, port = address.rpartition(":")

    async def run() -> None:
        async with connect(address, cache_dir=tmp_path) as registry:
            watch = registry.watch("orders")
            assert (await anext(watch)).record.instance.port == 9001
            async with scripted() as node:
                node.cluster = "c1"

                def snapshot(peer: Peer, watch_id: int, body: bytes) -> None:
                    assert wire.decode_watch(body).since == 0
                    newer = record("o1", port=9002, revision=5)
                    peer.send(wire.SNAPSHOT, watch_id, wire.Snapshot(5, [newer]))

                node.answers[wire.WATCH] = snapshot
                server = await asyncio.start_server(node.serve, host, int(port))
                async with server:
                    change = await anext(watch)
                    assert (change.kind, change.record.instance.port) == ("changed", 9002)
                    assert watch.source == "follower"
                    await registry.close()

    asyncio.run(run())


def test_a_resolve_is_remembered_too_for_when_the_registry_is_lost(tmp_path: Path) -> None:
    async def run() -> None:
        async with scripted() as node:

            def resolved(peer: Peer, frame_id: int, body: bytes) -> None:
                answer = wire.Resolved(4, 0, "leader", True, [record("o1", port=9001)])
                peer.send(wire.RESOLVED, frame_id, answer)

            node.answers[wire.RESOLVE] = resolved
            async with connect(str(node.address), cache_dir=None) as registry:
                assert (await registry.resolve("orders")).source == "leader"
                node.answers.pop(wire.HELLO)
                node.peer.close()
                while registry._link.connection is not None:
                    await asyncio.sleep(0)

                answer = await registry.resolve("orders")

                assert (answer.source, [i.port for i in answer.instances]) == ("cache", [9001])

    asyncio.run(run())
