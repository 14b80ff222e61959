"""The ordered log over a real etcd: one order, each entry once, one answer for each token."""

import asyncio

from tests.node.etcd.logs import Forgetful, Holding, opened, writer
from tests.node.etcd.servers import EtcdServer
from tests.node.etcd.world import run, until

from waypost.consensus.core import KIND_BATCH, KIND_SEAL
from waypost.errors import CorruptData, Invalid, Superseded, TimedOut, Unavailable
from waypost.node.etcd import rpc
from waypost.node.etcd.client import EtcdClient
from waypost.node.etcd.layout import BATCH_BYTES_MAX
from waypost.node.etcd.settings import EtcdSettings
from waypost.node.etcd.snapshots import write_snapshot


def test_two_writers_hear_all_entries_in_the_same_order(settings: EtcdSettings) -> None:
    async def story() -> None:
        async with writer(settings, "a") as a, writer(settings, "b") as b:
            for n in range(1, 51):
                a.log.append(b"a%d" % n, n)
                b.log.append(b"b%d" % n, n)
            await a.heard.count(100)
            await b.heard.count(100)

            assert a.heard.payloads == b.heard.payloads
            assert [index for index, *_ in a.heard.entries] == list(range(1, 101))
            for each, letter in ((a, b"a"), (b, b"b")):
                own = [p for p in each.heard.payloads if p.startswith(letter)]
                assert own == [letter + b"%d" % n for n in range(1, 51)], "its own order is kept"
                assert each.heard.tokens == list(range(1, 51))
                assert not each.heard.refusals

    run(story)


def test_a_barrier_is_passed_only_when_all_before_it_is_handed_over(settings: EtcdSettings) -> None:
    async def story() -> None:
        async with writer(settings, "a") as a, writer(settings, "b") as b:
            for n in range(1, 30):
                await a.append(b"%d" % n, n)
                b.log.barrier(n)
                await b.heard.until(lambda n=n: n in b.heard.passed)
                assert len(b.heard.entries) >= n

    run(story)


def test_an_answer_that_the_watch_has_overtaken_is_no_sign_of_a_restored_etcd(
    settings: EtcdSettings,
) -> None:
    async def story() -> None:
        client = Holding(settings)
        async with writer(settings, "a", client) as a, writer(settings, "b") as b:
            await a.append(b"1", 1)
            client.hold()
            a.log.barrier(1)
            await client.held.wait()
            await b.append(b"2", 1)
            await a.heard.count(2)
            client.let_go()
            await a.heard.until(lambda: 1 in a.heard.passed or a.heard.end)

            assert a.heard.end is None
            assert not a.heard.refusals

    run(story)


def test_a_read_that_is_given_up_does_not_unsay_what_was_written_meanwhile(
    settings: EtcdSettings,
) -> None:
    async def story() -> None:
        client = Holding(settings)
        async with writer(settings, "a", client) as a:
            client.is_lost = True
            for is_written in (False, True):
                client.hold()
                a.log.barrier(1)
                await client.held.wait()
                if is_written:
                    await a.append(b"1", 2)
                    await until(lambda: not a.log.is_busy)
                client.let_go()
                await a.heard.until(lambda: 1 in a.heard.refusals)
                assert a.log.is_writable == is_written

                client.held.clear()
                a.heard.refusals.clear()

    run(story)


def test_a_lost_answer_is_not_a_second_entry(settings: EtcdSettings) -> None:
    async def story() -> None:
        client = Forgetful(settings)
        async with writer(settings, "a", client) as a:
            for n in range(1, 21):
                client.losses = n % 4
                await a.append(b"%d" % n, n)
            client.losses = 0

            assert a.heard.payloads == [b"%d" % n for n in range(1, 21)]
            assert a.heard.tokens == list(range(1, 21))
        async with writer(settings, "a") as again:
            assert again.heard.payloads == [b"%d" % n for n in range(1, 21)]

    run(story)


