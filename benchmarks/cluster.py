"""The same work on three nodes of ours, by raft and by paxos, and on three of etcd, in one run.

All nine processes' data is on the same disk, fsync on; one cluster runs at a time, each on fresh
data.  Where clients may go to the leader alone or to all members, both are measured, and the
faster counts.

    registrations   500 connections with one outstanding each.  etcd: puts of a value of the same
                    size through its JSON gateway under wrk
    one connection  one registration after the other.  etcd: one put after the other, by its gRPC
                    interface and by its gateway
    bulk            8 clients; ours keep 512 registrations outstanding each.  etcd: transactions of
                    128 puts by its gRPC interface, 8 clients
    resolves        10 instances over HTTP, linearizable, under wrk, 64 connections.  etcd: a range
                    over 10 keys through its gateway (linearizable is its default)

``WAYPOST_BENCH_ROUNDS`` and ``WAYPOST_BENCH_SECONDS`` say how long; the median of the ratios of the
rounds counts, because the machine's speed drifts.
"""

import json
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial

from benchmarks import etcd as one
from benchmarks.clusters import NAMES, EtcdCluster, OurCluster, etcd_cluster, our_cluster
from benchmarks.servers import etcd_version

ROUNDS = int(os.environ.get("WAYPOST_BENCH_ROUNDS", "3"))
SECONDS = int(os.environ.get("WAYPOST_BENCH_SECONDS", "5"))
ENGINES = ("raft", "paxos")
Measure = tuple[float, float, str]
"""Operations a second, p99 in milliseconds (0: not measured), and how."""


def main() -> None:
    version = etcd_version()
    if not version:
        print("etcd or wrk is not installed: apt-get install etcd-server wrk; skipped")
        return
    print(f"{version}; {ROUNDS} rounds of {SECONDS} s each, in turn, each on fresh data")
    rows: dict[str, dict[str, list[Measure]]] = {}
    for _ in range(ROUNDS):
        for name, (mine, theirs) in MEASURES.items():
            row = rows.setdefault(name, {})
            for engine in ENGINES:
                with our_cluster(engine) as cluster:
                    row.setdefault(engine, []).append(mine(cluster))
            with etcd_cluster() as other:
                row.setdefault("etcd", []).append(theirs(other))
            _show_row(name, {side: some[-1:] for side, some in row.items()}, "  ")
    print("\nall rounds, median")
    for name, row in rows.items():
        _show_row(name, row, "")


def _show_row(name: str, row: dict[str, list[Measure]], indent: str) -> None:
    theirs = row["etcd"]
    parts = [f"{indent}{name:24}"]
    for side, some in row.items():
        rate = statistics.median(each[0] for each in some)
        p99 = statistics.median(each[1] for each in some)
        how = "/".join(dict.fromkeys(each[2] for each in some))
        parts.append(f"{side} {rate:,.0f}/s p99 {p99:.1f} ms ({how})")
    for engine in ENGINES:
        ratios = [mine[0] / other[0] for mine, other in zip(row[engine], theirs, strict=True)]
        each = ", ".join(f"{ratio:.1f}" for ratio in ratios)
        parts.append(f"{engine} {statistics.median(ratios):.1f} x etcd ({each})")
    print("; ".join(parts), flush=True)


def _fastest(measures: list[Measure]) -> Measure:
    return max(measures)


def _ways(leader: str) -> dict[str, list[str]]:
    return {"leader": [leader], "all": [leader, *(name for name in NAMES if name != leader)]}


def _ours(*arguments: str) -> Callable[[OurCluster], Measure]:
    def measure(cluster: OurCluster) -> Measure:
        some: list[Measure] = []
        for way, servers in _ways(cluster.leader()).items():
            if way == "all" and "1" in arguments[2:3]:
                continue  # one connection has one end
            found = cluster.bench(servers, *arguments, "--seconds", str(SECONDS))
            some.append((found["ops_per_s"], found["p99_ms"], way))
        return _fastest(some)

    return measure


def _etcd_registrations(cluster: EtcdCluster) -> Measure:
    lines = [
        json.dumps({"key": one.base64_of(one.key_of(n)), "value": one.base64_of(one.value_of(n))})
        for n in range(10_000)
    ]
    return _by_gateway(cluster, "/v3/kv/put", lines, 500)


