"""What a seed decides before a run begins: the setting, the faults and the work, as plain data.

A plan is drawn with *swarm testing* (Groce et al., ISSTA 2012): each seed leaves some kinds of
faults out altogether and favours others, because runs in which everything happens reach less than
runs in which one thing happens a lot.

Always true: a fault or a task can be left out of a plan, and what remains is a plan.  That is what
makes a failure small enough to read (``shrink``).
"""

from random import Random
from typing import Final, Literal

import msgspec

from waypost.consensus.core import Ns

Engine = Literal["raft", "paxos"]
ENGINES: Final[tuple[Engine, ...]] = ("raft", "paxos")

MS: Final[Ns] = 1_000_000
LEADER: Final = -1
"""In place of a machine: whoever leads when the fault strikes."""

FaultKind = Literal[
    "crash",  # the power goes: what was not synced is kept or lost; back after `span`
    "kill",  # the process ends, the power stays on
    "pause",  # stands still with a full inbox (SIGSTOP, a long collection, a slow host)
    "isolate",  # cut off from all others, both ways
    "deaf",  # hears nobody, is heard
    "mute",  # hears all, is not heard
    "cut",  # the link between two machines, both ways
    "cut_one_way",
    "split",  # the machines in two halves; `amount` is the mask of one half
    "maroon",  # cut off, with so many others that it is still a minority
    "bridge",  # one machine hears all, the others hear only it
    "clog",  # what is sent on a link arrives when the fault ends, all at once
    "slow",  # a link becomes slow by `amount` ms
    "stall",  # a disk takes as long as the fault lasts
    "disk_error",  # the next sync fails, and the process dies of it
    "full",  # a disk is full
    "rot",  # entries of a disk become unreadable, noticed at the next start: so it restarts
    "wipe",  # a machine gets an empty disk, and so a new node id
    "clock_jump",  # a clock jumps forward by `amount` ms
    "clock_stop",  # a clock stands still, and goes on where it stood
    "transfer",  # the operator hands leadership over
    "switch",  # the operator changes the engine
    "grow",  # the operator adds a member
    "shrink",  # the operator removes one
    "swap",  # the operator replaces one by a machine that is no member
    "snapshot",  # a node takes a snapshot now
]

_WEIGHTS: Final[dict[FaultKind, int]] = {
    "crash": 10,
    "kill": 6,
    "pause": 6,
    "isolate": 8,
    "deaf": 3,
    "mute": 3,
    "cut": 4,
    "cut_one_way": 4,
    "split": 5,
    "maroon": 8,
    "bridge": 3,
    "clog": 4,
    "slow": 3,
    "stall": 5,
    "disk_error": 3,
    "full": 2,
    "rot": 2,
    "wipe": 2,
    "clock_jump": 2,
    "clock_stop": 2,
    "transfer": 4,
    "switch": 4,
    "grow": 3,
    "shrink": 3,
    "swap": 2,
    "snapshot": 4,
}
_CHURN: Final[tuple[FaultKind, ...]] = (
    "crash",
    "kill",
    "pause",
    "isolate",
    "deaf",
    "mute",
    "cut",
    "cut_one_way",
    "split",
    "maroon",
    "clog",
    "stall",
    "transfer",
    "switch",
)
"""What makes leaders come and go."""
Pace = Literal["calm", "normal", "churn", "storm"]
"""Storm: the network is as slow as elections are long, so that several are always under way."""
PACES: Final[tuple[Pace, ...]] = ("calm", "normal", "normal", "churn", "churn", "storm", "storm")
_COUNTS: Final = {
    "calm": (0, 2, 4),
    "normal": (6, 10, 16, 24),
}
_WILD: Final[tuple[Pace, ...]] = ("churn", "storm")
_EPOCH_CHANGES: Final = ("switch", "grow", "shrink", "swap", "wipe")
_CLOCK_FAULTS: Final = ("clock_jump", "clock_stop")

TaskKind = Literal[
    "attach",
    "detach",
    "register",
    "deregister",
    "set_health",
    "read",  # whatever the node asked has, but never older than what this client saw
    "read_stale",  # bounded staleness
    "read_linear",
    "put_key",
    "set_key",  # by a transaction
    "cas_key",
    "drop_key",
    "read_key",  # linearizable
    "check",  # of an instance: given, reported, taken away
    "hold",  # a holder opened and closed, its keys acquired
    "transact",  # a node, a service, its check and a key, all or none
]
_TASK_WEIGHTS: Final[dict[TaskKind, int]] = {
    "attach": 2,
    "detach": 1,
    "register": 10,
    "deregister": 4,
    "set_health": 6,
    "read": 5,
    "read_stale": 4,
    "read_linear": 8,
    "put_key": 3,
    "set_key": 3,
    "cas_key": 5,
    "drop_key": 1,
    "read_key": 6,
    "check": 3,
    "hold": 4,
    "transact": 3,
}


