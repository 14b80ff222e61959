"""A write that is said again is carried out once, wherever and whenever it is said."""

import asyncio

from tests.contract.clusters import Cluster, eventually
from tests.contract.engines import KEEPING, OUTLIVING, on
from tests.contract.telling import told, watched
from tests.processes.cluster import Session
from tests.servers.native.peer import Peer, number

from waypost import wire
from waypost.commands import ClientCommand, Deregister, Register, SetHealth
from waypost.model import Instance

LEFT_MAX = 4_000


def registering(service: str, instance_id: str, version: str = "1") -> Register:
    return Register(Instance(service, instance_id, "10.0.0.1", 8080, version=version))


async def write(peer: Peer, number: int, *commands: ClientCommand) -> wire.Outcomes:
    peer.say(wire.WRITE, number, list(commands))
    return wire.decode_outcomes(await peer.hear(wire.OUTCOMES, number))


@told
async def test_a_write_that_is_repeated_is_answered_as_the_first_time_and_changes_nothing(
    cluster: Cluster, service: str
) -> None:
    here = cluster.names[0]
    client = f"client-of-{service}"
    async with cluster.peer(cluster.names[-1]) as watcher:
        follower = await watched(watcher, service)
        async with cluster.peer(here, client) as peer:
            first = await write(peer, 7, registering(service, "o1"))
            on_the_same_connection = await write(peer, 7, registering(service, "o1"))
        async with cluster.peer(here, client) as peer:
            at_the_same_node = await write(peer, 7, registering(service, "o1"))
        async with cluster.peer(cluster.after(here), client) as peer:
            at_another_node = await write(peer, 7, registering(service, "o1"))
            await write(peer, 8, registering(service, "end"))
        await follower.until("up", "end")

        assert on_the_same_connection == first
        assert at_the_same_node == first
        assert at_another_node == first
        assert number(first.outcomes[0]) > 0
        assert follower.kinds == ["up", "up"]


@told
async def test_a_write_whose_answer_was_lost_is_carried_out_once(
    cluster: Cluster, service: str
) -> None:
    """Carried out again, it would hear that there is no such instance."""
    client = f"client-of-{service}"
    names = cluster.names
    ids = [f"o{turn}" for turn in range(6)]
    async with cluster.peer(names[-1], client) as watcher:
        await write(watcher, 1, *(registering(service, each) for each in ids))
        follower = await watched(watcher, service)
        for turn, each in enumerate(ids):
            here = names[turn % len(names)]
            async with cluster.peer(here, client) as peer:
                peer.say(wire.WRITE, turn + 2, [Deregister(service, each)])
                await peer.fence()  # the node has it; whether it has answered, who knows
            async with cluster.peer(cluster.after(here), client) as peer:
                done = await write(peer, turn + 2, Deregister(service, each))
                assert done.outcomes == [0]
        await follower.until("down", ids[-1])

        assert [change.record.instance.id for change in follower.changes] == ids
        assert follower.kinds == ["down"] * len(ids)


@told
async def test_a_late_repetition_takes_nothing_back_from_who_came_after(
    cluster: Cluster, service: str
) -> None:
    here = cluster.names[0]
    client = f"client-of-{service}"
    async with cluster.peer(here, client) as mine, cluster.peer(cluster.after(here)) as other:
        first = await write(mine, 1, registering(service, "o1", "old"))
        await other.attach(f"s-{service}")
        newer = await other.register(service, "o1", f"s-{service}", version="new")
        async with cluster.peer(cluster.after(here), client) as again:
            assert await write(again, 1, registering(service, "o1", "old")) == first

        assert newer > number(first.outcomes[0])
        assert await cluster.reads(here, service) == {"o1": "new"}


@told
async def test_a_repetition_is_answered_with_every_outcome_and_every_refusal(
    cluster: Cluster, service: str
) -> None:
    """Carried out again, the first would be refused, and so would the last not be."""
    here = cluster.names[0]
    client = f"client-of-{service}"
    commands: list[ClientCommand] = [
        Deregister(service, "o1"),
        Deregister(service, "never-there"),
        SetHealth(service, "o2", "critical", "late"),
        SetHealth(service, "o3", "critical", "late"),
        registering(service, "o3"),
    ]
    async with cluster.peer(here, client) as peer:
        await write(peer, 1, registering(service, "o1"), registering(service, "o2"))
        first = await write(peer, 2, *commands)
    async with cluster.peer(cluster.after(here), client) as peer:
        again = await write(peer, 2, *commands)

    assert [type(outcome) is int for outcome in first.outcomes] == [True, False, True, False, True]
    assert again == first


@told
async def test_a_write_that_is_too_old_to_be_remembered_is_refused_and_not_repeated(
    cluster: Cluster, service: str
) -> None:
    here = cluster.names[0]
    client = f"client-of-{service}"
    async with cluster.peer(here, client) as peer:
        for turn in range(1, 19):
            await write(peer, turn, registering(service, "o1", str(turn)))
    async with cluster.peer(cluster.after(here), client) as peer:
        peer.say(wire.WRITE, 1, [registering(service, "o1", "1")])
        outcome = wire.decode_outcomes(await peer.hear(wire.OUTCOMES, 1)).outcomes[0]

    assert not isinstance(outcome, int)
    assert outcome.code == "too-old"
    assert await cluster.reads(here, service) == {"o1": "18"}


@on(KEEPING)
@told
async def test_a_write_that_is_repeated_after_a_restart_is_still_known(
    rough: Cluster, service: str
) -> None:
    client = f"client-of-{service}"
    async with rough.peer(rough.names[0], client) as peer:
        first = await write(peer, 1, registering(service, "o1"))
    await rough.kill(*rough.names)
    await rough.start()
    for name in rough.names:
        async with rough.peer(name, client) as peer:
            assert await write(peer, 1, registering(service, "o1")) == first


@on(OUTLIVING)
@told
async def test_writes_that_are_repeated_until_answered_while_nodes_are_lost_happen_once(
    rough: Cluster, service: str
) -> None:
    """Each deregisters: carried out again, it would hear that there is no such instance."""
    client = f"client-of-{service}"
    async with rough.peer(rough.names[0], client) as peer:
        await write(peer, 1, *(registering(service, f"o{turn}") for turn in range(2, LEFT_MAX)))
    losses = asyncio.create_task(lose_one_after_another(rough))
    turn = 1
    while not losses.done() and turn < LEFT_MAX - 2:
        turn += 1
        tries = 0

        async def attempt(turn: int = turn) -> bool:
            nonlocal tries
            tries += 1
            name = rough.names[(turn + tries) % len(rough.names)]
            body = wire.encode([Deregister(service, f"o{turn}")])
            async with asyncio.timeout(4):
                session = await Session.open(rough.addresses[name], client)
                try:
                    done = wire.decode_outcomes(await session.ask(wire.WRITE, turn, body))
                finally:
                    session.close()
            assert done.outcomes == [0]
            return True

        await eventually(attempt)
    await losses
    await rough.heal()

    left = {f"o{each}" for each in range(turn + 1, LEFT_MAX)}
    for name in rough.names:
        assert set(await rough.reads(name, service)) == left


async def lose_one_after_another(rough: Cluster) -> None:
    for _ in range(2):
        lost = rough.caretaker()
        await rough.kill(lost)
        await rough.led()
        await rough.start(lost)
