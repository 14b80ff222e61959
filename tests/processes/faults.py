"""Rounds of real faults on a cluster of real processes under load, and what clients saw of them.

    python -m tests.processes.faults --engine raft --fault kill --rounds 100 [--json]

Prints how long no leader answered (from the last answer before the fault to the first after it,
over all clients, and for the client that it hit hardest), how many requests failed, and what the
checkers say of the whole history.  Exit code 1: something was lost, stale, or failed.

    kill       SIGKILL of the leader; it is started again on its data
    stop       SIGSTOP of the leader for --seconds
    partition  the leader is cut off from the other members for --seconds, in network namespaces;
               every second time from the clients too
    wipe       a member (every second time the leader) is killed and comes back with an empty disk
    transfer   leadership is handed over, as planned
"""

import argparse
import asyncio
import contextlib
import json
import logging
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal, get_args

import msgspec

from tests.processes.cluster import ClusterProcesses, NodeProcess, ask
from tests.processes.namespaces import Network, enter
from tests.processes.steady_load import Failed, SteadyLoad, told
from waypost.errors import WaypostError
from waypost.wire import ClusterAsk

Fault = Literal["kill", "stop", "partition", "wipe", "transfer"]

RATE: Final = 200
BEFORE_S: Final = 0.5
AFTER: Final = 100
"""So many more answers end a round."""
SETTLE_S: Final = 0.5
SLOW_NS: Final = 800_000_000
"""Why nobody was answered for longer is told on standard error."""


class Gaps(msgspec.Struct, frozen=True):
    """How long nobody was answered, in milliseconds; ``client``: who was hit hardest."""

    rounds: int
    p50: float
    p99: float
    worst: float
    client_p50: float
    client_worst: float
    all: list[float]
    client_all: list[float]


class Report(msgspec.Struct, frozen=True):
    """What came of some rounds."""

    engine: str
    gaps: dict[str, Gaps]
    """By fault."""
    sent: int
    answered: int
    kinds: dict[str, int]
    failed: int
    failures: list[str]
    """The first of them."""
    verdict: str

    @property
    def is_good(self) -> bool:
        """Whether nothing was lost, stale or failed."""
        return self.verdict == "ok" and not self.failed


async def run_rounds(
    engine: str, faults: Sequence[Fault], directory: Path, seconds: float = 3.0, seed: int = 1
) -> Report:
    """Let these happen, one after the other, under load; ``directory`` keeps the data."""
    network = Network("abc") if "partition" in faults else None
    cluster = ClusterProcesses(directory, "--engine", engine, network=network)
    try:
        await asyncio.to_thread(cluster.start)
        await cluster.until_members("abc")
        load = SteadyLoad(cluster.addresses, RATE, seed)
        await load.until_answered(2 * AFTER)
        gaps: dict[str, list[tuple[int, int]]] = {fault: [] for fault in faults}
        for fault in faults:
            await asyncio.sleep(BEFORE_S)
            began, began_s = time.monotonic_ns(), time.time()
            async with _fault(cluster, network, fault, len(gaps[fault]), seconds):
                await _until_led_again(load, time.monotonic_ns())
            await load.until_answered(AFTER)
            gaps[fault].append(load.gaps(began - int(BEFORE_S * 5e8), time.monotonic_ns()))
            if gaps[fault][-1][0] > SLOW_NS:
                _tell_of(cluster, fault, began_s)
            await cluster.until_members("abc")
            await asyncio.sleep(SETTLE_S)
        await load.stop()
        await load.look_at_all(cluster.addresses)
        return _report(engine, load, gaps)
    finally:
        await asyncio.to_thread(cluster.stop)
        if network is not None:
            network.close()


def _tell_of(cluster: ClusterProcesses, fault: str, since: float) -> None:
    """What the nodes said of a round that took long."""
    began = datetime.fromtimestamp(since, UTC).isoformat(timespec="milliseconds")
    lines = [f"{began[:23]}Z --- {fault}"]
    for node in cluster.nodes.values():
        said = node.log.read_text(errors="replace").splitlines()
        lines += [
            f"{line[:24]} {node.name}:{line[24:]}"
            for line in said
            if line[:23] >= began[:23] and "waypost.node: a read is tried" not in line
        ]
    print("\n".join(sorted(lines)), file=sys.stderr)


async def _until_led_again(load: SteadyLoad, since_ns: int) -> None:
    async with asyncio.timeout(30):
        while load.last_led() <= since_ns:
            await asyncio.sleep(0.005)


