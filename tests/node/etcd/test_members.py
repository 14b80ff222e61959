"""Who lives, who expires the sessions of who does not, and that only one does."""

import asyncio

from tests.node.etcd.world import Member, member, run, until

from waypost.commands import Outcome, Register, encode_part
from waypost.errors import WaypostError
from waypost.model import Instance
from waypost.node.etcd.settings import EtcdSettings

TTL_MS = 1_000


class Hearing:
    def __init__(self) -> None:
        self.answer: asyncio.Future[list[Outcome]] = asyncio.get_running_loop().create_future()

    def answered(self, ticket: int, revision: int, outcomes: list[Outcome]) -> None:
        self.answer.set_result(outcomes)

    def failed(self, ticket: int, error: WaypostError) -> None:
        self.answer.set_exception(error)


async def attach(who: Member, session: str, n: int) -> None:
    """Open a session at a node, with an instance that lives as long as it."""
    hearing = Hearing()
    who.node.attach(session, TTL_MS, 0, hearing, 1)
    (attachment,) = await hearing.answer
    assert isinstance(attachment, int)
    who.node.own_session(session, attachment, TTL_MS, 0, None)
    hearing = Hearing()
    commands = [Register(Instance("orders", f"o-{n}", "10.0.0.1", 8000 + n), session)]
    who.node.offer(encode_part(commands), commands, hearing, 1)
    await hearing.answer


async def crash(who: Member) -> None:
    """Stop without a word: etcd learns of it by the lease."""
    who.node.tick_no_more()
    who.engine.members.vanish()
    for task in who.engine.log.tasks:
        task.cancel()


def test_the_sessions_of_a_lost_node_end_a_full_lease_later(settings: EtcdSettings) -> None:
    async def story() -> None:
        async with member(settings, "a") as a, member(settings, "b") as b:
            await attach(a, "of-a", 1)
            await a.state()
            assert set(b.local()) <= {"o-1"}
            await crash(a)
            await until(lambda: "a" not in b.engine.status.members)
            assert set(b.local()) == {"o-1"}, "not before its lease is over"
            await until(lambda: not b.local())

            assert not b.failures

    run(story)


def test_a_session_that_moved_in_time_is_not_ended(settings: EtcdSettings) -> None:
    async def story() -> None:
        async with member(settings, "a") as a, member(settings, "b") as b:
            await attach(a, "moves", 1)
            await attach(a, "stays", 2)
            await b.state()
            await crash(a)
            await until(lambda: "a" not in b.engine.status.members)
            hearing = Hearing()
            b.node.attach("moves", 600_000, 0, hearing, 1)
            await hearing.answer
            await until(lambda: set(b.local()) == {"o-1"})

            assert b.node.catalog.session("stays") is None
            assert b.node.catalog.session("moves") is not None

    run(story)


def test_one_node_at_a_time_is_the_expirer_and_another_follows_it(settings: EtcdSettings) -> None:
    async def story() -> None:
        async with member(settings, "b") as b, member(settings, "a") as a:
            await until(lambda: b.engine.members.guard is not None)
            assert a.engine.members.guard is None
            first = b.engine.members.guard
            assert first is not None
            await crash(b)
            await until(lambda: a.engine.members.guard is not None)

            assert a.engine.members.guard is not None
            assert a.engine.members.guard[1] > first[1]

    run(story)


def test_a_node_that_leaves_is_gone_at_once(settings: EtcdSettings) -> None:
    async def story() -> None:
        async with member(settings, "b") as b:
            async with member(settings, "a"):
                await until(lambda: b.engine.status.members == ("a", "b"))
            await until(lambda: b.engine.status.members == ("b",), 2.0)

    run(story)
