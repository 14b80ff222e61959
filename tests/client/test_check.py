"""Checks that a provider asks for: what they mean, and a registry that looks."""

import asyncio
import socket
from collections.abc import Iterator

import pytest

import waypost
from waypost.checks import Check as Declared
from waypost.client.check import Check, declared
from waypost.errors import Invalid
from waypost.node.bootstrap import NodeConfig
from waypost.standalone import StandaloneThread


def of(*checks: Check, host: str = "10.0.0.1") -> list[tuple[str, str, str]]:
    return [(each.id, each.kind, each.target) for each in declared(checks, host, 8080)]


def test_what_is_said_relative_to_the_instance_is_at_its_host_and_port() -> None:
    assert of(
        Check(http="/health"),
        Check(http=":9000/health"),
        Check(http="https://example.org/x"),
        Check(tcp=True),
        Check(tcp=":9001", id="admin"),
        Check(grpc=True),
        Check(grpc="/orders"),
        Check(grpc=":9002/orders"),
        Check(grpc="10.0.0.9:1/orders"),
    ) == [
        ("http", "http", "http://10.0.0.1:8080/health"),
        ("http-2", "http", "http://10.0.0.1:9000/health"),
        ("http-3", "http", "https://example.org/x"),
        ("tcp", "tcp", "10.0.0.1:8080"),
        ("admin", "tcp", "10.0.0.1:9001"),
        ("grpc", "grpc", "10.0.0.1:8080"),
        ("grpc-2", "grpc", "10.0.0.1:8080/orders"),
        ("grpc-3", "grpc", "10.0.0.1:9002/orders"),
        ("grpc-4", "grpc", "10.0.0.9:1/orders"),
    ]
    assert of(Check(http="/", tls=True), host="::1") == [("http", "http", "https://[::1]:8080/")]


def test_seconds_and_all_other_fields_reach_the_registry() -> None:
    given = Check(
        http="/health",
        interval=2.5,
        timeout=0.5,
        method="HEAD",
        headers={"x-token": "t"},
        body="b",
        tls_skip_verify=True,
        up_after=1,
        down_after=3,
        deregister_after=60,
        id="page",
    )
    assert declared([given], "10.0.0.1", 80) == (
        Declared(
            "page",
            kind="http",
            target="http://10.0.0.1:80/health",
            interval_ms=2_500,
            timeout_ms=500,
            method="HEAD",
            headers={"x-token": "t"},
            body="b",
            tls_skip_verify=True,
            up_after=1,
            down_after=3,
            deregister_after_ms=60_000,
        ),
    )
    assert declared([Check(tcp=True, tls=True)], "h", 1)[0].tls


@pytest.mark.parametrize(
    ("checks", "field"),
    [
        ([Check()], "check"),
        ([Check(http="/", tcp=True)], "check"),
        ([Check(http="health")], "check.target"),
        ([Check(tcp=True, interval=0.2)], "check.interval"),
        ([Check(tcp=True, id="a"), Check(http="/", id="a")], "check.id"),
    ],
)
def test_what_is_out_of_bounds_is_refused_before_anything_is_asked(
    checks: list[Check], field: str
) -> None:
    async def run() -> None:
        async with waypost.connect("127.0.0.1:1", cache_dir=None) as registry:
            with pytest.raises(Invalid) as refused:
                registry.register("orders", port=8080, checks=checks)
            assert refused.value.field == field

    asyncio.run(run())


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    thread = StandaloneThread(NodeConfig(), native_port=0, http_port=None).start()
    yield thread.standalone.native_address
    thread.stop()


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def test_an_instance_passes_once_its_check_does_and_not_before(address: str) -> None:
    async def run() -> None:
        server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with waypost.connect(address, cache_dir=None) as registry, server:
            watch = registry.watch("c1")
            async with registry.register("c1", port=port, checks=[Check(tcp=True, interval=1)]):
                told: list[tuple[str, str]] = []
                async for change in watch:
                    told.append((change.kind, change.record.health))
                    if change.record.health == "passing":
                        break
                assert told in (
                    [("up", "critical"), ("changed", "passing")],
                    [("up", "passing")],  # found before the watch stood
                )
            assert (await registry.resolve("c1", health="any")).instances == ()

    asyncio.run(run())


def test_another_list_replaces_the_checks_and_an_empty_one_drops_them(address: str) -> None:
    with waypost.connect(address, cache_dir=None) as registry:
        dead = Check(tcp=True)
        with registry.register("c2", port=closed_port(), host="127.0.0.1", checks=[dead]) as mine:
            (record,) = registry.resolve("c2", health="any").records
            assert (record.health, record.why) == ("critical", "check 'tcp' is critical")
            mine.update(weight=3)
            assert registry.resolve("c2").instances == ()
            mine.update(checks=[Check(tcp=True, id="port")])
            (record,) = registry.resolve("c2", health="any").records
            assert record.why == "check 'port' is critical"

            mine.update(checks=[])

            (record,) = registry.resolve("c2").records
            assert (record.health, record.instance.weight) == ("passing", 3)


def test_the_plain_classes_ask_for_checks_too(address: str) -> None:
    with waypost.ServiceRegistry(address) as registry:
        url = f"http://127.0.0.1:{closed_port()}"
        with waypost.ServiceProvider("c3", url, registry, checks=[Check(http="/health")]):
            assert registry.get_services("c3") == []
