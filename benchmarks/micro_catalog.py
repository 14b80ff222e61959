"""What the catalog costs: time per command, bytes per instance, and the longest pause of a dump.

    python benchmarks/micro_catalog.py [INSTANCES] [--services N] [--per-session N] [--json]

Commands are decoded from bytes just before they are applied, as a replica does, and only ``apply``
is timed.  Times are processor time; memory is the growth of the resident set from an empty catalog
to a full one: records, sessions and history.  The garbage collector is off, as in band in a node.
"""

import argparse
import gc
import json
import os
import time
from collections.abc import Iterator

from waypost.catalog.snapshots import digest, dump, load
from waypost.catalog.state import Catalog
from waypost.commands import (
    Attach,
    Command,
    Deregister,
    Origin,
    Register,
    SetHealth,
    decode_batch,
    encode_batch,
    encode_part,
)
from waypost.model import Instance

BATCH = 250
ZONES = ("zone-a", "zone-b", "zone-c")


def instance(number: int, services: int, incarnation: int = 0, weight: float = 1.0) -> Instance:
    """Make a realistic instance: 24 characters of id, two tags, two pairs of metadata."""
    return Instance(
        f"service-{number % services:04d}",
        f"i-{number * 2654435761 % 2**88:022x}",
        f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}",
        8000 + number % 40,
        weight,
        ZONES[number % 3],
        f"1.{number % services % 20}.{number % 4}",
        ("http", ("blue", "green")[number % 2]),
        {"team": f"team-{number % services % 50}", "rack": f"rack-{number % 64}"},
        incarnation=incarnation,
    )


class Bench:
    """One catalog, and the figures taken so far."""

    def __init__(self, instances: int, services: int, per_session: int) -> None:
        self.catalog = Catalog()
        self.instances = instances
        self.services = services
        self.per_session = per_session
        self.figures: dict[str, float] = {}

    def session(self, number: int) -> str:
        return f"session-{number // self.per_session:016x}"

    def run(self, name: str, commands: Iterator[Command], origins: int = 0) -> float:
        """Apply commands in batches; note the nanoseconds for each under ``name``.

        With ``origins``, each command is a write of its own, of one of so many clients in turn.
        """
        spent = applied = longest = 0
        while part := [command for _, command in zip(range(BATCH), commands, strict=False)]:
            index = self.catalog.revision + 1
            payload = encode_batch(index, [encode_part(part)])
            if origins:
                payload = encode_batch(
                    index,
                    [encode_part([command]) for command in part],
                    [Origin(f"{n % origins:032x}", n) for n in range(applied, applied + len(part))],
                )
            batch = decode_batch(payload)
            began = time.thread_time_ns()
            self.catalog.apply(index, batch)
            took = time.thread_time_ns() - began
            spent += took
            longest = max(longest, took)
            applied += len(part)
        self.figures[name] = round(spent / applied)
        return longest / 1e6

    def commands(self) -> None:
        """Time each command over all instances, or a sample of them."""
        sample = min(self.instances, 200_000)
        before = resident()
        sessions = -(-self.instances // self.per_session)
        first = range(0, sessions * self.per_session, self.per_session)
        self.run("attach_ns", (Attach(self.session(n), "node-1", 10_000, 2_000) for n in first))
        longest = self.run(
            "register_new_ns",
            (Register(instance(n, self.services), self.session(n)) for n in range(self.instances)),
        )
        self.figures["register_longest_batch_ms"] = round(longest, 2)
        self.figures["bytes_per_instance"] = round((resident() - before) / self.instances)
        self.run(
            "register_same_ns",
            (Register(self.known(n), self.session(n)) for n in range(sample)),
        )
        self.run(
            "register_changed_ns",
            (Register(self.known(n, weight=2.0), self.session(n)) for n in range(sample)),
        )
        self.run(
            "register_changed_with_origin_ns",
            (Register(self.known(n, weight=3.0), self.session(n)) for n in range(sample)),
            500,
        )
        self.run(
            "set_health_ns",
            (
                SetHealth(each.service, each.id, "warning", "slow")
                for each in (instance(n, self.services) for n in range(sample))
            ),
        )
        self.run(
            "deregister_ns",
            (
                Deregister(each.service, each.id)
                for each in (instance(n, self.services) for n in range(sample))
            ),
        )
        self.run(
            "register_again_ns",
            (Register(instance(n, self.services), self.session(n)) for n in range(sample)),
        )

    def known(self, number: int, weight: float = 1.0) -> Instance:
        given = instance(number, self.services)
        records = self.catalog.service(given.service)
        assert records is not None
        held = records[given.id].instance
        return instance(number, self.services, held.incarnation, weight)

    def snapshots(self) -> None:
        """Time a dump in steps, alone and with writes between them, and a load."""
        chunks = self.dump("dump")
        size = sum(map(len, chunks))
        self.figures["snapshot_bytes_per_instance"] = round(size / self.instances)
        self.figures["dump_chunks"] = len(chunks)
        self.dump("dump_under_writes", writes=True)
        gc.collect()
        before = resident()
        began = time.thread_time()
        loaded = load(chunks)
        self.figures["load_s"] = round(time.thread_time() - began, 2)
        self.figures["loaded_bytes_per_instance"] = round((resident() - before) / self.instances)
        began = time.thread_time()
        digest(loaded)
        self.figures["digest_s"] = round(time.thread_time() - began, 2)

    def dump(self, name: str, *, writes: bool = False) -> list[bytes]:
        chunks: list[bytes] = []
        steps: list[int] = []
        applies: list[int] = []
        began = time.thread_time_ns()
        walk = dump(self.catalog)
        steps.append(time.thread_time_ns() - began)
        number = 0
        while True:
            if writes:
                number += 1
                # Spread over services and sessions, so that each one captures something anew.
                each = self.known(number * 7919 % self.instances, weight=float(number % 9))
                session = self.session(number * 7919 % self.instances)
                part: list[Command] = [
                    Attach(session, "node-2", 9_000, 1_000),
                    Register(each, session),
                ]
                index = self.catalog.revision + 1
                batch = decode_batch(encode_batch(index, [encode_part(part)]))
                began = time.thread_time_ns()
                self.catalog.apply(index, batch)
                applies.append(time.thread_time_ns() - began)
            began = time.thread_time_ns()
            chunk = next(walk, None)
            steps.append(time.thread_time_ns() - began)
            if chunk is None:
                break
            chunks.append(chunk)
        self.figures[f"{name}_s"] = round(sum(steps) / 1e9, 2)
        self.figures[f"{name}_longest_step_ms"] = round(max(steps) / 1e6, 2)
        if applies:
            self.figures[f"{name}_longest_apply_ms"] = round(max(applies) / 1e6, 2)
        return chunks


def resident() -> int:
    """Tell the resident set of this process, in bytes."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGESIZE")


def main() -> None:
    parser = argparse.ArgumentParser(description="What the catalog costs.")
    parser.add_argument("instances", type=int, nargs="?", default=100_000)
    parser.add_argument("--services", type=int, default=0, help="one per thousand instances")
    parser.add_argument("--per-session", type=int, default=1, help="instances of a session")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    gc.disable()
    services = options.services or max(1, options.instances // 1000)
    bench = Bench(options.instances, services, options.per_session)
    bench.commands()
    bench.snapshots()
    bench.figures |= {"instances": options.instances, "services": services}
    if options.json:
        print(json.dumps(bench.figures))
        return
    for name, value in bench.figures.items():
        print(f"{name:36} {value:>14,}")


if __name__ == "__main__":
    main()
