"""Entries as a busy cluster has them, from a seed."""

import random
from collections.abc import Iterator
from typing import Literal

from msgspec import structs

from waypost.catalog.holders import session_of
from waypost.catalog.state import Catalog
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
    DropNode,
    Expire,
    FireEvent,
    LogBatch,
    OpenHolder,
    Origin,
    PutCheck,
    PutKey,
    PutNode,
    ReadKey,
    Register,
    RegisterChecked,
    ReportCheck,
    SetHealth,
    Suspect,
    Sweep,
    Transact,
)
from waypost.model import HEALTHS, Instance

STATUSES: tuple[CheckStatus, ...] = ("passing", "warning", "critical")


def batches(seed: int, count: int) -> Iterator[LogBatch]:
    """Make entries that reach every command, refusals and the eviction guard included.

    What they say depends on what a catalog makes of them: one that differs soon differs in all.
    """
    draw = random.Random(seed)
    looks = random.Random(f"checks of {seed}")
    known = Catalog()
    writes = _origins(random.Random(seed))
    keyed = random.Random(seed)
    stamp_ms = 1_000
    for index in range(1, count + 1):
        stamp_ms += draw.choice((0, 10, 500, 3_000))
        parts = [
            [_command(draw, known) for _ in range(draw.randint(1, 12))]
            for _ in range(draw.randint(1, 4))
        ]
        if looks.random() < 0.5:
            parts[-1] += [_check_command(looks, known) for _ in range(looks.randint(1, 4))]
        origins = [next(writes) for _ in parts]
        parts.append([_key_command(keyed, known) for _ in range(keyed.randint(1, 4))])
        batch = LogBatch(stamp_ms, parts, [*origins, None])
        known.apply(index, batch)
        yield batch


def _origins(draw: random.Random) -> Iterator[Origin | None]:
    """Make origins of six clients, mostly new ones, and overtaken and repeated ones among them."""
    last = 0
    while True:
        last += draw.choice((1, 1, 1, 5))
        seq = max(0, last - draw.choice((0, 0, 0, 0, 2, 30, 300)))
        yield draw.choice((None, Origin(f"c-{draw.randrange(6)}", seq)))


def _key_command(draw: random.Random, known: Catalog) -> Command:
    key = draw.choice("ab") + "/" + draw.choice("xyz") * draw.randrange(3)
    holder = f"h-{draw.randrange(4)}"
    pair = known.keyspace.keys.find(key)
    revision = draw.choice((-1, 0, 7 if pair is None else pair.revision))
    value = draw.choice((b"", b"one", b"two"))
    match draw.choices(range(8), (20, 5, 2, 6, 3, 6, 5, 1))[0]:
        case 0:
            return PutKey(key, value, 0, revision, draw.choice(("", holder)))
        case 1:
            return DropKey(key, cas=revision)
        case 2:
            return DropKey(key[: draw.randrange(3)], is_prefix=True)
        case 3:
            behavior: Literal["release", "delete"] = draw.choice(("release", "delete"))
            return OpenHolder(holder, "", "n-1", draw.choice((0, 10_000)), behavior, 60_000)
        case 4:
            return draw.choice((CloseHolder(holder), Detach(session_of(holder))))
        case 5:
            return Attach(session_of(holder), "n-1", 10_000, 10_000)
        case 6:
            return Transact([PutKey(key, value), ReadKey("a", is_prefix=True), CheckKey("b/x")])
        case _:
            return FireEvent(f"e-{known.revision}", "deploy", value)


def _check_command(draw: random.Random, known: Catalog) -> Command:
    service, instance_id, node = draw.choice(("orders", "carts")), f"i-{draw.randrange(40)}", ""
    check_id = draw.choice(("http", "tcp", "ttl"))
    if draw.random() < 0.2:
        service, instance_id, node = "", "", draw.choice(("m-1", "m-2"))
    status = draw.choice(STATUSES)
    match draw.choices(range(6), (30, 5, 30, 3, 1, 15))[0]:
        case 0:
            check = Check(check_id, kind="manual", notes=draw.choice(("", "a note")))
            return PutCheck(service, instance_id, node, check, draw.choice(("", status)))
        case 1:
            return DropCheck(service, instance_id, node, check_id)
        case 2:
            output = draw.choice(("", "found", "lost"))
            return ReportCheck(service, instance_id, node, check_id, status, output)
        case 3:
            return PutNode(NodeEntry(draw.choice(("m-1", "m-2")), draw.choice(("a", "b"))))
        case 4:
            return DropNode(draw.choice(("m-1", "m-2")))
        case _:
            on = draw.choice(("", "m-1", "m-2"))
            records = known.service(service or "orders") or {}
            record = records.get(instance_id)
            if record is None:
                register = Register(Instance("orders", instance_id, "10.0.0.1", 1, node=on))
            else:
                register = Register(structs.replace(record.instance, incarnation=0, node=on))
            if draw.random() < 0.5:
                return register
            ids = draw.sample(("http", "tcp", "ttl"), draw.randrange(4))
            return RegisterChecked(register, tuple(Check(each, kind="manual") for each in ids))


def _command(draw: random.Random, known: Catalog) -> Command:
    service = draw.choice(("orders", "carts", "team-a/users"))
    instance_id = f"i-{draw.randrange(40)}"
    session = f"s-{draw.randrange(4)}"
    incarnation = draw.choice((0, 0, 0, draw.randrange(1, known.serial + 9)))
    opened = known.session(session)
    attachment = 0 if opened is None else opened.attachment
    match draw.choices(range(8), (60, 6, 10, 5, 1, 6, 3, 3))[0]:
        case 0:
            instance = Instance(
                service,
                instance_id,
                "10.0.0.1",
                draw.randrange(1, 4),
                draw.choice((None, 0.0, 1.0, 2.5)),
                draw.choice(("", "a", "b")),
                draw.choice(("1", "2")),
                draw.choice(((), ("x",), ("x", "y"))),
                draw.choice(({}, {"k": "v"}, {"k": "w", "l": "v"})),
                draw.choice(({}, {"metrics": 9100})),
                incarnation,
            )
            return Register(instance, draw.choice(("", session, session, session)))
        case 1:
            return Deregister(service, instance_id, incarnation)
        case 2:
            return SetHealth(service, instance_id, draw.choice(HEALTHS), draw.choice(("", "why")))
        case 3:
            return Attach(session, draw.choice(("n-1", "n-2")), 10_000, 2_000)
        case 4:
            return Detach(session)
        case 5:
            return Suspect(session, attachment)
        case 6:
            return Expire(session, attachment)
        case _:
            return Sweep()
