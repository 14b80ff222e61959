"""The server takes its port, and nothing else that belongs to the program."""

import asyncio
import logging
import signal
import socket
from pathlib import Path

import httpx2
import pytest
from tests.servers.http.world import INSTANCE, World, of, served, world

from waypost.node.registry import Registry
from waypost.servers.http.server import HttpServer
from waypost.wire import Resolve, Resolved


async def alive(host: str, port: int) -> bool:
    host = f"[{host}]" if ":" in host else host
    async with httpx2.AsyncClient() as client:
        return (await client.get(f"http://{host}:{port}/healthz")).status_code == 200


@served
async def test_port_zero_asks_for_any_and_tells_which(there: World) -> None:
    assert there.port > 0
    assert await alive(there.host, there.port)


@served
async def test_a_taken_port_is_an_error_at_once(there: World) -> None:
    # Also when it is taken by a server like this one: it must not be shared in silence.
    with pytest.raises(OSError, match="already in use"):
        await HttpServer(there.registry, there.host, there.port).start()
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(OSError, match="already in use"):
            await HttpServer(there.registry, "127.0.0.1", other.getsockname()[1]).start()

    assert await alive(there.host, there.port)


@served
async def test_an_address_of_another_machine_is_an_error_at_once(there: World) -> None:
    with pytest.raises(OSError, match="assign requested address"):
        await HttpServer(there.registry, "192.0.2.1", 0).start()


@pytest.mark.parametrize("host", ["localhost", "::1"])
@served
async def test_a_host_may_be_a_name_or_of_ipv6(there: World, host: str) -> None:
    server = HttpServer(there.registry, host, 0)
    try:
        bound, port = await server.start()
    except OSError:
        pytest.skip(f"{host} is not available here")
    try:
        assert await alive(bound, port)
    finally:
        await server.stop()


@served
async def test_a_stopped_server_gives_its_port_back(there: World) -> None:
    assert await alive(there.host, there.port)
    await there.server.stop()
    with pytest.raises(httpx2.ConnectError):
        await alive(there.host, there.port)

    again = HttpServer(there.registry, there.host, there.port)
    assert await again.start() == (there.host, there.port)
    assert await alive(there.host, there.port)
    await again.stop()


@served
async def test_stopping_twice_does_nothing(there: World) -> None:
    await there.server.stop()
    await there.server.stop()
    await HttpServer(there.registry, "127.0.0.1", 0).stop()


@served
async def test_a_server_stops_within_a_second_whatever_clients_do(there: World) -> None:
    loop = asyncio.get_running_loop()
    idle = await asyncio.open_connection(there.host, there.port)
    in_head = await asyncio.open_connection(there.host, there.port)
    in_head[1].write(b"GET / HTT")
    in_body = await asyncio.open_connection(there.host, there.port)
    path = of("web") + "/instances/a"
    in_body[1].write(f"PUT {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{{".encode())
    await there.get("/healthz")  # they have arrived

    started = loop.time()
    await there.server.stop()

    assert loop.time() - started < 3
    for _, writer in (idle, in_head, in_body):
        writer.close()


class Slow(Registry):
    asked = False

    async def resolve(self, request: Resolve) -> Resolved:
        self.asked = True
        await asyncio.sleep(0.2)
        return await super().resolve(request)


@served(make=Slow)
async def test_an_answer_that_is_due_goes_out_before_the_server_stops(there: World) -> None:
    await there.put(of("web") + "/instances/a", INSTANCE)
    asking = asyncio.create_task(there.get(of("web") + "?health=any"))
    async with asyncio.timeout(5):
        while not there.registry.asked:  # type: ignore[attr-defined]
            await asyncio.sleep(0.001)

    await there.server.stop()

    assert len((await asking)["instances"]) == 1


def test_signals_and_log_handlers_stay_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "log"
    handler = logging.FileHandler(path)
    logging.getLogger().addHandler(handler)
    signals = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]

    async def main() -> None:
        async with world() as there:
            assert await alive(there.host, there.port)
            now = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
            assert now == signals or signal.getsignal(signal.SIGINT) != signals[0]
            assert now[1:] == signals[1:]
            logging.getLogger("somebody").error("still written")
            logging.getLogger("_granian").error("written too")

    try:
        asyncio.run(main())
        assert handler in logging.getLogger().handlers
        assert path.read_text() == "still written\nwritten too\n"
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    async def main() -> None:
        async with world() as there:
            assert await alive(there.host, there.port)
            await there.get("/nope", 404)

    asyncio.run(main())

    assert capfd.readouterr() == ("", "")