class Fault(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One thing that goes wrong, or that an operator does."""

    at: Ns
    kind: FaultKind
    machine: int
    """Its number, or ``LEADER``."""
    other: int
    """A second machine, where the kind needs one; never the same as ``machine``."""
    span: Ns
    """For how long."""
    amount: int


class Task(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One call of one client."""

    at: Ns
    client: int
    kind: TaskKind
    service: int
    instance: int
    machine: int
    """The machine that is asked first."""


class Setting(msgspec.Struct, frozen=True, gc=False):
    """What holds for a whole run."""

    engine: Engine
    members: int
    spares: int
    """Machines that are no members at first."""
    clients: int
    loss_ppm: int
    repeat_ppm: int
    delay_min: Ns
    delay_max: Ns
    tail_ppm: int
    """How many messages take up to ``tail`` longer."""
    tail: Ns
    in_order: bool
    """Whether messages of a link overtake each other."""
    sync_min: Ns
    sync_max: Ns
    drift_ppm: tuple[int, ...]
    """By how much each machine's clock is fast."""
    offset: tuple[Ns, ...]
    lag: tuple[Ns, ...]
    """How long each machine takes to look into its inbox; 0: each message is taken at once."""
    snapshot_every: int
    """Entries after which a node takes a snapshot."""
    keeps_tail: bool
    """Whether a node keeps the log between its last two snapshots."""
    heartbeat: Ns
    trailing: int
    """Entries that a core keeps behind a snapshot."""
    window_bytes: int
    append_bytes: int
    leases: bool
    patience: Ns
    """How long a client waits for an answer before it is gone for good."""
    real_wal: bool
    """Whether logs are the files of the shipped write-ahead log, on simulated disks."""
    encodes: bool
    """Whether messages are encoded and decoded on their way."""
    heals: Literal["all", "core"]
    """Afterwards: every machine and link, or a majority and no more."""


class Plan(msgspec.Struct, frozen=True, gc=False):
    """Everything that a run is made of, but for chance on the way, which the seed fixes too."""

    seed: int
    setting: Setting
    faults: tuple[Fault, ...]
    tasks: tuple[Task, ...]
    horizon: Ns
    """When the faults stop."""


def stream(seed: int, name: str) -> Random:
    """A source of chance of its own for one purpose, so that purposes do not disturb each other."""
    return Random(f"{seed} {name}")


def draw_plan(seed: int, engine: Engine) -> Plan:
    """Decide what the run of a seed is; both engines meet the same faults and the same work."""
    rng = stream(seed, "plan")
    pace = rng.choice(PACES)
    setting = _draw_setting(rng, engine, pace)
    is_wild = pace in _WILD
    horizon = rng.choice((3000, 4500) if is_wild else (1500, 2500, 2500, 4000)) * MS
    faults = _draw_faults(rng, setting, horizon, pace)
    return Plan(seed, setting, faults, _draw_tasks(rng, setting, horizon, pace), horizon)


def _draw_setting(rng: Random, engine: Engine, pace: Pace) -> Setting:
    members = rng.choice((3, 3, 5, 5) if pace in _WILD else (1, 2, 3, 3, 3, 3, 3, 4, 5, 5))
    spares = rng.choice((0, 0, 1, 2))
    machines = members + spares
    is_storm = pace == "storm"
    delay_max = rng.choice((30, 60, 100) if is_storm else (1, 2, 5, 20)) * MS
    drifts = rng.choice((0, 1_000, 20_000))
    lags = rng.random() < 0.2
    return Setting(
        engine=engine,
        members=members,
        spares=spares,
        clients=rng.choice((2, 3, 4)),
        loss_ppm=rng.choice((0, 100_000, 250_000) if is_storm else (0, 0, 5_000, 30_000, 100_000)),
        repeat_ppm=rng.choice((0, 0, 10_000, 100_000)),
        delay_min=MS // 10,
        delay_max=delay_max,
        tail_ppm=rng.choice((0, 5_000, 50_000)),
        tail=rng.choice((20, 100, 400)) * MS,
        in_order=not is_storm and rng.random() < 0.5,
        sync_min=MS // 5,
        sync_max=rng.choice((3, 50) if is_storm else (1, 3, 10)) * MS,
        drift_ppm=tuple(rng.randint(-drifts, drifts) for _ in range(machines)),
        offset=tuple(rng.randrange(10_000) * MS for _ in range(machines)),
        lag=tuple(rng.choice((0, 0, 2, 10)) * MS if lags else 0 for _ in range(machines)),
        snapshot_every=rng.choice((8, 20, 60, 1_000)),
        keeps_tail=rng.random() < 0.5,
        heartbeat=rng.choice((30, 50)) * MS,
        trailing=rng.choice((0, 4, 16, 10_000)),
        window_bytes=rng.choice((500, 4_000, 4 << 20)),
        append_bytes=rng.choice((300, 256 << 10)),
        leases=rng.random() < 0.3,
        patience=rng.choice((200, 600, 600, 100_000)) * MS,
        real_wal=rng.random() < 0.12,
        encodes=rng.random() < 0.2,
        heals="core" if rng.random() < 0.25 else "all",
    )


def _draw_faults(rng: Random, setting: Setting, horizon: Ns, pace: Pace) -> tuple[Fault, ...]:
    machines = setting.members + setting.spares
    kinds: list[FaultKind] = [kind for kind in _WEIGHTS if rng.random() < 0.4] or ["crash"]
    if pace in _WILD:
        kinds = [kind for kind in kinds if kind in _CHURN] or ["isolate", "transfer"]
    elif rng.random() < 0.4:
        kinds = [kind for kind in kinds if kind not in _EPOCH_CHANGES] or ["crash"]
    if setting.leases:  # they are for clocks that drift and do nothing worse
        kinds = [kind for kind in kinds if kind not in _CLOCK_FAULTS] or ["crash"]
    weights = [_WEIGHTS[kind] * rng.choice((1, 1, 3)) for kind in kinds]
    is_wild = pace in _WILD
    prefers_leader = rng.choice((0.5, 0.9) if is_wild else (0.1, 0.4, 0.8))
    faults: list[Fault] = []
    for at, span in _draw_times(rng, horizon, pace):
        kind = rng.choices(kinds, weights)[0]
        machine = rng.randrange(machines)
        other = (machine + rng.randrange(1, machines)) % machines if machines > 1 else machine
        if rng.random() < prefers_leader:
            machine = LEADER
        faults.append(Fault(at, kind, machine, other, span, rng.randrange(1, 200)))
    return tuple(sorted(faults, key=_when))


def _draw_times(rng: Random, horizon: Ns, pace: Pace) -> list[tuple[Ns, Ns]]:
    """When faults strike, and for how long: here and there, or one upon the other."""
    if pace not in _WILD:  # 10 ms to 1.3 s, most of them short
        return [
            (rng.randrange(50 * MS, horizon), int(10 * MS * 2 ** (rng.random() * 7)))
            for _ in range(rng.choice(_COUNTS[pace]))
        ]
    times: list[tuple[Ns, Ns]] = []
    at, step = 50 * MS, rng.choice((60, 120, 200)) * MS
    while at < horizon:
        # Now and then one lasts for long enough that the others go on without whom it struck.
        times.append((at, int((0.2 + rng.random()) * rng.choice((0.5, 1, 2, 2, 5)) * step)))
        at += 1 + int(rng.random() * 2 * step)
    return times


def _draw_tasks(rng: Random, setting: Setting, horizon: Ns, pace: Pace) -> tuple[Task, ...]:
    machines = setting.members + setting.spares
    kinds: list[TaskKind] = list(_TASK_WEIGHTS)
    weights = [_TASK_WEIGHTS[kind] * rng.choice((0, 1, 1, 4)) for kind in kinds]
    weights[kinds.index("register")] += 3
    services = rng.choice((1, 2, 3))
    tasks: list[Task] = []
    for client in range(setting.clients):
        gap = rng.choice((20, 40, 80) if pace in _WILD else (15, 40, 100)) * MS
        at = rng.randrange(100 * MS)
        while at < horizon:
            kind = rng.choices(kinds, weights)[0]
            tasks.append(
                Task(
                    at,
                    client,
                    kind,
                    rng.randrange(services),
                    rng.randrange(3),
                    rng.randrange(machines),
                )
            )
            at += 1 + int(rng.random() * 2 * gap)
    return tuple(sorted(tasks, key=_when))


def _when(event: Fault | Task) -> Ns:
    return event.at
