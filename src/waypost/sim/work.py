"""What a task asks of the registry: the commands of a write, and what the checkers are told of it.

Services and plain keys are checked against a model, so each write has a value of its own, and what
compares names the value that its client saw last.  Checks, holders and transactions have no model:
they are there so that the state that all nodes must share has them in it, over snapshots, replays
and repetitions.
"""

from typing import Literal

from waypost.catalog.holders import session_of
from waypost.checks import Check, CheckStatus, NodeEntry
from waypost.commands import (
    Attach,
    CheckKey,
    CloseHolder,
    Command,
    Deregister,
    Detach,
    DropCheck,
    DropKey,
    OnCheck,
    OnNode,
    OnService,
    OpenHolder,
    Operation,
    PutCheck,
    PutKey,
    ReadKey,
    Register,
    RegisterChecked,
    ReportCheck,
    SetHealth,
    Transact,
)
from waypost.model import Health, Instance
from waypost.sim.plan import Task

UNTOLD = ("attach", "detach", "check", "hold", "transact")
"""What no checker is told of."""
_HEALTHS: tuple[Health, ...] = ("passing", "warning", "critical", "draining")
_ENDS: tuple[Literal["release", "delete"], ...] = ("release", "delete")
_STATUSES: tuple[CheckStatus, ...] = ("passing", "warning", "critical")

Args = tuple[str, ...]


class Work:
    """Of one client; what it saw of the keys, and the values that it wrote."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._value = 1_000 * (1 + number)
        self._seen: dict[str, tuple[str, int]] = {}

    def saw(self, key: str, value: str, revision: int) -> None:
        """A key had that value, at that revision; empty and 0 where there is none."""
        self._seen[key] = (value, revision)

    def commands(self, task: Task, seq: int) -> tuple[list[Command], Args]:
        """Tell the commands of a write, none for a read, and its arguments to the checkers."""
        service = key = subject(task)
        name = f"i{task.instance}"
        match task.kind:
            case "register":
                self._value += 1
                instance = Instance(service, name, "10.0.0.1", self._value)
                return [Register(instance)], (name, str(self._value))
            case "deregister":
                return [Deregister(service, name)], (name,)
            case "set_health":
                health = _HEALTHS[seq % len(_HEALTHS)]
                return [SetHealth(service, name, health)], (name, health)
            case "attach":
                return [Attach(f"session-{self._number}", f"m{task.machine}", 10_000, 2_000)], ()
            case "detach":
                return [Detach(f"session-{self._number}")], ()
            case "put_key":
                self._value += 1
                return [PutKey(key, b"%d" % self._value)], (str(self._value),)
            case "set_key":
                self._value += 1
                return [Transact([PutKey(key, b"%d" % self._value)])], (str(self._value),)
            case "cas_key":
                self._value += 1
                value, revision = self._seen.get(key, ("", 0))
                put = PutKey(key, b"%d" % self._value, cas=revision)
                return [put], (value, str(self._value))
            case "drop_key":
                return [DropKey(key)], ("",)
            case "check":
                return self._check(service, name, seq), ()
            case "hold":
                return self._hold(task, key, seq), ()
            case "transact":
                return [Transact(self._operations(service, name, seq))], ()
            case "read" | "read_stale" | "read_linear" | "read_key":
                return [], ()

    def _check(self, service: str, name: str, seq: int) -> list[Command]:
        check = Check("probe", kind="manual", deregister_after_ms=1_000)
        status = _STATUSES[seq % len(_STATUSES)]
        self._value += 1
        instance = Instance(service, name, "10.0.0.1", self._value, node=f"n{seq % 3}")
        match seq % 6:
            case 0:
                return [Register(instance), PutCheck(service, name, "", check, status)]
            case 2:
                return [RegisterChecked(Register(instance), (check,))]
            case 1:
                return [DropCheck(service, name, "", "probe"), Deregister(service, name)]
            case _:
                return [ReportCheck(service, name, "", "probe", status, f"seen at {seq}")]

    def _hold(self, task: Task, key: str, seq: int) -> list[Command]:
        holder = f"holder-{self._number}"
        match seq % 5:
            case 0:
                session = Attach(session_of(holder), f"m{task.machine}", 10_000, 2_000)
                return [session, OpenHolder(holder, "", "", 10_000, _ENDS[task.instance % 2], 400)]
            case 1 | 2:
                return [PutKey(key, b"%d" % seq, acquire=holder)]
            case 3:
                return [Transact([CheckKey(key, holder=holder), DropKey(key), ReadKey("lock-")])]
            case _:
                return [CloseHolder(holder)]

    def _operations(self, service: str, name: str, seq: int) -> list[Operation]:
        self._value += 1
        node = f"n{seq % 3}"
        instance = Instance(service, name, "10.0.0.1", self._value, node=node)
        probe = Check("probe", kind="manual")
        if seq % 4 == 0:
            return [OnService("delete", node, (name,)), OnNode("delete", NodeEntry(node))]
        return [
            OnNode("set", NodeEntry(node, "10.0.0.1")),
            OnService("set", node, (name,), instance),
            OnCheck("set", node, probe, (name,), _STATUSES[seq % len(_STATUSES)]),
            OnCheck("get", node, probe, (name,) if seq % 4 == 1 else ("another",)),
            PutKey(service, b"%d" % seq),
        ]


def subject(task: Task) -> str:
    """Name the service or the key that a task is about; each kind of work has its own."""
    match task.kind:
        case "put_key" | "set_key" | "cas_key" | "drop_key" | "read_key":
            return f"key-{task.service}"
        case "check" | "transact":
            return f"checked-{task.service}"
        case "hold":
            return f"lock-{task.service}"
        case _:
            return f"svc-{task.service}"
