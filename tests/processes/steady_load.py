"""Clients at a steady rate, whatever becomes of their requests, and what they saw.

Each client is the client library's own machinery (its link, its writes, its questions), asked in
an open loop: a request that is not answered delays no other one.  What comes of it is a history
for ``waypost.sim.checkers``.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence

import msgspec

from waypost import wire
from waypost.client.addresses import parse_addresses
from waypost.client.asking import Asking
from waypost.client.connection import Connection
from waypost.client.identity import Identity
from waypost.client.link import Link
from waypost.client.writing import Writing
from waypost.commands import Deregister, Refused, Register
from waypost.errors import WaypostError
from waypost.model import Instance
from waypost.sim.checkers.history import OK as SOUND
from waypost.sim.checkers.history import Operation, Result, Verdict, text
from waypost.sim.checkers.models import OK, UNKNOWN, Services
from waypost.sim.checkers.sessions import check_monotonic, check_staleness
from waypost.sim.checkers.witness import check_witness

CLIENTS = 4
SERVICES = 256
"""So many that the writes of one batch rarely meet in one of them: their order is not told."""
IDS = 3
TIMEOUT_S = 10.0
PORT_MIN = 1_024
PORTS = 60_000
HOT = 8
"""Every second read is of one of these."""


class Failed(msgspec.Struct, frozen=True):
    """A request that was not answered."""

    client: str
    kind: str
    service: str
    call: int
    back: int
    error: str


class SteadyLoad:
    """All clients together: ``rate`` requests a second."""

    def __init__(self, addresses: Sequence[str], rate: int = 200, seed: int = 1) -> None:
        self.operations: list[Operation] = []
        self.failed: list[Failed] = []
        self.sent = 0
        self._rate = rate
        self._random = random.Random(seed)
        self._clients = [_Client(f"c{number}", addresses) for number in range(CLIENTS)]
        self._is_over = False
        self._loop = asyncio.get_running_loop()
        self._sending = self._loop.create_task(self._send())

    async def stop(self) -> None:
        """Send no more, and wait for what is under way."""
        self._is_over = True
        await self._sending
        for client in self._clients:
            await client.close()

    async def until_answered(self, more: int) -> None:
        """Wait until so many more requests came back."""
        aim = len(self.operations) + more
        async with asyncio.timeout(30):
            while len(self.operations) < aim:
                if self._sending.done():
                    self._sending.result()
                await asyncio.sleep(0.005)

    async def look_at_all(self, addresses: Sequence[str]) -> None:
        """Read every service at every node: what was acknowledged must be there."""
        for address in addresses:
            client = _Client(f"last look at {address}", [address])
            for number in range(SERVICES):
                await self._one(client, "resolve", f"svc-{number}", (), is_linearizable=True)
            await client.close()

    def last_led(self) -> int:
        """When the last answer came that only a leader can give, by the monotonic clock."""
        return next((_back(each) for each in reversed(self.operations) if each.stale == 0), 0)

    def gaps(self, start_ns: int, end_ns: int) -> tuple[int, int]:
        """The longest time without an answer that needs a leader: of all clients, of any one."""
        led = [each for each in self.operations if each.stale == 0]
        times: dict[str, list[int]] = {}
        for each in led:
            times.setdefault(each.client, []).append(_back(each))
        whole = [_back(each) for each in led]
        return (
            _longest(whole, start_ns, end_ns),
            max(_longest(some, start_ns, end_ns) for some in times.values()),
        )

    def judge(self) -> Verdict:
        """What the checkers say of all that was seen."""
        return judge(self.operations, self.failed)

    def kinds(self) -> dict[str, int]:
        """How many operations of each kind came back."""
        names = {0: " linearizable", None: ""}
        return dict(Counter(f"{each.kind}{names[each.stale]}" for each in self.operations))

    async def _send(self) -> None:
        under_way: set[asyncio.Task[None]] = set()
        begun = time.monotonic()
        while not self._is_over:
            while self.sent < (time.monotonic() - begun) * self._rate:
                client = self._clients[self.sent % CLIENTS]
                task = self._loop.create_task(self._any(client, self.sent))
                under_way.add(task)
                task.add_done_callback(under_way.discard)
                self.sent += 1
            await asyncio.sleep(1 / self._rate)
        await asyncio.gather(*under_way)

    async def _any(self, client: "_Client", number: int) -> None:
        chance = self._random
        dice = chance.random()
        service = f"svc-{number % SERVICES}"
        name = f"i{chance.randrange(IDS)}"
        if dice < 0.4:
            args = (name, str(PORT_MIN + number % PORTS))
            await self._one(client, "register", service, args)
        elif dice < 0.5:
            await self._one(client, "deregister", service, (name,))
        else:
            if number % 2:
                service = f"svc-{number % HOT}"
            await self._one(client, "resolve", service, (), is_linearizable=dice < 0.75)

    async def _one(
        self,
        client: "_Client",
        kind: str,
        service: str,
        args: tuple[str, ...],
        *,
        is_linearizable: bool = True,
    ) -> None:
        """Ask, and note what came of it; every write is linearizable."""
        call = time.monotonic_ns()
        try:
            if kind == "register":
                result, index = await client.register(service, *args)
            elif kind == "deregister":
                result, index = await client.deregister(service, *args)
            else:
                result, index = await client.resolve(service, is_linearizable=is_linearizable)
        except WaypostError as error:
            back = time.monotonic_ns()
            self.failed.append(Failed(client.name, kind, service, call, back, f"{error!r}"))
        else:
            back, stale = time.monotonic_ns(), 0 if is_linearizable else None
            done = Operation(
                client.name, service, kind, args, result, call, back, index, stale=stale
            )
            self.operations.append(done)


class _Client:
    """One of them: the machinery of ``waypost.Registry``, without its duties."""

    def __init__(self, name: str, addresses: Sequence[str]) -> None:
        identity = Identity()
        self.name = name
        self._seen = 0
        self._writing = Writing(identity, draw=random.random)
        self._link = Link(
            parse_addresses(",".join(addresses)),
            self,
            connect_timeout_s=1.0,
            draw=random.random,
            identity=identity,
        )
        self._writing.link = self._writing.again.link = self._link
        self._asking = Asking(self._link, draw=random.random, timeout_s=TIMEOUT_S)

    async def register(self, service: str, instance: str, port: str) -> tuple[Result, int]:
        command = Register(Instance(service, instance, "10.0.0.1", int(port)))
        written = await self._writing.write(command, TIMEOUT_S)
        assert isinstance(written.outcome, int), written
        self._seen = max(self._seen, written.revision)
        return OK, written.revision

    async def deregister(self, service: str, instance: str) -> tuple[Result, int]:
        written = await self._writing.write(Deregister(service, instance), TIMEOUT_S)
        self._seen = max(self._seen, written.revision)
        if isinstance(written.outcome, Refused):
            assert written.outcome.code in ("unknown-instance", "unknown-service"), written
            return UNKNOWN, written.revision
        return OK, written.revision

    async def resolve(self, service: str, *, is_linearizable: bool) -> tuple[Result, int]:
        def request() -> bytes:
            level: wire.Consistency = "linearizable" if is_linearizable else "default"
            return wire.encode(wire.Resolve(service, consistency=level, min_revision=self._seen))

        answer = wire.decode_resolved(await self._asking.ask(wire.RESOLVE, request))
        self._seen = max(self._seen, answer.revision)
        rows = [(one.instance.id, str(one.instance.port), one.health) for one in answer.records]
        return tuple(rows), answer.revision

    async def close(self) -> None:
        self._asking.close()
        self._writing.close()
        await self._link.close()

    # The link tells

    def connected(self, connection: Connection) -> None:
        """A connection stands."""
        self._writing.connected(connection)
        self._writing.open()

    def disconnected(self) -> None:
        """There is none."""
        self._writing.disconnected()


def judge(operations: Sequence[Operation], failed: Sequence[Failed]) -> Verdict:
    """What the checkers say."""
    # What failed may have happened, or not: the services that it was about are left out.
    doubtful = {each.service for each in failed}
    seen = [each for each in operations if each.key not in doubtful]
    linearizable = [each for each in operations if each.stale == 0]
    for verdict in (
        check_witness(Services(), seen),
        check_monotonic(operations),
        check_staleness(operations, linearizable),
    ):
        if not verdict.is_ok:
            return verdict
    return SOUND


def told(verdict: Verdict) -> str:
    """A verdict in words."""
    lines = [verdict.outcome, verdict.why, *map(text, verdict.culprits)]
    return "; ".join(line for line in lines if line)


def _back(operation: Operation) -> int:
    assert operation.back is not None
    return operation.back


def _longest(times: list[int], start_ns: int, end_ns: int) -> int:
    within = sorted(at for at in times if start_ns <= at <= end_ns)
    return max(later - at for at, later in zip([start_ns, *within], [*within, end_ns], strict=True))
