"""When each check is looked at, and what comes of it: the duties of one node.

Every node knows all checks, and looks after its share of them (``shares``).  What it found changes
nothing until it is an opinion (``judging``); then it is proposed, as one entry of the log.  Probes
that agree with what is known cost the log nothing, and neither does a TTL check that is told the
same again.

A probe that contradicts what is known is repeated soon, and one that is not answered soon is
accompanied by a second one (``timing``): so two in a row are needed, and a failure is still known
within the interval and the timeout.

Bounded: so many probes at once, in two lanes.  A target that is known to be critical, and took its
whole time, is asked on the second lane until it answers: those that hang wait for each other, and
nobody else for them.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import Final

import msgspec

from waypost.checks import CheckKey, CheckState, CheckStatus
from waypost.commands import Command, Outcome, ReapCheck, ReportCheck, encode_part
from waypost.errors import Unavailable, WaypostError
from waypost.node.checks.found import Found
from waypost.node.checks.judging import judge
from waypost.node.checks.probing import Probes
from waypost.node.checks.roster import Entry, Roster
from waypost.node.checks.shares import owner_of
from waypost.node.checks.timing import needs_second, next_s, second_s
from waypost.node.node import Node

log = logging.getLogger("waypost.checks")

TICK_S: Final = 0.25
SCAN_S_MIN: Final = 0.002
SCAN_SHARE: Final = 20
"""A scan comes no sooner than so many times what the last one took."""
HEARD_NS: Final = 2_000_000_000
"""A member that was not heard for longer has lost its share."""
SLOTS: Final = (2_048, 512)
"""Probes at once, on either lane; less where a process may open fewer files."""
STARTS_PER_S: Final = 1_000
AGAIN_S: Final = 1.0
HEAR: Final = "check-heard"
"""What another node calls when a TTL check was reported there; the body is its key."""

_decode_key = msgspec.msgpack.Decoder(tuple[str, str, str, str]).decode
_encode = msgspec.msgpack.Encoder().encode


class _Lane:
    """So many probes at once; the others wait in order."""

    def __init__(self, slots: int) -> None:
        self.free = slots
        self.waiting: deque[Entry] = deque()


class CheckRunner:
    """Looks after this node's share of the checks."""

    def __init__(
        self, node: Node, probes: Probes, *, slots: tuple[int, int] = SLOTS, files: int = 1 << 20
    ) -> None:
        """``files`` is how many this process may open."""
        self._node = node
        self._probes = probes
        self._random = Random()  # jitter: nothing that matters hangs on it
        self._loop = asyncio.get_running_loop()
        self._roster = Roster()
        self._living: tuple[str, ...] = (node.name,)
        first, second = (max(1, min(most, files // 8)) for most in slots)
        self._lanes = (_Lane(first), _Lane(second))
        self._tasks: set[asyncio.Task[None]] = set()  # those of checks that are gone too
        self._scan_timer: asyncio.TimerHandle | None = None
        self._scan_cost_s = 0.0
        self._tick: asyncio.TimerHandle | None = None
        self._unlisten: Callable[[], None] = lambda: None
        self.probed = 0
        self.mine = 0

    def start(self) -> None:
        """Look after checks from here on; costs next to nothing until there are any."""
        node = self._node
        node.check_news.checkup = self
        node.check_news.listeners.append(self._changed)
        self._unlisten = lambda: node.check_news.listeners.remove(self._changed)
        if node.others is not None:
            node.others.serve(HEAR, self._heard)
        self._scan()
        self._on_tick()

    async def stop(self) -> None:
        """Look after nothing any more."""
        self._unlisten()
        self._node.check_news.checkup = None
        for timer in (self._tick, self._scan_timer):
            if timer is not None:
                timer.cancel()
        for entry in self._roster.entries.values():
            self._leave(entry)
        for lane in self._lanes:
            lane.waiting.clear()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # What there is, and whose

    def _changed(self, revision: int, services: Sequence[str]) -> None:  # noqa: ARG002
        if self._scan_timer is None:
            delay_s = max(SCAN_S_MIN, SCAN_SHARE * self._scan_cost_s)
            self._scan_timer = self._loop.call_later(delay_s, self._scan)

    def _on_tick(self) -> None:
        self._tick = self._loop.call_later(TICK_S, self._on_tick)
        living = self._alive()
        if living != self._living:
            self._living = living
            for entry in self._roster.entries.values():
                self._assign(entry)

    def _alive(self) -> tuple[str, ...]:
        node = self._node
        try:
            members = node.engine.status.members
        except WaypostError:
            return self._living
        others = node.others
        if others is None:  # an engine without others names those that live
            return members or (node.name,)
        now = node.clock()
        return tuple(
            name for name in members if name == node.name or now - others.heard_ns(name) < HEARD_NS
        )

    def _scan(self) -> None:
        self._scan_timer = None
        began_s = time.perf_counter()
        moved = self._roster.look(self._node.catalog.checks)
        for entry in moved.gone:
            self._leave(entry)
        for entry in moved.other:
            self._leave(entry)
            self._assign(entry)
        for entry in moved.found:
            if entry.is_mine:
                self._arm_reaping(entry)
        self._scan_cost_s = time.perf_counter() - began_s

    def _assign(self, entry: Entry) -> None:
        runs_on = entry.state.check.runs_on
        is_mine = (runs_on or owner_of(entry.seed, self._living)) == self._node.name
        if is_mine and not entry.is_mine:
            entry.is_mine = True
            self.mine += 1
            entry.streak = 0
            check = entry.state.check
            if check.kind == "ttl":
                self._renew(entry)
                entry.timer = self._loop.call_at(entry.due_s, self._lapse, entry)
            elif check.kind != "manual":
                spread_s = min(check.interval_ms / 1000, 0.1 + self.mine / STARTS_PER_S)
                self._look_in(entry, self._random.random() * spread_s)
            self._arm_reaping(entry)
        elif entry.is_mine and not is_mine:
            self._leave(entry)

    def _leave(self, entry: Entry) -> None:
        self.mine -= entry.is_mine
        entry.is_mine = False
        for timer in (entry.timer, entry.second, entry.reap):
            if timer is not None:
                timer.cancel()
        entry.timer = entry.second = entry.reap = None
        entry.let_be()

    # Probing

    def _look_in(self, entry: Entry, delay_s: float) -> None:
        if entry.timer is not None:
            entry.timer.cancel()
        entry.timer = self._loop.call_later(delay_s, self._look, entry)

    def _look(self, entry: Entry) -> None:
        if not entry.is_mine:
            return
        if entry.probes or entry.is_waiting:  # its time is the interval, or there is no slot
            entry.is_late = True
            return
        entry.is_late = False
        check = entry.state.check
        # Never later than the interval says, and drifting apart.
        self._look_in(entry, next_s(check, self._random.random()))
        if check.kind == "alias":
            self._judge(entry, self._alias(check.target), is_sure=True)
            return
        lane = self._lanes[entry.is_slow and entry.state.status == "critical"]
        if lane.free:
            self._begin(entry, lane)
        else:
            entry.is_waiting = True
            lane.waiting.append(entry)

    def _begin(self, entry: Entry, lane: _Lane) -> None:
        entry.is_waiting = False
        if not entry.is_mine:
            return
        entry.begun_s = self._loop.time()
        if needs_second(entry.state, entry.streak):
            delay_s = second_s(entry.state.check)
            entry.second = self._loop.call_later(delay_s, self._begin_second, entry, lane)
        self._probe(entry, lane)

    def _begin_second(self, entry: Entry, lane: _Lane) -> None:
        """The first one is not answered yet; without a free slot this one waits for its end."""
        entry.second = None
        if lane.free:
            self._probe(entry, lane)

    def _probe(self, entry: Entry, lane: _Lane) -> None:
        lane.free -= 1
        task = self._loop.create_task(self._run(entry))
        entry.probes.add(task)
        self._tasks.add(task)
        task.add_done_callback(partial(self._ended, entry, lane))

    def _ended(self, entry: Entry, lane: _Lane, task: "asyncio.Task[None]") -> None:
        entry.probes.discard(task)
        self._tasks.discard(task)
        lane.free += 1
        while lane.free and lane.waiting:
            self._begin(lane.waiting.popleft(), lane)
        if entry.is_late:
            self._look(entry)

    async def _run(self, entry: Entry) -> None:
        check = entry.state.check
        try:
            found = await self._probes.probe(check)
        except Exception as error:
            log.exception("a probe of %s failed by our own mistake", entry.key)
            found = Found("critical", f"the probe failed: {error}")
        self.probed += 1
        entry.is_slow = found.is_slow
        if entry.second is not None:  # there is an answer: whatever is next, begins with that
            entry.second.cancel()
            entry.second = None
        this = asyncio.current_task()
        assert this is not None
        entry.probes.discard(this)
        if entry.is_mine and entry.state.check is check:
            if found.status == entry.state.status:
                entry.let_be()
            self._judge(entry, found, is_sure=False)

    def _judge(self, entry: Entry, found: Found, *, is_sure: bool) -> None:
        state = self._now(entry)
        if state is None or entry.is_proposing:
            return
        check = state.check
        is_first = not state.output
        is_other, entry.streak = judge(check, state.status, found.status, entry.streak)
        if is_first or is_other or (is_sure and found.status != state.status):
            self._propose(entry, found)
        elif entry.streak and check.kind != "alias" and not entry.probes:
            # What contradicts is looked at again soon: the interval is how often, not how late.
            since_s = self._loop.time() - entry.begun_s
            self._look_in(entry, max(0.0, second_s(check) - since_s))

    def _alias(self, target: str) -> Found:
        service, _, instance_id = target.rpartition("/")
        record = (self._node.catalog.service(service) or {}).get(instance_id)
        if record is None:
            return Found("critical", f"{target} is not registered")
        status: CheckStatus = "critical"
        if record.health in ("passing", "warning") and not record.suspect:
            status = "passing" if record.health == "passing" else "warning"
        return Found(status, f"{target} is {'suspect' if record.suspect else record.health}")

    # TTL

    def reported(self, keys: Sequence[CheckKey]) -> None:
        """An entry of the log said how these are."""
        for key in keys:
            entry = self._roster.entries.get(key)
            if entry is not None and entry.is_mine and entry.state.check.kind == "ttl":
                self._renew(entry)

    async def hear(self, state: CheckState) -> bool:
        """Somebody says that a check is as it is: let its owner know; False if nobody was told."""
        key = (state.service, state.id, state.node, state.check.id)
        if self._hear(key):
            return True
        entry, others = self._roster.entries.get(key), self._node.others
        if entry is None or others is None:
            return False
        try:
            return bool(await others.call(owner_of(entry.seed, self._living), HEAR, _encode(key)))
        except Unavailable:
            return False

    async def _heard(self, src: int, body: bytes) -> bytes:  # noqa: ARG002
        return b"\x01" if self._hear(_decode_key(body)) else b""

    def _hear(self, key: CheckKey) -> bool:
        entry = self._roster.entries.get(key)
        if entry is None or not entry.is_mine:
            return False
        state = self._now(entry)
        if state is None or state.status == "critical" or entry.is_proposing:
            return False  # it may just have run out: say it in the log
        self._renew(entry)
        return True

    def _renew(self, entry: Entry) -> None:
        entry.due_s = self._loop.time() + entry.state.check.ttl_ms / 1000

    def _lapse(self, entry: Entry) -> None:
        """A timer went off: for a check that was renewed meanwhile, too early."""
        now_s = self._loop.time()
        late_s = now_s - entry.due_s
        state = self._now(entry)
        if late_s >= TICK_S and state is not None and state.status != "critical":
            # This node stood still: what was reported meanwhile is still in its sockets.
            entry.due_s = now_s + min(late_s, AGAIN_S)
        elif late_s >= 0:
            if state is not None and state.status != "critical" and not entry.is_proposing:
                ttl_s = state.check.ttl_ms / 1000
                last = f" (last: {state.output})" if state.output else ""
                why = f"TTL expired: nothing was reported for {ttl_s:g} s{last}"
                self._propose(entry, Found("critical", why))
            entry.due_s = now_s + max(AGAIN_S / 20, min(AGAIN_S, entry.state.check.ttl_ms / 1000))
        entry.timer = self._loop.call_at(max(entry.due_s, now_s + 0.001), self._lapse, entry)

    # What comes of it

    def _arm_reaping(self, entry: Entry) -> None:
        state = entry.state
        after_ms = state.check.deregister_after_ms
        if entry.reap is not None:
            entry.reap.cancel()
            entry.reap = None
        if after_ms and state.service and state.status == "critical":
            gone_ms = self._node.catalog.now_ms - state.since_ms
            delay_s = max(0, after_ms - gone_ms) / 1000
            entry.reap = self._loop.call_later(delay_s, self._reap, entry)

    def _reap(self, entry: Entry) -> None:
        state = self._now(entry)
        if state is None or state.status != "critical":
            return
        entry.reap = self._loop.call_later(AGAIN_S, self._reap, entry)  # unless it goes with this
        self._offer(entry, ReapCheck(state.service, state.id, state.check.id, state.since_ms))

    def _propose(self, entry: Entry, found: Found) -> None:
        service, instance_id, node, check_id = entry.key
        self._offer(
            entry, ReportCheck(service, instance_id, node, check_id, found.status, found.output)
        )

    def _offer(self, entry: Entry, command: Command) -> None:
        try:
            self._node.admit("register")
        except WaypostError as error:
            log.debug("%s: %s", entry.key, error)
            return
        entry.is_proposing = True
        self._node.offer(encode_part([command]), [command], _Proposed(entry), 0)

    def _now(self, entry: Entry) -> CheckState | None:
        service, instance_id, node, check_id = entry.key
        return self._node.catalog.checks.find((service, instance_id), node, check_id)


class _Proposed:
    """Who hears what became of a proposal: the next finding may be proposed."""

    __slots__ = ("_entry",)

    def __init__(self, entry: Entry) -> None:
        self._entry = entry

    def answered(self, ticket: int, revision: int, outcomes: list[Outcome]) -> None:  # noqa: ARG002
        self._entry.is_proposing = False
        self._entry.streak = 0

    def failed(self, ticket: int, error: WaypostError) -> None:  # noqa: ARG002
        self._entry.is_proposing = False
        log.debug("%s: not committed: %s", self._entry.key, error)
