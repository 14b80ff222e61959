"""What happens in the demo of all doors, and what is claimed of it.

One registry; three providers of one service, each registered through another door; and at every
door a client of the kind that is used there.  Each act changes something, and is over when every
client would call whom it should, or has been waited for in vain.
"""

import asyncio
import shutil
import time
from collections.abc import Awaitable, Callable, Mapping
from importlib.metadata import PackageNotFoundError, distribution
from typing import Final

import httpx2
import msgspec

from waypost.cli.demo.cast import Actor, Cast, Failure
from waypost.cli.demo.measures import ms_since
from waypost.cli.demo.sightings import Names, Sightings
from waypost.cli.demo.stage import SEEN, Stage

SERVICE: Final = "orders"
SEEN_S_MAX: Final = 15.0
LOOK_S: Final = 0.002
CALL_S_MAX: Final = 5.0
LINE_MAX: Final = 100
NEXT: Final = """
Next:
  waypost serve                            every door but xDS, on its usual port
  waypost register orders --port 8000 -- python3 -m http.server 8000
  dig @127.0.0.1 -p 8600 SRV orders.service.waypost
  curl 'http://127.0.0.1:8500/v1/health/service/orders?passing'      as Consul
  curl http://127.0.0.1:8500/eureka/apps/ORDERS                      as Eureka
  curl 'http://127.0.0.1:8500/prometheus/sd?service=orders'          as Prometheus
  waypost serve --xds-port 8502            gRPC and Envoy too; waypost xds-bootstrap"""
PACKAGES: Final = {
    "py-consul": "py-consul",
    "py-eureka-client": "py-eureka-client",
    "dnspython": "dnspython",
    "grpcio": "'waypost[xds]'",
    "xds-protos": "'waypost[xds]'",
}
"""What the clients need, and how it is asked for."""


class Door(msgspec.Struct, frozen=True, gc=False):
    """One door, and its client here."""

    name: str
    program: str
    """What of ``door_clients`` stands at it."""
    opens_at: str
    """Which of the registry's addresses is its."""
    path: str
    client: str
    learns: str
    """How the client learns of a change."""


DOORS: Final = (
    Door("native", "native", "native", "", "waypost", "told"),
    Door("HTTP", "http", "http", "/api/v1", "httpx2", "asks: 0.1 s"),
    Door("DNS", "dns", "dns", "", "dnspython", "asks: 0.1 s"),
    Door("Consul", "consul", "http", "/v1", "py-consul", "told"),
    Door("Eureka", "eureka", "http", "/eureka", "py-eureka-client", "asks: 1 s"),
    Door("Prometheus", "http_sd", "http", "/prometheus", "httpx2: http_sd", "asks: 0.1 s"),
    Door("xDS", "xds", "xds", "", "grpcio", "told"),
)
BY_NATIVE, BY_CONSUL, BY_EUREKA = PROVIDERS = ("by-native", "by-consul", "by-eureka")


def missing_clients(packages: Mapping[str, str] = PACKAGES) -> str:
    """What to give ``pip install`` first; empty if all is there."""
    missing: dict[str, None] = {}
    for package, wanted in packages.items():
        try:
            distribution(package)
        except PackageNotFoundError:
            missing[wanted] = None
    return " ".join(missing)


async def tell_of_doors(stage: Stage, cast: Cast, directory: str) -> None:  # noqa: ARG001
    """Tell the whole story.  Raises ``Failure`` if it cannot go on."""
    began = time.monotonic()
    story = _DoorsStory(stage, cast)
    await story.open_doors()
    await story.register()
    try:
        async with httpx2.AsyncClient(timeout=CALL_S_MAX) as http:
            await story.call_by_hand(http)
            await story.change(http)
    except httpx2.HTTPError as error:
        raise Failure(f"a request failed: {error}") from None
    stage.end(time.monotonic() - began, NEXT)


