"""A provider: an HTTP service that registers itself, and drains before it stops.

python examples/provider.py 9001
"""

import asyncio
import contextlib
import os
import signal
import sys

import waypost


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer any HTTP request with who we are."""
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        await reader.readuntil(b"\r\n\r\n")
        body = f"hello from process {os.getpid()}\n".encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()
    writer.close()


async def main(port: int) -> None:
    """Listen first, then register; drain first, then stop listening."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    server = await asyncio.start_server(answer, "127.0.0.1", port)
    port = server.sockets[0].getsockname()[1]
    async with (
        server,
        waypost.connect() as registry,
        registry.register("hello", port=port, host="127.0.0.1") as registration,
    ):
        print(f"{registration.instance.id} is registered", flush=True)
        await stop.wait()
        drained = await registration.drain(deadline=10)
        print(f"drained: {drained.watchers} consumers, {drained.unseen} unheard of", flush=True)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 0))
