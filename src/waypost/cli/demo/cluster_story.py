"""What happens in the demo of a cluster, and what is claimed of it.

All of it happens under load: calls of a service, by consumers that know the registry's address
only, and a writer that waits for nobody.  Each act is over when a condition is met, and every claim
is checked where it is made.
"""

import asyncio
import time
from pathlib import Path
from typing import Final

from waypost import wire
from waypost.cli.demo.cast import Actor, Cast, Failure
from waypost.cli.demo.ledger import LEDGER, Watcher, Writer
from waypost.cli.demo.measures import WAIT_S_MAX, claim_no_failure, ms_since, until
from waypost.cli.demo.ports import free_ports
from waypost.cli.demo.stage import WINDOW_S, Stage
from waypost.cli.demo.traffic import Traffic
from waypost.client.connect import connect
from waypost.client.members import ask_cluster
from waypost.client.registry import Registry
from waypost.errors import Unavailable
from waypost.wire import ClusterAsk, ClusterState

SERVICE: Final = "hello"
LEASE_S: Final = 3.0
WATCHED_S: Final = 2.0
"""How long to look on at what should not change."""
LOOK_S: Final = 0.02
LAG_MAX: Final = 5
"""What is acknowledged under load is always a few entries old."""
GAP_S_MAX: Final = 3.0
"""Longer without a leader is not what was promised, on however slow a machine."""
NEXT: Final = """
Next:
  waypost serve --name a --data-dir A --cluster a=H:P,b=H:P,c=H:P     the same on each machine
  waypost cluster status                                             who leads, and how far all are
  waypost cluster switch --engine paxos                              while it runs
  waypost doctor                                                     what is not as it should be"""


async def tell_of_a_cluster(stage: Stage, cast: Cast, directory: str) -> None:
    """Tell the whole story.  Raises ``Failure`` if it cannot go on."""
    began = time.monotonic()
    addresses = [f"127.0.0.1:{port}" for port in free_ports(4)]
    story = _ClusterStory(stage, cast, dict(zip("abcd", addresses, strict=True)))
    await story.begin()
    server = ",".join(addresses[:3])
    async with (
        connect(server, cache_dir=Path(directory) / "cache") as registry,
        connect(server, cache_dir=None) as watching,
    ):
        await story.go_on(registry, watching)
    stage.end(time.monotonic() - began, NEXT)


