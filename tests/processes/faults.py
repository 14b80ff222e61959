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
import json
import logging
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, Literal, get_args

import msgspec

from tests.processes.cluster import ClusterProcesses, NodeProcess, ask
from tests.processes.namespaces import Network, enter
from tests.processes.steady_load import SteadyLoad, told
from waypost.wire import ClusterAsk

Fault = Literal["kill", "stop", "partition", "wipe", "transfer"]

RATE: Final = 200
BEFORE_S: Final = 0.5
AFTER: Final = 100
"""So many more answers end a round."""
SETTLE_S: Final = 0.5


class Report(msgspec.Struct, frozen=True):
    """What came of some rounds of one fault; times are in milliseconds."""

    engine: str
    fault: str
    rounds: int
    sent: int
    answered: int
    failed: int
    verdict: str
    p50: float
    p99: float
    worst: float
    client_p50: float
    client_worst: float
    gaps: list[float]
    client_gaps: list[float]
    kinds: dict[str, int]
    failures: list[str]

    @property
    def is_good(self) -> bool:
        """Whether nothing was lost, stale or failed."""
        return self.verdict == "ok" and not self.failed


async def run_rounds(
    engine: str, fault: Fault, rounds: int, directory: Path, seconds: float = 3.0, seed: int = 1
) -> Report:
    """Let a fault happen so often, under load; ``directory`` keeps the data."""
    network = Network("abc") if fault == "partition" else None
    cluster = ClusterProcesses(directory, "--engine", engine, network=network)
    try:
        await asyncio.to_thread(cluster.start)
        load = SteadyLoad(cluster.addresses, RATE, seed)
        await cluster.leader()
        await load.until_answered(2 * AFTER)
        gaps: list[tuple[int, int]] = []
        for number in range(rounds):
            await asyncio.sleep(BEFORE_S)
            began = time.monotonic_ns()
            async with _fault(cluster, network, fault, number, seconds):
                await _until_led_again(load, time.monotonic_ns())
            await load.until_answered(AFTER)
            gaps.append(load.gaps(began - int(BEFORE_S * 5e8), time.monotonic_ns()))
            await cluster.until_members("abc")
            await asyncio.sleep(SETTLE_S)
        await load.stop()
        return _report(engine, fault, load, gaps)
    finally:
        await asyncio.to_thread(cluster.stop)
        if network is not None:
            network.close()


async def _until_led_again(load: SteadyLoad, since_ns: int) -> None:
    async with asyncio.timeout(30):
        while load.last_led() <= since_ns:
            await asyncio.sleep(0.005)


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
            before = {each.nid for each in (await cluster.until_members("abc")).members}
            await asyncio.to_thread(victim.kill)
            victim.wipe()
            yield
            await _start(victim)
            async with asyncio.timeout(30):
                while {each.nid for each in (await cluster.until_members("abc")).members} == before:
                    await asyncio.sleep(0.05)
        case "transfer":
            await ask(leader.address, ClusterAsk("transfer"))
            yield


async def _for_a_while(cut: Callable[[str], None], name: str, seconds: float) -> None:
    await asyncio.to_thread(cut, name)
    await asyncio.sleep(seconds)


async def _start(node: NodeProcess) -> None:
    node.begin()
    await asyncio.to_thread(node.wait_ready)


def _report(engine: str, fault: str, load: SteadyLoad, gaps: list[tuple[int, int]]) -> Report:
    whole = sorted(round(gap / 1e6, 1) for gap, _ in gaps)
    hardest = sorted(round(gap / 1e6, 1) for _, gap in gaps)
    return Report(
        engine,
        fault,
        len(gaps),
        load.sent,
        len(load.operations),
        len(load.failed),
        told(load.judge()),
        statistics.median(whole),
        whole[min(len(whole) - 1, int(0.99 * len(whole)))],
        whole[-1],
        statistics.median(hardest),
        hardest[-1],
        [round(gap / 1e6, 1) for gap, _ in gaps],
        [round(gap / 1e6, 1) for _, gap in gaps],
        load.kinds(),
        [f"{one.client} {one.what}, {(one.back - one.call) / 1e6:.0f} ms: {one.error}"
         for one in load.failed[:10]],
    )


def main() -> int:
    """Run what the command line says."""
    parser = argparse.ArgumentParser(prog="tests.processes.faults")
    parser.add_argument("--engine", choices=["raft", "paxos"], default="raft")
    parser.add_argument("--fault", choices=get_args(Fault), default="kill")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--directory", type=Path)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.fault == "partition" and not Network.is_own():
        done = enter("tests.processes.faults", sys.argv[1:])
        sys.stdout.write(done.stdout)
        return done.returncode
    logging.getLogger("waypost").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="waypost-faults-") as temporary:
        report = asyncio.run(
            run_rounds(
                options.engine,
                options.fault,
                options.rounds,
                options.directory or Path(temporary),
                options.seconds,
                options.seed,
            )
        )
    if options.json:
        print(json.dumps(msgspec.to_builtins(report)))
    else:
        print(in_words(report))
    return 0 if report.is_good else 1


def in_words(report: Report) -> str:
    """For people."""
    lines = [
        f"{report.engine}, {report.rounds} x {report.fault}: p50 {report.p50:.0f} ms, p99 "
        f"{report.p99:.0f} ms, worst {report.worst:.0f} ms; hardest hit client p50 "
        f"{report.client_p50:.0f} ms, worst {report.client_worst:.0f} ms; {report.sent} sent, "
        f"{report.answered} answered, {report.failed} failed; checkers: {report.verdict}",
        *report.failures,
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
