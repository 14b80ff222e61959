"""What an older version left on disk is opened, goes on, and stays what it was."""

import asyncio
import shutil
from pathlib import Path

from waypost.model import Instance
from waypost.node.bootstrap import NodeConfig, open_node
from waypost.node.registry import Registry
from waypost.wire import Resolve

VERSION_1 = Path(__file__).parents[1] / "storage" / "samples" / "version-1"


def test_a_directory_of_version_1_keeps_its_registrations_and_takes_more(tmp_path: Path) -> None:
    shutil.copytree(VERSION_1, tmp_path / "data")

    async def visit(revision: int, billing: list[str]) -> None:
        failures: list[BaseException] = []
        config = NodeConfig(name="old", data_dir=str(tmp_path / "data"))
        node = await open_node(config, on_fatal=failures.append)
        registry = Registry(node)
        assert node.revision == revision
        orders = await registry.resolve(Resolve("orders"))
        assert {r.instance.id: r.instance.version for r in orders.records} == {
            "o-0": "1",
            "o-1": "2",
            "o-2": "1",
            "o-3": "1",
        }
        found = await registry.resolve(Resolve("billing"))
        assert sorted(r.instance.id for r in found.records) == billing
        await registry.register(Instance("billing", "b-9", "10.0.0.2", 9009), ttl_ms=0)
        await node.stop()
        assert failures == []

    asyncio.run(visit(7, ["b-1", "b-2"]))
    asyncio.run(visit(8, ["b-1", "b-2", "b-9"]))
