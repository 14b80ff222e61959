"""A provider of the demo of all doors: it answers with its name, and is registered by one of them.

    python -m waypost.cli.demo.door_provider DOOR ADDRESS SERVICE NAME

HTTP and gRPC share its port: a gRPC client begins with the preface of HTTP/2 (RFC 9113, section
3.4), and what begins so is handed to the gRPC server.  The one with a check of Consul's may be
told on its standard input how it is: ``critical`` or ``passing``.  All end when that does, without
a word to anybody.
"""

import asyncio
import contextlib
import importlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import waypost
from waypost.cli.demo.door_clients import EUREKA_S, WHO, own_stdout

HOST: Final = "127.0.0.1"
TTL_S: Final = 5
"""How long a word of it is good for: its lease, or the TTL of its check."""
REPORT_EVERY_S: Final = 1.0
_PREFACE: Final = b"PRI"

Report = Callable[[str], None]
"""Tells the registry how the provider is."""


def by_native(address: str, service: str, name: str, port: int) -> None:
    """Register by Waypost's own client."""
    stays = contextlib.ExitStack()  # never closed: the process ends without a word
    registry = stays.enter_context(waypost.connect(address, cache_dir=None))
    registry.register(service, id=name, host=HOST, port=port, ttl=float(TTL_S))


def by_consul(address: str, service: str, name: str, port: int) -> Report:
    """Register by py-consul, with a check that it keeps passing itself."""
    library: Any = importlib.import_module("consul")
    host, _, its_port = address.rpartition(":")
    client = library.Consul(host=host, port=int(its_port))
    check, check_id = library.Check.ttl(f"{TTL_S}s"), f"service:{name}"
    client.agent.service.register(service, service_id=name, address=HOST, port=port, check=check)
    lock, said = threading.Lock(), "passing"

    def report(health: str) -> None:
        nonlocal said
        with lock:
            said = health
            words = {
                "passing": client.agent.check.ttl_pass,
                "critical": client.agent.check.ttl_fail,
            }
            words[said](check_id, notes=f"it says that it is {said}")

    def report_on() -> None:
        never = threading.Event()
        while not never.wait(REPORT_EVERY_S):
            report(said)

    report(said)
    threading.Thread(target=report_on, daemon=True).start()
    return report


def by_eureka(address: str, service: str, name: str, port: int) -> None:
    """Register by py-eureka-client, which renews in a thread of its own."""
    library: Any = importlib.import_module("py_eureka_client.eureka_client")
    client = library.EurekaClient(
        eureka_server=f"http://{address}/eureka",
        app_name=service,
        instance_id=name,
        instance_ip=HOST,
        instance_host=HOST,
        instance_port=port,
        renewal_interval_in_secs=EUREKA_S,
        duration_in_secs=TTL_S,
    )
    asyncio.run(client.start())


REGISTER: Final[dict[str, Callable[[str, str, str, int], Report | None]]] = {
    "native": by_native,
    "consul": by_consul,
    "eureka": by_eureka,
}


def main(door: str, address: str, service: str, name: str) -> None:
    """Serve until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who started it
    tell = own_stdout()
    port = _serve(name.encode())
    began = time.monotonic()
    report = REGISTER[door](address, service, name, port)
    tell({"event": "registered", "id": name, "port": port, "began": began})
    for line in sys.stdin:
        assert report is not None, "only a provider with a check can be told how it is"
        report(line.strip())
    os._exit(0)


def _serve(name: bytes) -> int:
    """Answer from now on; returns the port."""
    library: Any = importlib.import_module("grpc")

    def tell_name(_request: bytes, _context: object) -> bytes:
        return name

    who = library.unary_unary_rpc_method_handler(tell_name)
    service, _, method = WHO.strip("/").partition("/")
    server = library.server(ThreadPoolExecutor(2))
    handlers = library.method_handlers_generic_handler(service, {method: who})
    server.add_generic_rpc_handlers((handlers,))
    grpc_port = server.add_insecure_port(f"{HOST}:0")
    server.start()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            begin = await reader.readexactly(len(_PREFACE))
            if begin == _PREFACE:
                to_reader, to_writer = await asyncio.open_connection(HOST, grpc_port)
                to_writer.write(begin)
                await asyncio.gather(_relay(reader, to_writer), _relay(to_reader, writer))
                return
            await reader.readuntil(b"\r\n\r\n")
            head = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
            writer.write(head % len(name) + name)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass  # the caller has hung up
        finally:
            writer.close()

    started = threading.Event()
    port = 0

    async def serve() -> None:
        nonlocal port
        front = await asyncio.start_server(answer, HOST, 0)
        port = front.sockets[0].getsockname()[1]
        started.set()
        try:
            await front.serve_forever()
        finally:
            server.stop(None)

    threading.Thread(target=lambda: asyncio.run(serve()), daemon=True).start()
    started.wait()
    return port


async def _relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