def test_an_answer_lost_for_good_is_told_as_unknown_and_the_next_entry_goes_on(
    settings: EtcdSettings,
) -> None:
    async def story() -> None:
        client = Forgetful(settings)
        async with writer(settings, "a", client) as a:
            client.losses = 1
            a.log.writer.write_s = 0.0
            a.log.append(b"1", 1)
            await a.heard.count(1)
            await until(lambda: not a.log.is_busy)
            await a.append(b"2", 2)

            assert a.heard.payloads == [b"1", b"2"]
            answered = set(a.heard.tokens) | set(a.heard.refusals)
            assert answered == {1, 2}
            assert not set(a.heard.tokens) & set(a.heard.refusals), "one answer each"
            assert all(isinstance(e, TimedOut) for e in a.heard.refusals.values())

    run(story)


def test_nothing_enters_after_a_seal(settings: EtcdSettings) -> None:
    async def story() -> None:
        async with writer(settings, "a") as a, writer(settings, "b") as b:
            await a.append(b"1", 1)
            a.log.seal(b"the next epoch", 2)
            for n in range(3, 20):
                a.log.append(b"after %d" % n, n)
                b.log.append(b"after %d" % n, n)
            await a.heard.until(lambda: len(a.heard.tokens) + len(a.heard.refusals) == 19)
            await b.heard.until(lambda: b.log.is_sealed)
            await b.heard.until(lambda: len(b.heard.tokens) + len(b.heard.refusals) == 17)

            assert a.heard.payloads == b.heard.payloads
            assert a.heard.entries[-1][1] == KIND_SEAL
            assert [kind for _, kind, *_ in a.heard.entries[:-1]] == [KIND_BATCH] * (
                len(a.heard.entries) - 1
            )
            assert set(a.heard.refusals) == set(range(3, 20))
            assert all(type(e) is Unavailable for e in a.heard.refusals.values())
            a.log.append(b"too late", 99)
            assert 99 in a.heard.refusals

        async with writer(settings, "c") as c:
            assert c.log.is_sealed
            assert c.heard.payloads[-1] == b"the next epoch"

    run(story)


def test_a_process_that_was_replaced_by_one_of_its_name_writes_no_more(
    settings: EtcdSettings,
) -> None:
    async def story() -> None:
        async with writer(settings, "a") as old:
            await old.append(b"1", 1)
            async with writer(settings, "a") as new:
                old.log.append(b"2", 2)
                await old.heard.until(lambda: old.heard.end)
                await new.append(b"3", 3)

                assert isinstance(old.heard.end, Superseded)
                assert new.heard.payloads == [b"1", b"3"]

    run(story)


def test_a_process_that_was_replaced_finds_out_without_writing(settings: EtcdSettings) -> None:
    async def story() -> None:
        async with writer(settings, "a") as old, writer(settings, "a") as new:
            await old.heard.until(lambda: old.heard.end, 5.0)

            assert isinstance(old.heard.end, Superseded)
            assert new.heard.end is None

    run(story)


def test_what_etcd_would_not_take_is_refused_by_its_size(settings: EtcdSettings) -> None:
    async def story() -> None:
        async with writer(settings) as a:
            await a.append(bytes(BATCH_BYTES_MAX), 1)
            await a.append(bytes(BATCH_BYTES_MAX + 1), 2)

            assert a.heard.tokens == [1]
            assert isinstance(a.heard.refusals[2], Invalid)
            assert str(BATCH_BYTES_MAX) in str(a.heard.refusals[2])

    run(story)


def test_a_start_after_a_snapshot_reads_it_and_what_came_after(settings: EtcdSettings) -> None:
    async def story() -> None:
        async with writer(settings) as a:
            for n in range(1, 251):
                a.log.append(b"%d" % n, n)
            await a.heard.count(250)
            state = [b"state at 250" + bytes(2_500_000)]
            head = await write_snapshot(a.client, a.log.keys, a.log.index, a.log.last_entry, state)
            assert head is not None
            assert head.chunks == 3
            await a.append(b"251", 251)
            left = await a.client.range(
                rpc.range_request(a.log.keys.log, a.log.keys.log_end, keys_only=True)
            )
            assert len(left.kvs) == 1, "what the snapshot holds is deleted"

        async with writer(settings) as again:
            assert again.heard.restores == [(250, state[0])]
            assert again.heard.entries == [(251, KIND_BATCH, b"251", 0)]
            await again.append(b"252", 1)
            assert again.heard.entries[-1][0] == 252

    run(story)