class _DoorsStory:
    def __init__(self, stage: Stage, cast: Cast) -> None:
        self._stage = stage
        self._cast = cast
        self._addresses: dict[str, str] = {}
        self._providers: dict[str, Actor] = {}
        self._names: dict[str, str] = {}
        self._clients: dict[Door, Sightings] = {}

    async def open_doors(self) -> None:
        """A registry, and a client at each door."""
        stage = self._stage
        stage.act("1. One registry, all doors open; a real client at each")
        began = time.monotonic()
        registry = await self._cast.start_registry(xds_port=0)
        stage.say(f"process {registry.process.pid}: ready after {ms_since(began)}")
        self._addresses = {door.program: registry.said[door.opens_at] for door in DOORS}
        stage.table(
            ("door", "address", "client here", "learns"),
            [
                (door.name, self._addresses[door.program] + door.path, door.client, door.learns)
                for door in DOORS
            ],
        )
        await asyncio.gather(*map(self._look_through, DOORS))
        stage.claim(
            f"{len(DOORS)} clients, each a process of its own, are at work, and see nobody yet",
            not any(client.now for client in self._clients.values()),
        )

    async def register(self) -> None:
        """Three providers of one service."""
        self._stage.act(f"2. Three providers of the service {SERVICE}, each by another door")
        began = max(await asyncio.gather(*map(self._add_provider, PROVIDERS)))
        took = await self._until_seen(frozenset(PROVIDERS), began)
        self._show(took, "every door shows the same three")

    async def call_by_hand(self, http: httpx2.AsyncClient) -> None:
        """What is behind the marks."""
        stage = self._stage
        places = {name: place for place, name in self._names.items() if ":" in place}
        answers = {name: (await http.get(f"http://{at}/")).text for name, at in places.items()}
        stage.claim(
            "each of them, called by HTTP where the doors say that it is, answers with its name",
            answers == {name: name for name in PROVIDERS},
            f"they answered {answers}",
        )
        ports = sorted(place.rpartition(":")[2] for place in places.values())
        host, _, port = self._addresses["dns"].rpartition(":")
        name = f"{SERVICE}.service.waypost"
        lines = await self._run("dig", f"@{host}", "-p", port, "+short", "SRV", name)
        if lines is not None:
            stage.claim("dig tells their ports", sorted(x.split()[2] for x in lines) == ports)
        url = f"http://{self._addresses['http']}/v1/health/service/{SERVICE}?passing"
        lines = await self._run("curl", "-s", url)
        if lines is not None:
            told = "".join(lines)
            stage.claim("so does curl", all(f'"Port":{each},' in told for each in ports))

    async def change(self, http: httpx2.AsyncClient) -> None:
        """Whatever changes is seen at every door."""
        everybody = frozenset(PROVIDERS)
        await self._act(
            f"3. The check of {BY_CONSUL} fails: py-consul reports it as critical",
            everybody - {BY_CONSUL},
            lambda: self._report("critical"),
            "a check that fails",
        )
        await self._act(
            f"4. The check of {BY_CONSUL} passes again",
            everybody,
            lambda: self._report("passing"),
            "a check that passes again",
        )
        await self._act(
            f"5. {BY_EUREKA} is drained, by HTTP",
            everybody - {BY_EUREKA},
            lambda: self._post(http, "drain", {}),
            "a drain",
        )
        victim = self._providers[BY_NATIVE]
        await self._act(
            f"6. kill -9 {victim.process.pid}: {BY_NATIVE} dies, without a word to anybody",
            frozenset({BY_CONSUL}),
            lambda: self._kill(victim),
            "a provider that is killed",
        )
        await self._act(
            f"7. All come back: {BY_NATIVE} is started again, {BY_EUREKA} is in use again",
            everybody,
            lambda: self._bring_back(http),
            "two that come back",
        )

    # What an act is made of

    async def _act(
        self, title: str, wanted: Names, do: Callable[[], Awaitable[float]], what: str
    ) -> None:
        stage = self._stage
        stage.act(title)
        took = await self._until_seen(wanted, await do())
        whom = f"nobody but {_listed(wanted)}" if len(wanted) < len(PROVIDERS) else "all three"
        self._show(took, f"every door shows {whom}")
        seen = {door.name: ms for door, ms in took.items() if ms is not None}
        if seen:
            first, last = min(seen, key=seen.__getitem__), max(seen, key=seen.__getitem__)
            stage.measured(
                f"{what}: seen first, last",
                f"{seen[first]:.0f} ms ({first}), {seen[last]:.0f} ms ({last})",
            )

    async def _until_seen(self, wanted: Names, began: float) -> dict[Door, float | None]:
        """Milliseconds until each client saw exactly these; None for those who did not."""
        while True:
            took = {
                door: (at - began) * 1000 if (at := self._first(door, wanted, began)) else None
                for door in DOORS
            }
            if None not in took.values() or time.monotonic() - began > SEEN_S_MAX:
                return took
            await asyncio.sleep(LOOK_S)

    def _first(self, door: Door, wanted: Names, began: float) -> float | None:
        return self._clients[door].first(wanted, began)

    def _show(self, took: dict[Door, float | None], claim: str) -> None:
        rows = [
            (
                door.name,
                door.client,
                *(SEEN if name in self._clients[door].now else "-" for name in PROVIDERS),
                "never" if ms is None else f"{ms:.0f} ms",
            )
            for door, ms in took.items()
        ]
        self._stage.table(("door", "client", *PROVIDERS, "after"), rows)
        blind = [
            f"{door.name} shows {_listed(self._clients[door].now) or 'nobody'}"
            for door, ms in took.items()
            if ms is None
        ]
        self._stage.claim(claim, not blind, f"after {SEEN_S_MAX:g} s {'; '.join(blind)}")

    async def _look_through(self, door: Door) -> None:
        actor = await self._cast.start_program(
            f"client-{door.program}",
            "door_clients",
            door.program,
            self._addresses[door.program],
            SERVICE,
        )
        self._clients[door] = Sightings(actor, self._names)

    # What happens: each returns since when, on this machine's clock

    async def _add_provider(self, name: str) -> float:
        began = time.monotonic()
        door = name.removeprefix("by-")
        provider = await self._cast.start_program(
            name, "door_provider", door, self._addresses[door], SERVICE, name
        )
        self._providers[name] = provider
        for place in [place for place, whose in self._names.items() if whose == name]:
            del self._names[place]  # it was there in an earlier life
        self._names[f"127.0.0.1:{provider.said['port']}"] = name
        self._stage.say(
            f"process {provider.process.pid}: {name}, HTTP and gRPC at port "
            f"{provider.said['port']}, registered {ms_since(began)} after its start"
        )
        asked: float = provider.said["began"]
        return asked

    async def _report(self, health: str) -> float:
        began = time.monotonic()
        stdin = self._providers[BY_CONSUL].process.stdin
        assert stdin is not None
        stdin.write(f"{health}\n".encode())
        stdin.flush()
        return began

    async def _post(self, http: httpx2.AsyncClient, verb: str, body: dict[str, str]) -> float:
        path = f"/api/v1/services/{SERVICE}/instances/{BY_EUREKA}/{verb}"
        self._stage.say(f"POST {path}")
        began = time.monotonic()
        answer = await http.post(f"http://{self._addresses['http']}{path}", json=body)
        answer.raise_for_status()
        return began

    async def _kill(self, victim: Actor) -> float:
        began = time.monotonic()
        self._cast.kill(victim)
        return began

    async def _bring_back(self, http: httpx2.AsyncClient) -> float:
        return max(
            await self._add_provider(BY_NATIVE),
            await self._post(http, "health", {"health": "passing"}),
        )

    # With what is on many machines

    async def _run(self, program: str, *arguments: str) -> list[str] | None:
        """What a program prints; None where it is not installed."""
        if shutil.which(program) is None:
            return None
        process = await asyncio.create_subprocess_exec(
            program, *arguments, stdout=asyncio.subprocess.PIPE
        )
        out, _ = await process.communicate()
        lines = out.decode().splitlines()
        self._stage.say(f"$ {program} {' '.join(arguments)}")
        for line in lines:
            self._stage.say(f"  {line if len(line) < LINE_MAX else line[:LINE_MAX] + ' …'}")
        return lines


def _listed(names: Names) -> str:
    return " and ".join(sorted(names))
