"""The rounds of linearizable reads, with a log that answers when the test says so."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from waypost.errors import ProtocolViolation, Unavailable
from waypost.node import rounds as rounds_module
from waypost.node.rounds import Rounds


def with_rounds(test: Callable[[Rounds, list[int]], Awaitable[None]]) -> None:
    async def run() -> None:
        asked: list[int] = []
        async with asyncio.timeout(30):
            await test(Rounds(asked.append), asked)

    asyncio.run(run())


async def begun(rounds: Rounds) -> "asyncio.Task[None]":
    task = asyncio.create_task(rounds.barrier())
    await asyncio.sleep(0)
    return task


def test_who_asks_during_a_round_waits_for_the_next_one() -> None:
    async def test(rounds: Rounds, asked: list[int]) -> None:
        first = await begun(rounds)
        second, third = await begun(rounds), await begun(rounds)
        assert asked == [-1]

        rounds.caught_up(-1)
        await first

        assert asked == [-1, -2]
        assert not second.done()
        rounds.caught_up(-2)
        await asyncio.gather(second, third)
        assert asked == [-1, -2]

    with_rounds(test)


def test_a_round_that_nobody_could_confirm_is_asked_again() -> None:
    async def test(rounds: Rounds, asked: list[int]) -> None:
        first = await begun(rounds)
        rounds.refused(-1, Unavailable("nobody leads"))
        second = await begun(rounds)
        assert asked == [-1], "it is not asked again at once"
        while len(asked) < 2:
            await asyncio.sleep(0.001)

        rounds.caught_up(-1)
        assert not first.done(), "that round was over"
        rounds.caught_up(-2)
        await asyncio.gather(first, second)

    with_rounds(test)


def test_what_cannot_be_tried_again_is_told() -> None:
    async def test(rounds: Rounds, asked: list[int]) -> None:
        first = await begun(rounds)
        second = await begun(rounds)
        rounds.refused(-1, ProtocolViolation("a log of another kind"))
        with pytest.raises(ProtocolViolation):
            await first

        assert asked == [-1, -2]
        rounds.caught_up(-2)
        await second

    with_rounds(test)


def test_a_reader_who_went_away_takes_nobody_along() -> None:
    async def test(rounds: Rounds, asked: list[int]) -> None:
        first, second = await begun(rounds), await begun(rounds)
        third = await begun(rounds)
        for gone in (first, second):
            gone.cancel()
        await asyncio.gather(first, second, return_exceptions=True)

        rounds.caught_up(-1)
        rounds.caught_up(-2)

        await third

    with_rounds(test)


def test_a_read_waits_its_time_and_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds_module, "BARRIER_TIMEOUT_S", 0.05)

    async def test(rounds: Rounds, asked: list[int]) -> None:
        loop = asyncio.get_running_loop()
        first_at = loop.time()
        first = await begun(rounds)
        await asyncio.sleep(0.03)
        second_at = loop.time()
        second = await begun(rounds)

        with pytest.raises(Unavailable, match="no majority"):
            await first
        assert loop.time() - first_at >= 0.05
        assert not second.done()
        with pytest.raises(Unavailable, match="no majority"):
            await second
        assert loop.time() - second_at >= 0.05
        assert asked == [-1]

    with_rounds(test)


def test_who_reads_in_a_loop_lets_others_have_their_turn() -> None:
    async def test(rounds: Rounds, asked: list[int]) -> None:
        def confirm(token: int) -> None:
            alone.caught_up(token)

        alone = Rounds(confirm)
        is_over = False

        def end() -> None:
            nonlocal is_over
            is_over = True

        asyncio.get_running_loop().call_soon(end)
        while not is_over:
            await alone.barrier()

    with_rounds(test)


def test_at_the_end_all_are_told_and_nobody_is_taken_on() -> None:
    async def test(rounds: Rounds, asked: list[int]) -> None:
        first, second = await begun(rounds), await begun(rounds)
        rounds.refuse_all(Unavailable("the node is stopping"))

        for task in (first, second, await begun(rounds)):
            with pytest.raises(Unavailable, match="stopping"):
                await task
        assert asked == [-1]

    with_rounds(test)