def _etcd_one_connection(cluster: EtcdCluster) -> Measure:
    leader = cluster.native(cluster.leader())
    lines = [
        json.dumps({"key": one.base64_of(one.key_of(n)), "value": one.base64_of(one.value_of(n))})
        for n in range(1_000)
    ]
    rate, p99 = one.posted(leader, "/v3/kv/put", lines, 1, seconds=SECONDS)
    puts = [one.put_request(n) for n in range(1_000)]
    by_grpc = grpc_calls(leader, "/etcdserverpb.KV/Put", puts, clients=1)
    return _fastest([(rate, p99, "gateway"), by_grpc])


def _etcd_bulk(cluster: EtcdCluster) -> Measure:
    leader = cluster.native(cluster.leader())
    rate, p99, how = grpc_calls(leader, "/etcdserverpb.KV/Txn", one.transactions(), clients=8)
    return rate * one.PUTS_PER_TXN, p99, how


def _our_resolves(cluster: OurCluster) -> Measure:
    leader = cluster.leader()
    one.register_ten(cluster.http(leader))
    path = "/api/v1/services/bench-ten?consistency=linearizable"
    some: list[Measure] = []
    for way, servers in _ways(leader).items():
        some.append((*_wrk_on([f"http://{cluster.http(name)}{path}" for name in servers]), way))
    return _fastest(some)


def _etcd_resolves(cluster: EtcdCluster) -> Measure:
    leader = cluster.leader()
    one.put_ten(cluster.native(leader), one.ten_of_the_size_of_ours())
    return _by_gateway(cluster, "/v3/kv/range", [json.dumps(one.RANGE_OF_TEN)], 64)


def _by_gateway(cluster: EtcdCluster, path: str, lines: list[str], connections: int) -> Measure:
    some: list[Measure] = []
    for way, members in _ways(cluster.leader()).items():
        post = partial(one.posted, path=path, lines=lines, connections=connections // len(members))
        runs = [partial(post, cluster.native(name), seconds=SECONDS) for name in members]
        found = _at_once(runs)
        some.append((*found, way))
    return _fastest(some)


def _wrk_on(urls: list[str]) -> tuple[float, float]:
    share = 64 // len(urls)
    return _at_once([partial(one.wrk, url, connections=share, seconds=SECONDS) for url in urls])


def _at_once(runs: Sequence[Callable[[], tuple[float, float]]]) -> tuple[float, float]:
    """Side by side: the sum of the rates, the worst of the p99s."""
    found: list[tuple[float, float]] = []
    threads = [threading.Thread(target=lambda run=run: found.append(run())) for run in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if len(found) < len(runs):
        raise RuntimeError("a run failed; its traceback says why")
    return sum(rate for rate, _ in found), max(p99 for _, p99 in found)


def grpc_calls(address: str, method: str, requests: list[bytes], *, clients: int) -> Measure:
    """Threads, each with a channel of its own, one call after the other."""
    import grpc

    took: list[list[float]] = [[] for _ in range(clients)]
    end = time.perf_counter() + SECONDS

    def client(number: int) -> None:
        with grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            call = channel.unary_unary(
                method,
                request_serializer=lambda raw: raw,
                response_deserializer=lambda raw: raw,
            )
            turn = number * 13
            while (begun := time.perf_counter()) < end:
                call(requests[turn % len(requests)])
                took[number].append(time.perf_counter() - begun)
                turn += 1

    threads = [threading.Thread(target=client, args=(n,)) for n in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ranked = sorted(each for some in took for each in some)
    if not ranked:
        raise RuntimeError(f"no call of {method} at {address} was answered")
    return len(ranked) / SECONDS, ranked[int(0.99 * len(ranked))] * 1000, "gRPC"


MEASURES: dict[str, tuple[Callable[[OurCluster], Measure], Callable[[EtcdCluster], Measure]]] = {
    "registrations, 500 x 1": (
        _ours("write", "--connections", "500", "--window", "1"),
        _etcd_registrations,
    ),
    "one connection": (
        _ours("write", "--connections", "1", "--window", "1"),
        _etcd_one_connection,
    ),
    "bulk, 8 x 512": (_ours("write", "--connections", "8", "--window", "512"), _etcd_bulk),
    "linearizable resolves": (_our_resolves, _etcd_resolves),
}


if __name__ == "__main__":
    sys.exit(main())