async def _until_all_are_past(cluster: ClusterProcesses, epoch: int) -> None:
    """Wait until every node has left ``epoch``: before that, one more loss is one too many."""
    async with asyncio.timeout(30):
        for node in cluster.nodes.values():
            newest = epoch
            while newest <= epoch:
                await asyncio.sleep(0.05)
                with contextlib.suppress(OSError, WaypostError, TimeoutError):
                    newest = (await ask(node.address, ClusterAsk("status"))).epoch


@asynccontextmanager
async def _fault(
    cluster: ClusterProcesses, network: Network | None, fault: Fault, number: int, seconds: float
) -> AsyncIterator[None]:
    """Let it happen; at the end, undo it."""
    leader = await cluster.leader()
    match fault:
        case "kill":
            await asyncio.to_thread(leader.kill)
            yield
            await _start(leader)
        case "stop":
            process = leader.process
            assert process is not None
            process.send_signal(signal.SIGSTOP)
            try:
                await asyncio.sleep(seconds)
                yield
            finally:
                process.send_signal(signal.SIGCONT)
        case "partition":
            assert network is not None
            cut, mend = network.cut, network.mend
            if number % 2:
                cut, mend = network.unplug, network.plug
            await _for_a_while(cut, leader.name, seconds)
            yield
            await asyncio.to_thread(mend, leader.name)
        case "wipe":
            victim = leader
            if number % 2 == 0:
                victim = next(node for node in cluster.nodes.values() if node is not leader)
            before = (await cluster.until_members("abc")).epoch
            await asyncio.to_thread(victim.kill)
            victim.wipe()
            yield
            await _start(victim)
            await _until_all_are_past(cluster, before)
        case "transfer":
            await ask(leader.address, ClusterAsk("transfer"))
            yield


async def _for_a_while(cut: Callable[[str], None], name: str, seconds: float) -> None:
    await asyncio.to_thread(cut, name)
    await asyncio.sleep(seconds)


async def _start(node: NodeProcess) -> None:
    node.begin()
    await asyncio.to_thread(node.wait_ready)


def _report(engine: str, load: SteadyLoad, gaps: dict[str, list[tuple[int, int]]]) -> Report:
    return Report(
        engine,
        {fault: _gaps(some) for fault, some in gaps.items()},
        load.sent,
        len(load.operations),
        load.kinds(),
        len(load.failed),
        [_failure(one) for one in load.failed[:10]],
        told(load.judge()),
    )


def _failure(failed: Failed) -> str:
    ms = (failed.back - failed.call) / 1e6
    return f"{failed.client}: {failed.kind} {failed.service}, {ms:.0f} ms: {failed.error}"


def _gaps(gaps: list[tuple[int, int]]) -> Gaps:
    every = [round(gap / 1e6, 1) for gap, _ in gaps]
    hardest = [round(gap / 1e6, 1) for _, gap in gaps]
    p99 = sorted(every)[min(len(every) - 1, int(0.99 * len(every)))]
    return Gaps(
        len(gaps),
        statistics.median(every),
        p99,
        max(every),
        statistics.median(hardest),
        max(hardest),
        every,
        hardest,
    )


def main() -> int:
    """Run what the command line says."""
    parser = argparse.ArgumentParser(prog="tests.processes.faults")
    parser.add_argument("--engine", choices=["raft", "paxos"], default="raft")
    parser.add_argument("--fault", choices=get_args(Fault), nargs="+", default=["kill"])
    parser.add_argument("--rounds", type=int, default=10, help="of each fault")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--directory", type=Path)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if "partition" in options.fault and not Network.is_own():
        done = enter("tests.processes.faults", sys.argv[1:])
        sys.stdout.write(done.stdout)
        return done.returncode
    logging.getLogger("waypost").setLevel(logging.ERROR)
    faults = [fault for fault in options.fault for _ in range(options.rounds)]
    with tempfile.TemporaryDirectory(prefix="waypost-faults-") as temporary:
        directory = options.directory or Path(temporary)
        report = asyncio.run(
            run_rounds(options.engine, faults, directory, options.seconds, options.seed)
        )
    print(json.dumps(msgspec.to_builtins(report)) if options.json else in_words(report))
    return 0 if report.is_good else 1


def in_words(report: Report) -> str:
    """For people."""
    lines = [
        f"{report.engine}, {gaps.rounds} x {fault}: p50 {gaps.p50:.0f} ms, p99 {gaps.p99:.0f} ms, "
        f"worst {gaps.worst:.0f} ms; hardest hit client p50 {gaps.client_p50:.0f} ms, worst "
        f"{gaps.client_worst:.0f} ms"
        for fault, gaps in report.gaps.items()
    ]
    lines.append(
        f"{report.sent} sent, {report.answered} answered, {report.failed} failed; checkers: "
        f"{report.verdict}"
    )
    return "\n".join(lines + report.failures)


if __name__ == "__main__":
    sys.exit(main())
