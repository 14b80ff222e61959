"""What happens in the demo, and what is claimed of it.

Each act does one thing to a system that is under traffic, waits until a condition is met (never
for a fixed time, but where time itself is the point), and checks what the documentation promises.
"""

import asyncio
import time
from pathlib import Path
from typing import Final

from waypost.cli.demo.cast import Actor, Cast, Failure
from waypost.cli.demo.measures import (
    LOOK_EVERY_S,
    WAIT_S_MAX,
    claim_no_failure,
    ms_since,
    s_since,
    until,
)
from waypost.cli.demo.stage import Stage
from waypost.cli.demo.traffic import Sample, Traffic
from waypost.client.connect import connect
from waypost.client.registry import Registry
from waypost.client.service import Service
from waypost.errors import Unavailable

SERVICE: Final = "hello"
POLICY: Final = "round_robin"
"""So that a share that is not even has a reason."""
LEASE_S: Final = 3.0
NOTICED_S_MAX: Final = 1.0
WATCHED_S: Final = 2.0
"""How long to look on at what should not change."""
SHARE_MIN: Final = 0.4
NEXT: Final = """
Next:
  waypost serve --data-dir ./registry          a registry of your own
  waypost register web --port 8000 -- CMD      run a program, registered
  waypost watch                                see it come and go
  waypost --help                               and everything else"""


async def tell(stage: Stage, cast: Cast, directory: str) -> None:
    """Tell the whole story.  Raises ``Failure`` if it cannot go on."""
    began = time.monotonic()
    story = _Story(stage, cast)
    await story.begin()
    async with connect(story.server, cache_dir=Path(directory) / "cache") as registry:
        await story.go_on(registry)
    stage.end(time.monotonic() - began, NEXT)