class _ClusterStory:
    def __init__(self, stage: Stage, cast: Cast, addresses: dict[str, str]) -> None:
        self._stage = stage
        self._cast = cast
        self._addresses = addresses
        self._line = ",".join(f"{name}={addresses[name]}" for name in "abc")
        self._members: dict[str, Actor] = {}
        self._registry: Registry
        self._traffic: Traffic
        self._writer: Writer
        self._watcher: Watcher

    async def begin(self) -> None:
        """Three nodes."""
        self._stage.act("1. Three nodes, each with a disk of its own, agree by Raft")
        began = time.monotonic()
        await asyncio.gather(*(self._start_member(name) for name in "abc"))
        state = await self._until_members("abc")
        ready = ms_since(began)
        self._show(state)
        self._stage.measured("three nodes started, from nothing, until they agree", ready)

    async def go_on(self, registry: Registry, watching: Registry) -> None:
        """Everything else, under load."""
        self._registry = registry
        server = ",".join(self._addresses[name] for name in "abc")
        providers = [f"hello-{number}" for number in (1, 2)]
        await asyncio.gather(
            *(self._cast.start_provider(server, SERVICE, each, LEASE_S) for each in providers)
        )
        service = registry.service(SERVICE, "round_robin")
        self._traffic = Traffic(service)
        self._watcher = Watcher(watching)
        self._writer = Writer(server.split(","))
        self._traffic.start()
        showing = asyncio.create_task(self._stage.show(self._traffic, self._writes))
        try:
            await self._share()
            await self._kill_the_leader()
            for engine in ("paxos", "raft"):
                await self._switch(engine)
            await self._replace_a_lost_disk()
            await self._account()
        finally:
            showing.cancel()
            await asyncio.wait([showing])
            await self._traffic.stop()
            await self._writer.stop()
            await self._watcher.stop()

    async def _share(self) -> None:
        began = time.monotonic()
        await asyncio.sleep(WATCHED_S)
        shares = self._traffic.shares_since(began)
        self._stage.claim(
            f"two providers, called by one consumer; {self._writer.rate(WINDOW_S):.0f} writes/s, "
            "each on the disks of two nodes before it is acknowledged",
            len(shares) == 2 and not self._writer.failed,
        )
        claim_no_failure(self._stage, self._traffic, "none", began)

    async def _kill_the_leader(self) -> None:
        stage, writer = self._stage, self._writer
        before = await self._ask()
        victim = self._members[before.leader]
        pid = victim.process.pid
        stage.act(f"2. kill -9 {pid}: node {before.leader}, the leader, dies under load")
        killed = time.monotonic()
        self._cast.kill(victim)
        state = await self._until_led(but=before.leader)
        await until(lambda: writer.has_answer_since(killed + LOOK_S), "an acknowledged write")
        await asyncio.sleep(WATCHED_S)
        gap_s = writer.longest_gap_s(killed)
        stage.claim(
            f"node {state.leader} leads; from the last acknowledged write before to the first "
            f"after: {gap_s * 1000:.0f} ms",
            gap_s < GAP_S_MAX and state.leader != before.leader,
        )
        stage.measured("the leader killed: nobody answers for", f"{gap_s * 1000:.0f} ms")
        await self._claim_nothing_lost(killed)
        began = time.monotonic()
        await self._start_member(before.leader)
        await self._until_members("abc")
        shown = ms_since(began)
        stage.say(f"node {before.leader} is started again, and holds everything after {shown}")
        stage.measured("a node started again, until it holds everything", shown)

    async def _switch(self, engine: str) -> None:
        stage, writer = self._stage, self._writer
        before = await self._ask()
        number = {"paxos": 3, "raft": 4}[engine]
        stage.act(f"{number}. {before.engine} becomes {engine}, while it runs")
        began = time.monotonic()
        state = await ask_cluster(self._server, ClusterAsk("switch", engine=engine))
        done = time.monotonic()
        stage.say(f"decided and at work after {(done - began) * 1000:.0f} ms")
        await asyncio.sleep(WATCHED_S)
        gap_s = writer.longest_gap_s(began)
        stage.claim(
            f"epoch {before.epoch} by {before.engine} has ended, epoch {state.epoch} is by "
            f"{state.engine}, led by node {state.leader}",
            state.engine == engine and state.epoch == before.epoch + 1,
        )
        stage.claim(
            f"the longest pause between two acknowledged writes: {gap_s * 1000:.0f} ms",
            0 < gap_s < GAP_S_MAX,
        )
        stage.measured(f"{before.engine} to {engine}: the pause", f"{gap_s * 1000:.0f} ms")
        await self._claim_nothing_lost(began)

    async def _replace_a_lost_disk(self) -> None:
        stage, cast = self._stage, self._cast
        before = await self._ask()
        lost = next(name for name in sorted(self._members) if name != before.leader)
        stage.act(f"5. Node {lost} dies, and its disk is gone: node d takes its place")
        began = time.monotonic()
        cast.kill(self._members.pop(lost))
        cast.wipe(lost)
        how = ["--join", self._addresses[before.leader], "--learner"]
        self._members["d"] = await cast.start_member("d", self._addresses["d"], *how)
        stage.say(f"process {self._members['d'].process.pid}: node d follows, without a vote")
        await self._replace(lost, "d")
        state = await self._until_members("".join(sorted(self._members)))
        shown = ms_since(began)
        self._show(state)
        stage.claim(
            f"the members are {', '.join(sorted(self._members))}; {shown} after the loss",
            state.epoch == before.epoch + 1,
        )
        stage.measured("a lost node replaced by a new one", shown)
        await asyncio.sleep(WATCHED_S / 2)
        await self._claim_nothing_lost(began)

    async def _account(self) -> None:
        stage, writer, watcher = self._stage, self._writer, self._watcher
        stage.act("6. The books are balanced")
        await writer.stop()
        acknowledged = writer.acknowledged
        last = max(acknowledged.values())
        await until(lambda: watcher.has_heard(last), "the watcher to hear of the last write")
        held = [await self._held_at(name) for name in sorted(self._members)]
        lost = [name for name in acknowledged if not all(name in each for each in held)]
        stage.claim(
            f"all {len(acknowledged)} acknowledged writes are read at each of the three nodes",
            not lost,
            f"{len(lost)} are not",
        )
        trouble = watcher.trouble(acknowledged)
        stage.claim(
            "a watcher was told of each of them, once, in order, at its revision",
            not trouble,
            trouble,
        )
        counts = f"{len(acknowledged)}, {len(writer.failed)}, {len(lost)}"
        stage.measured("writes acknowledged, failed, lost", counts)

    # What the claims are made of

    async def _claim_nothing_lost(self, began: float) -> None:
        acknowledged = set(self._writer.acknowledged)
        answer = await self._registry.resolve(LEDGER, health="any", consistency="linearizable")
        lost = acknowledged - {record.instance.id for record in answer.records}
        self._stage.claim(
            f"every one of {len(acknowledged)} acknowledged writes is there, and none failed",
            not lost and not self._writer.failed,
            "; ".join([f"{len(lost)} lost", *self._writer.failed[:1]]),
        )
        claim_no_failure(self._stage, self._traffic, "none", began)

    async def _held_at(self, name: str) -> set[str]:
        async with connect(self._addresses[name], cache_dir=None) as registry:
            answer = await registry.resolve(LEDGER, health="any", consistency="linearizable")
        return {record.instance.id for record in answer.records}

    async def _start_member(self, name: str) -> None:
        how = ["--cluster", self._line]
        self._members[name] = await self._cast.start_member(name, self._addresses[name], *how)

    @property
    def _server(self) -> str:
        return ",".join(self._addresses[name] for name in self._members)

    async def _ask(self) -> ClusterState:
        return await ask_cluster(self._server, ClusterAsk("status"))

    async def _until_led(self, but: str) -> ClusterState:
        """Wait until somebody leads who is not ``but``."""
        began = time.monotonic()
        while True:
            try:
                state = await self._ask()
            except Unavailable:
                state = None
            if state is not None and state.leader not in ("", but):
                return state
            if time.monotonic() - began > WAIT_S_MAX:
                raise Failure(f"nobody leads after {WAIT_S_MAX:g} s")
            await asyncio.sleep(LOOK_S)

    async def _replace(self, lost: str, newcomer: str) -> None:
        """Put the newcomer in the place of the lost one, as soon as it has caught up."""
        began = time.monotonic()
        while True:
            try:
                await ask_cluster(self._server, ClusterAsk("replace", lost, newcomer))
                return
            except Unavailable as error:
                if time.monotonic() - began > WAIT_S_MAX:
                    raise Failure(f"node {newcomer} does not become a member: {error}") from None
            await asyncio.sleep(LOOK_S)

    async def _until_members(self, names: str) -> ClusterState:
        """Wait until these are the members, one leads, and all hold what is committed."""
        began = time.monotonic()
        while True:
            state = await self._until_led(but="")
            voting = [each for each in state.members if each.votes]
            there = [each for each in voting if each.role != "away"]
            lag = max((state.commit - each.held for each in there), default=0)
            all_there = [each.name for each in there] == list(names) and len(voting) == len(names)
            if all_there and lag <= LAG_MAX and state.released:
                return state
            if time.monotonic() - began > WAIT_S_MAX:
                raise Failure(f"after {WAIT_S_MAX:g} s the members are not {', '.join(names)}")
            await asyncio.sleep(LOOK_S)

    def _show(self, state: wire.ClusterState) -> None:
        for each in state.members:
            pid = self._members[each.name].process.pid
            self._stage.say(f"node {each.name} at {each.address} (process {pid})")
        self._stage.say(f"engine {state.engine}, epoch {state.epoch}, node {state.leader} leads")

    def _writes(self) -> str:
        return f"{self._writer.rate(WINDOW_S):.0f} writes/s acknowledged"