def test_the_newer_of_two_snapshots_stays(settings: EtcdSettings) -> None:
    async def story() -> None:
        async with writer(settings) as a:
            await a.append(b"1", 1)
            older = a.log.index, a.log.last_entry
            await a.append(b"2", 2)
            newer = a.log.index, a.log.last_entry

            assert await write_snapshot(a.client, a.log.keys, *newer, [b"newer"]) is not None
            assert await write_snapshot(a.client, a.log.keys, *older, [b"older"]) is None

        async with writer(settings) as again:
            assert again.heard.restores == [(2, b"newer")]

    run(story)


def test_compaction_by_others_costs_no_entry(etcd: EtcdServer, settings: EtcdSettings) -> None:
    async def story() -> None:
        reader_client = EtcdClient(settings)
        async with writer(settings, "a") as a:
            await a.append(b"1", 1)
            _, _, b = await opened(settings, "b", reader_client)
            for n in range(2, 12):
                await a.append(b"%d" % n, n)
            etcd.ctl("compact", str(etcd.revision))

            await b.log.start()  # its watch is to begin where etcd has nothing left
            await b.heard.count(11)

            assert b.heard.payloads == a.heard.payloads
            assert not b.heard.restores
            await b.append(b"12", 12)
            await a.heard.count(12)
            await b.log.stop()
        reader_client.close()

    run(story)


def test_compaction_beyond_a_snapshot_restores_the_state(
    etcd: EtcdServer, settings: EtcdSettings
) -> None:
    async def story() -> None:
        reader_client = EtcdClient(settings)
        async with writer(settings, "a") as a:
            await a.append(b"1", 1)
            _, _, b = await opened(settings, "b", reader_client)
            for n in range(2, 12):
                await a.append(b"%d" % n, n)
            await write_snapshot(a.client, a.log.keys, a.log.index, a.log.last_entry, [b"eleven"])
            await a.append(b"12", 12)
            etcd.ctl("compact", str(etcd.revision))

            await b.log.start()
            await b.heard.count(2)

            assert b.heard.restores == [(11, b"eleven")]
            assert b.heard.entries[-1] == (12, KIND_BATCH, b"12", 0)
            await b.log.stop()
        reader_client.close()

    run(story)


def test_a_head_that_went_back_ends_the_node(settings: EtcdSettings) -> None:
    async def story() -> None:
        async with writer(settings) as a:
            for n in range(1, 5):
                await a.append(b"%d" % n, n)
            await a.client.delete(a.log.keys.head)
            await a.client.txn([], [rpc.put(a.log.keys.head, b"init")])
            a.log.barrier(9)
            await a.heard.until(lambda: a.heard.end)

            assert isinstance(a.heard.end, CorruptData)
            assert 9 not in a.heard.passed

    run(story)


def test_a_guarded_entry_enters_only_while_its_guard_holds(settings: EtcdSettings) -> None:
    async def story() -> None:
        async with writer(settings) as a:
            key = a.log.keys.expirer
            made = (await a.client.txn([], [rpc.put(key, b"x")])).header.revision
            a.log.append(b"1", 1, guard=(key, made))
            await a.heard.count(1)
            await a.client.delete(key)
            await a.client.txn([], [rpc.put(key, b"another")])
            a.log.append(b"2", 2, guard=(key, made))
            await a.heard.until(lambda: 2 in a.heard.refusals)
            await a.append(b"3", 3)

            assert a.heard.payloads == [b"1", b"3"]
            assert type(a.heard.refusals[2]) is Unavailable

    run(story)


def test_many_barriers_at_once_are_all_passed(settings: EtcdSettings) -> None:
    async def story() -> None:
        async with writer(settings) as a:
            for n in range(1, 1001):
                a.log.barrier(n)
            await a.heard.until(lambda: len(a.heard.passed) == 1000)

            assert a.heard.passed == list(range(1, 1001))
            await asyncio.sleep(0)
            assert not a.heard.refusals

    run(story)
