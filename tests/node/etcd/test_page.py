"""docs/etcd.md: its options exist, and its keys are the ones that are in etcd."""

import re
from pathlib import Path

from click.testing import CliRunner
from tests.node.etcd.world import Member, member, run, until

from waypost.cli.serve import serve
from waypost.node.etcd import rpc
from waypost.node.etcd.settings import EtcdSettings

PAGE = (Path(__file__).parents[3] / "docs" / "etcd.md").read_text()


def test_every_option_of_the_page_exists() -> None:
    offered = CliRunner().invoke(serve, ["--help"]).output

    for option in set(re.findall(r"--[a-z][a-z-]+", PAGE)) - {"--auto-compaction-retention"}:
        assert option in offered, option


def test_every_key_in_etcd_is_on_the_page(settings: EtcdSettings) -> None:
    async def keys_of(a: Member) -> set[str]:
        prefix = a.engine.log.keys.prefix.encode()
        found = await a.engine.log.client.range(
            rpc.range_request(prefix + b"/", prefix + b"0", keys_only=True)
        )
        return {kv.key.decode().removeprefix(prefix.decode() + "/") for kv in found.kvs}

    async def story() -> None:
        async with member(settings) as a:
            await until(lambda: a.engine.members.guard is not None)
            await a.register(1)
            before = await keys_of(a)
            await a.engine.snapshot()
            await a.register(2)

            for key in before | await keys_of(a):
                assert f"`{_pattern(key)}`" in PAGE, key

    run(story)


def _pattern(key: str) -> str:
    key = re.sub(r"/\d{6}$", "/<n>", key)
    key = re.sub(r"/[0-9A-Z]{26}", "/<ulid>", key)
    return re.sub(r"^(owner|alive)/.*", r"\1/<node>", key)
