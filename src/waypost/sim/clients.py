"""The clients: sessions that retry until they are answered, and write down what they saw.

A client has one call under way.  Whoever refuses names the leader, and is believed; who does not
answer in time is passed over.  A write is repeated with the origin that it had, so that it takes
effect once; a client that loses patience is gone for good, and another begins in its place.

The history that comes of it is for the checkers: virtual times, and the indexes that were told.
"""

from collections.abc import Callable, Mapping
from random import Random
from typing import Protocol

import msgspec

from waypost.commands import Origin, encode_part
from waypost.consensus.core import Index, Nid, Ns
from waypost.errors import UnknownInstance, UnknownService
from waypost.sim.checkers.history import Operation, Result
from waypost.sim.checkers.models import OK, UNKNOWN
from waypost.sim.marks import Marks
from waypost.sim.messages import Reply, Request
from waypost.sim.plan import MS, Setting, Task
from waypost.sim.work import UNTOLD, Work, subject

ATTEMPT: Ns = 120 * MS
PAUSE: Ns = 10 * MS
LATE: Ns = 400 * MS
"""A task that had to wait for longer is left out."""
STALE_ATTEMPTS = 4
STALE: tuple[Ns, ...] = (20 * MS, 100 * MS, 500 * MS)
_KINDS = {
    "set_health": "health",
    "read": "resolve",
    "read_stale": "resolve",
    "read_linear": "resolve",
    "put_key": "write",
    "set_key": "write",
    "drop_key": "write",
    "cas_key": "cas",
    "read_key": "read",
}
"""What the checkers call it."""


class Surroundings(Protocol):
    """Where clients live."""

    def call(self, at: Ns, what: Callable[[Ns], None]) -> None:
        """Do something later."""
        ...

    def send(self, client: int, machine: int, request: Request) -> None:
        """Send a request."""
        ...

    def machine_of(self, nid: Nid) -> int | None:
        """Where a node lives."""
        ...


