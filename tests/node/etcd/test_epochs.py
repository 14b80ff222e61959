"""An epoch in etcd between others: it goes on where one ended, and another one goes on after it."""

import asyncio

import pytest
from tests.node.etcd.logs import Heard
from tests.node.etcd.world import run

from waypost.consensus.core import KIND_BATCH, KIND_SEAL
from waypost.consensus.entry import Ballot
from waypost.consensus.epoch import Epoch, Peer, Proposed, after, decode_proposed, encode_proposed
from waypost.errors import CorruptData, Invalid, Unavailable
from waypost.node.etcd import rpc
from waypost.node.etcd.client import EtcdClient
from waypost.node.etcd.layout import ballot_in
from waypost.node.etcd.log import EtcdLog
from waypost.node.etcd.opening import clear, find_epoch, open_epoch
from waypost.node.etcd.settings import EtcdSettings

MEMBERS = {7: Peer("a", "127.0.0.1:1"), 8: Peer("b", "127.0.0.1:2")}
EPOCH = Epoch(0xABC, 4, "etcd", MEMBERS, 1_001, 7, Ballot(3, 2, 7), MEMBERS)
STATE = [b"all that there is at index 1000", bytes(1_500_000)]
CLUSTER = "00000000000000ab"


async def _log(client: EtcdClient, root: str, epoch: Epoch, name: str) -> tuple[EtcdLog, Heard]:
    keys, found = await open_epoch(client, root, CLUSTER, epoch, name, lambda: STATE, is_own=True)
    assert b"".join(found.chunks) == b"".join(STATE)
    heard = Heard()
    log = EtcdLog(client, keys, name, found, heard)
    await log.start()
    return log, heard


def test_the_log_goes_on_where_the_epoch_before_ended_and_after_the_seal(
    settings: EtcdSettings,
) -> None:
    async def story() -> None:
        client = EtcdClient(settings)
        (a, heard), (b, _) = await asyncio.gather(
            *(_log(client, settings.prefix, EPOCH, name) for name in "ab")
        )
        a.append(b"first", 1)
        a.seal(encode_proposed(Proposed(5, "raft", MEMBERS, 7)), 2)
        await heard.count(2)
        (first, seal) = heard.entries

        assert first == (1_001, KIND_BATCH, b"first", 1)
        assert (seal[0], seal[1], seal[3]) == (1_002, KIND_SEAL, 2)
        following = after(EPOCH, seal[0], ballot_in(EPOCH), decode_proposed(seal[2]))
        assert (following.first, following.engine, following.number) == (1_003, "raft", 5)
        for log in (a, b):
            await log.stop()
        client.close()

    run(story)


def test_a_node_whose_state_is_another_one_does_not_take_part(settings: EtcdSettings) -> None:
    async def story() -> None:
        client = EtcdClient(settings)
        await open_epoch(client, settings.prefix, CLUSTER, EPOCH, "a", lambda: STATE, is_own=True)

        with pytest.raises(CorruptData, match="diverged"):
            await open_epoch(
                client, settings.prefix, CLUSTER, EPOCH, "b", lambda: [b"other"], is_own=True
            )
        client.close()

    run(story)


def test_another_seal_leads_to_another_log(settings: EtcdSettings) -> None:
    async def story() -> None:
        client = EtcdClient(settings)
        forked = Epoch(0xABC, 4, "etcd", MEMBERS, 1_001, 7, Ballot(3, 9, 8), MEMBERS)
        one, _ = await open_epoch(client, settings.prefix, CLUSTER, EPOCH, "a", lambda: STATE)
        other, _ = await open_epoch(client, settings.prefix, CLUSTER, forked, "a", lambda: STATE)

        assert one.prefix != other.prefix
        client.close()

    run(story)


def test_the_prefix_of_another_registry_is_refused(settings: EtcdSettings) -> None:
    async def story() -> None:
        client = EtcdClient(settings)
        await find_epoch(client, settings.prefix, "somebody")

        with pytest.raises(Invalid, match="another registry"):
            await open_epoch(client, settings.prefix, CLUSTER, EPOCH, "a", lambda: STATE)
        client.close()

    run(story)


def test_of_an_epoch_that_is_over_only_its_tombstones_stay(settings: EtcdSettings) -> None:
    async def story() -> None:
        client = EtcdClient(settings)
        log, heard = await _log(client, settings.prefix, EPOCH, "a")
        for n in range(1, 20):
            log.append(b"%d" % n, n)
        log.seal(b"the next", 20)
        await heard.count(20)
        await log.stop()

        await clear(client, log.keys)

        prefix = log.keys.prefix.encode()
        left = await client.range(rpc.range_request(prefix + b"/", prefix + b"0", keys_only=True))
        assert [kv.key for kv in left.kvs] == [log.keys.init, log.keys.seal]
        with pytest.raises(Unavailable, match="goes on elsewhere"):
            await open_epoch(client, settings.prefix, CLUSTER, EPOCH, "late", lambda: STATE)
        client.close()

    run(story)