class _Story:
    def __init__(self, stage: Stage, cast: Cast) -> None:
        self._stage = stage
        self._cast = cast
        self._registry_process: Actor
        self._providers: list[Actor] = []
        self._registry: Registry
        self._service: Service
        self._traffic: Traffic
        self.server = ""

    async def begin(self) -> None:
        """A registry."""
        stage = self._stage
        stage.act("1. A registry, two providers, one consumer")
        began = time.monotonic()
        self._registry_process = await self._cast.start_registry()
        self.server = self._registry_process.said["native"]
        ready = ms_since(began)
        stage.say(
            f"process {self._registry_process.process.pid}: a registry at {self.server}, "
            f"durable, ready after {ready}"
        )
        stage.measured("a registry started, from nothing", ready)

    async def go_on(self, registry: Registry) -> None:
        """Everything else, under traffic."""
        self._registry = registry
        await asyncio.gather(*(self._add_provider(f"hello-{n}") for n in (1, 2)))
        self._service = registry.service(SERVICE, POLICY)
        self._traffic = Traffic(self._service)
        self._traffic.start()
        showing = asyncio.create_task(self._stage.show(self._traffic))
        try:
            await self._share()
            await self._kill_a_provider()
            await self._kill_the_registry()
            await self._drain_a_provider()
        finally:
            showing.cancel()
            await asyncio.wait([showing])
            await self._traffic.stop()

    async def _share(self) -> None:
        began = time.monotonic()
        await asyncio.sleep(WATCHED_S)
        shares = self._traffic.shares_since(began)
        self._stage.claim(
            "both providers get their share of the calls: " + _shown(shares),
            len(shares) == 2 and min(shares.values()) >= SHARE_MIN,
        )
        self._claim_no_failure("none", began)

    async def _kill_a_provider(self) -> None:
        stage, cast, traffic = self._stage, self._cast, self._traffic
        victim, other = self._providers
        stage.act(f"2. kill -9 {victim.process.pid}: {victim.name} dies, without a word to anybody")
        killed = time.monotonic()
        cast.kill(victim)
        await until(lambda: victim.name not in self._usable(), "the consumer to notice")
        noticed = time.monotonic()
        shown = f"{(noticed - killed) * 1000:.0f} ms"
        stage.claim(
            f"after {shown} the consumer sends it nothing more", noticed - killed < NOTICED_S_MAX
        )
        stage.measured("a provider killed: until the consumer's view is without it", shown)
        await asyncio.sleep(WATCHED_S)
        meanwhile = traffic.during(killed, noticed)
        failed = sum(bool(sample.error) for sample in meanwhile)
        stage.say(f"calls meanwhile: {len(meanwhile)}, of which {failed} failed")
        stage.measured("calls that failed meanwhile (nothing was retried)", str(failed))
        self._claim_no_failure("none after that", noticed)
        shares = traffic.shares_since(noticed)
        stage.claim(f"all traffic is with {other.name}", list(shares) == [other.name])
        await until(lambda: victim.name not in self._known(), "it to be deregistered")
        stage.say(f"its grace of 2 s over, it was deregistered {s_since(killed)} after its death")
        self._providers = [other]
        began = time.monotonic()
        newcomer = await self._add_provider("hello-3")
        await until(
            lambda: newcomer.name in traffic.shares_since(began), "the newcomer's first call"
        )
        called = min(s.ended for s in traffic.since(began) if s.instance == newcomer.name)
        shown = f"{(called - began) * 1000:.0f} ms"
        stage.say(f"{newcomer.name} answers its first call {shown} after its process was started")
        stage.measured("a new provider: from its process's start to its first call", shown)

    async def _kill_the_registry(self) -> None:
        stage, traffic = self._stage, self._traffic
        before = await self._registry.status()
        known = await self._instances()
        pid = self._registry_process.process.pid
        stage.act(f"3. kill -9 {pid}: the registry dies")
        killed = time.monotonic()
        self._cast.kill(self._registry_process)
        await until(lambda: self._service.source == "cache", "the consumer to notice")
        await asyncio.sleep(WATCHED_S)
        shares = traffic.shares_since(killed)
        stage.claim(
            f"traffic goes on from what was last known: {_shown(shares)}",
            len(shares) == len(self._providers) and min(shares.values()) >= SHARE_MIN,
        )
        answer = await self._registry.resolve(SERVICE)
        stage.claim(
            f"an answer says how fresh it is: from {answer.source}, {answer.age:.1f} s old",
            answer.source == "cache" and len(answer.records) == len(self._providers),
        )
        await self._restart_the_registry()
        stage.measured("the registry away, under traffic", s_since(killed))
        self._claim_no_failure("none while it was away", killed)

        after, found = await self._registry.status(), await self._instances()
        stage.claim(
            f"nothing is lost: revision {before.revision} before, {after.revision} now, of the "
            "same data set",
            after.revision >= before.revision and after.cluster == before.cluster,
        )
        stage.claim(f"the same {len(known)} instances, in the same lives", known == found)
        stage.measured("instances lost by its death", f"{len(known - found)} of {len(known)}")
        stage.say(f"looking on for longer than a lease ({LEASE_S:g} s): who had not come back goes")
        looked = time.monotonic()
        await asyncio.sleep(LEASE_S + 0.5)
        stage.claim(
            "both providers are attached again, by themselves",
            known == await self._instances() and len(self._usable()) == len(known),
        )
        self._claim_no_failure("none", looked)

    async def _restart_the_registry(self) -> None:
        stage = self._stage
        began = time.monotonic()
        said = self._registry_process.said
        self._registry_process = await self._cast.start_registry(
            *(int(said[door].rpartition(":")[2]) for door in ("native", "http"))
        )
        ready = ms_since(began)
        stage.say(
            f"process {self._registry_process.process.pid}: the registry again, after {ready}"
        )
        stage.measured("the registry restarted, its data recovered", ready)
        began = time.monotonic()
        await until(lambda: self._service.source == "follower", "the consumer's watch")
        wanted = len(self._providers) + 1
        while (await self._status()) < wanted:
            if time.monotonic() - began > WAIT_S_MAX:
                raise Failure(f"after {WAIT_S_MAX:g} s not everybody has come back")
            await asyncio.sleep(LOOK_EVERY_S)
        shown = ms_since(began)
        stage.say(f"{shown} later everybody is connected again")
        stage.measured("providers and consumer connected again after that", shown)

    async def _drain_a_provider(self) -> None:
        stage, traffic = self._stage, self._traffic
        leaving = self._providers[-1]
        stage.act(f"4. {leaving.name} is drained, and stops")
        began = time.monotonic()
        drained = await self._registry.drain(SERVICE, leaving.name)
        shown = ms_since(began)
        stage.claim(
            f"drained within {shown}, confirmed by {drained.watchers - drained.unseen} of "
            f"{drained.watchers} watchers: nobody picks it any more",
            drained.unseen == 0 and drained.watchers > 0,
        )
        stage.measured("a drain, confirmed by every watcher", shown)
        done = time.monotonic()
        await until(
            lambda: all(s.ended < time.monotonic() - 0.1 for s in _of(traffic, leaving, began)),
            "its last calls to end",
        )
        code = await self._cast.dismiss(leaving)
        await until(lambda: leaving.name not in self._known(), "it to be deregistered")
        await asyncio.sleep(WATCHED_S / 2)
        stage.claim(
            "it was called no more after that, and ended by itself",
            code == 0 and not _of(traffic, leaving, done),
        )
        self._claim_no_failure("none", began)

    # What the claims are made of

    async def _add_provider(self, name: str) -> Actor:
        began = time.monotonic()
        provider = await self._cast.start_provider(self.server, SERVICE, name, LEASE_S)
        self._providers.append(provider)
        self._stage.say(
            f"process {provider.process.pid}: {name} serves at port {provider.said['port']}, "
            f"registered {ms_since(began)} after its start"
        )
        return provider

    def _usable(self) -> set[str]:
        return {instance.id for instance in self._service.instances}

    def _known(self) -> set[str]:
        return {record.instance.id for record in self._service.records}

    async def _instances(self) -> set[tuple[str, int, int]]:
        """Who is registered, in which life, and not in doubt; as the registry says."""
        answer = await self._registry.resolve(SERVICE, health="any", consistency="linearizable")
        return {
            (r.instance.id, r.instance.port, r.instance.incarnation)
            for r in answer.records
            if not r.suspect
        }

    async def _status(self) -> int:
        """How many are connected to the registry, if it can be asked."""
        try:
            return (await self._registry.status()).connections
        except Unavailable:
            return 0

    def _claim_no_failure(self, words: str, began: float) -> None:
        claim_no_failure(self._stage, self._traffic, words, began)


def _of(traffic: Traffic, provider: Actor, began: float) -> list[Sample]:
    return [sample for sample in traffic.since(began) if sample.instance == provider.name]


def _shown(shares: dict[str, float]) -> str:
    return ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