class Notebook:
    """What all clients saw: the operations, and the origin of each beside it."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self.origins: list[Origin] = []

    def write(self, origin: Origin, operation: Operation) -> None:
        """Add an operation."""
        self.operations.append(operation)
        self.origins.append(origin)

    def settled(self, places: Mapping[Origin, Index]) -> list[Operation]:
        """The history, with what never came back where the log has it, or left out."""
        kept: list[Operation] = []
        for operation, origin in zip(self.operations, self.origins, strict=True):
            if operation.back is not None:
                kept.append(operation)
            elif (index := places.get(origin)) is not None:
                kept.append(msgspec.structs.replace(operation, index=index))
        return kept


class Client:
    """One of them.

    Invariant: at most one call is under way; its number is ``seq``.
    """

    def __init__(
        self,
        number: int,
        setting: Setting,
        tasks: list[Task],
        rng: Random,
        around: Surroundings,
        marks: Marks,
        notebook: "Notebook",
    ) -> None:
        self._number = number
        self._patience = setting.patience
        self._machines = setting.members + setting.spares
        self._tasks = tasks[::-1]
        self._rng = rng
        self._around = around
        self._marks = marks
        self._notebook = notebook
        self._life = 0
        self._is_ending = False
        self._request: Request | None = None
        self._task: Task | None = None
        self._machine = 0
        self._called: Ns = 0
        self._seq = 0
        self._seen: Index = 0
        self._work = Work(number)
        self._args: tuple[str, ...] = ()

    @property
    def id(self) -> int:
        """Of this life of it: nobody else writes under it."""
        return self._life * 100 + self._number

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way, and nothing will be."""
        return self._request is None and not self._tasks

    def start(self) -> None:
        """Begin with the first task."""
        self._next(0)

    def end(self) -> None:
        """Take on nothing new, and wait for the answer to what is under way, however long."""
        self._tasks.clear()
        self._is_ending = True

    def _next(self, now: Ns) -> None:
        while self._tasks and self._tasks[-1].at < now - LATE:
            self._tasks.pop()
        if self._tasks:
            task = self._tasks.pop()
            self._task = task
            self._around.call(max(now + MS // 10, task.at), lambda at: self._begin(at, task))

    def _begin(self, now: Ns, task: Task) -> None:
        if self._is_ending:
            return
        self._seq += 1
        self._called = now
        self._machine = task.machine
        commands, self._args = self._work.commands(task, self._seq)
        self._request = Request(
            self.id,
            self._seq,
            0,
            task.kind,
            encode_part(commands) if commands else b"",
            subject(task),
            self._seen,
            STALE[task.instance % len(STALE)] if task.kind == "read_stale" else 0,
        )
        self._attempt(now)

    def _attempt(self, now: Ns) -> None:
        request = self._request
        assert request is not None
        attempt = request.attempt + 1
        self._request = Request(
            request.client,
            request.seq,
            attempt,
            request.kind,
            request.part,
            request.subject,
            request.seen,
            request.stale,
        )
        if attempt > 1:
            self._marks.hit("client tries again")
        self._around.send(self._number, self._machine, self._request)
        self._around.call(now + ATTEMPT, lambda at: self._overdue(at, request.seq, attempt))

    def _overdue(self, now: Ns, seq: int, attempt: int) -> None:
        request = self._request
        if request is None or (request.seq, request.attempt) != (seq, attempt):
            return
        if not self._is_ending and now - self._called > self._patience:
            self._give_up(now)
            return
        self._machine = self._rng.randrange(self._machines)
        self._attempt(now)

    def reply(self, now: Ns, reply: Reply) -> None:
        """An answer came."""
        request = self._request
        if request is None or (request.client, request.seq) != (reply.client, reply.seq):
            return
        if reply.what == "done":
            # To whichever attempt: they all are the same call.
            self._done(now, request, reply)
        elif request.kind == "read_stale" and request.attempt >= STALE_ATTEMPTS:
            self._marks.hit("stale read given up")  # nobody is that fresh: an error, to its caller
            self._request = None
            self._next(now)
        elif reply.attempt == request.attempt:
            leader = self._around.machine_of(reply.leader) if reply.leader else None
            self._machine = self._rng.randrange(self._machines) if leader is None else leader
            seq, attempt = request.seq, request.attempt
            self._around.call(now + PAUSE, lambda at: self._retry(at, seq, attempt))

    def _retry(self, now: Ns, seq: int, attempt: int) -> None:
        request = self._request
        if request is not None and (request.seq, request.attempt) == (seq, attempt):
            if not self._is_ending and now - self._called > self._patience:
                self._give_up(now)
            else:
                self._attempt(now)

    def _done(self, now: Ns, request: Request, reply: Reply) -> None:
        is_read = not request.part
        self._note(request, now, _result(request, reply), reply.index)
        self._learn(request, reply)
        self._seen = max(self._seen, reply.index)
        self._request = None
        self._marks.hit(f"{request.kind} done")
        if not is_read and reply.result != OK:
            self._marks.hit(f"write {reply.result}")
        self._next(now)

    def _learn(self, request: Request, reply: Reply) -> None:
        if request.kind == "read_key":
            self._work.saw(request.subject, reply.result, reply.revision)
        elif request.kind == "set_key" and reply.result == OK:  # a transaction says where it is
            self._work.saw(request.subject, self._args[-1], reply.index)

    def _give_up(self, now: Ns) -> None:
        request = self._request
        assert request is not None
        self._marks.hit("client gave up")
        self._note(request, None, None, None)
        self._request = None
        self._life += 1
        self._seq = 0
        self._seen = 0
        self._next(now)

    def _note(self, request: Request, back: Ns | None, result: Result, index: Index | None) -> None:
        if request.kind in UNTOLD:
            return
        stale = {"read": None, "read_stale": request.stale}.get(request.kind, 0)
        self._notebook.write(
            Origin(origin_name(request.client), request.seq),
            Operation(
                origin_name(request.client),
                request.subject,
                _KINDS.get(request.kind, request.kind),
                self._args,
                result,
                self._called,
                back,
                index,
                stale=stale,
            ),
        )


def _result(request: Request, reply: Reply) -> Result:
    """What the checkers are told."""
    if request.part or request.kind == "read_key":
        is_unknown = reply.result in (UnknownService.code, UnknownInstance.code)
        return UNKNOWN if is_unknown else reply.result
    return reply.instances


def origin_name(client: int) -> str:
    """The id under which a life of a client writes."""
    return f"client-{client}"
