"""Three nodes of one cluster in this process, with their disks, to be stopped and started again."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

from waypost.node.bootstrap import NodeConfig
from waypost.standalone import Standalone

NAMES = ("a", "b", "c")


class Three:
    """The nodes by name; those that are stopped are not in ``up``."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.addresses = dict(zip(NAMES, _free_addresses(len(NAMES)), strict=True))
        self.up: dict[str, Standalone] = {}

    @property
    def address(self) -> str:
        """All addresses, as a client is given them."""
        return ",".join(self.addresses.values())

    async def start(self, *names: str) -> None:
        """Start these, or all; returns when they take writes."""
        nodes = {name: self._node(name) for name in names or NAMES}
        await asyncio.gather(*(node.start() for node in nodes.values()))
        self.up.update(nodes)
        await self.led()

    async def led(self) -> str:
        """Wait until somebody leads whom all know, and return its name."""
        async with asyncio.timeout(20):
            while True:
                leaders = {node.node.leader for node in self.up.values()}
                if len(leaders) == 1 and (leader := leaders.pop()) in self.up:
                    return leader
                await asyncio.sleep(0.01)

    async def kill(self, *names: str) -> None:
        """Stop these without a word to anybody: no client is told, no other node takes over."""
        for name in names:
            standalone = self.up.pop(name)
            assert standalone.native is not None
            for connection in standalone.native.connections:
                connection.abort()
            await standalone.native.stop()
            standalone.native = None
            await standalone.node.stop()

    async def stop(self, *names: str) -> None:
        """Stop these as a restart does."""
        for name in names or list(self.up):
            await self.up.pop(name).stop()

    def name_of(self, address: object) -> str:
        """Which node is there."""
        return next(name for name, each in self.addresses.items() if each == str(address))

    def _node(self, name: str) -> Standalone:
        address = self.addresses[name]
        config = NodeConfig(
            name=name,
            data_dir=str(self._directory / name),
            address=address,
            line=self.addresses,
        )
        return Standalone(config, native_port=int(address.rpartition(":")[2]), http_port=None)


def with_three(directory: Path, test: Callable[[Three], Awaitable[None]]) -> None:
    """Run a test with three nodes that are up."""

    async def run() -> None:
        three = Three(directory)
        await three.start()
        try:
            async with asyncio.timeout(60):
                await test(three)
        finally:
            await three.kill(*three.up)

    asyncio.run(run())


def _free_addresses(count: int) -> list[str]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    addresses = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    return addresses
