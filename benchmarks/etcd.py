"""The same work here and on etcd, in turn, on the same machine and disk, fsync on.

    registrations   500 connections with one outstanding each.  etcd: puts of a value of the same
                    size through its JSON gateway under wrk; ``etcdctl check perf`` is run once
                    beside it, and the faster of the two counts
    bulk            8 clients; ours keep 512 registrations outstanding on a connection each.  etcd:
                    transactions of 128 puts, 8 clients, by its gRPC interface and by its gateway:
                    the faster counts
    resolves        10 instances over HTTP under wrk, 64 connections.  etcd: a range over 10 keys
                    through its gateway; values of the same bytes
    renewals        of sessions, ours alone

Rounds alternate, and the median of the ratios counts: the machine's speed drifts.
"""

import base64
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from benchmarks.servers import Ours, etcd, etcd_version, ours

ROUNDS = 3
SECONDS = 5
PUTS_PER_TXN = 128

_PUT_LUA = """
local bodies = {}
local n = 0
for line in io.lines("%s") do bodies[#bodies + 1] = line end
function init(args) n = math.random(#bodies) end
function request()
  n = n + 1
  return wrk.format("POST", "%s", {["Content-Type"] = "application/json"}, bodies[n %% #bodies + 1])
end
"""


def main() -> None:
    version = etcd_version()
    if not version:
        print("etcd or wrk is not installed: apt-get install etcd-server wrk; skipped")
        return
    print(f"{version}; {ROUNDS} rounds of {SECONDS} s each, in turn, each on fresh data")
    rows: dict[str, list[tuple[float, float]]] = {}
    p99: list[tuple[float, float]] = []
    renewals: list[float] = []
    for _ in range(ROUNDS):
        with ours() as registry:
            mine = registry.bench("write", "--connections", "500", "--window", "1", *_seconds())
        with etcd() as other:
            theirs, theirs_p99 = _etcd_puts(other)
        rows.setdefault("registrations, 500 x 1", []).append((mine["ops_per_s"], theirs))
        p99.append((mine["p99_ms"], theirs_p99))

        with ours() as registry:
            mine = registry.bench("write", "--connections", "8", "--window", "512", *_seconds())
            renewed = registry.bench("renew", "--connections", "8", "--window", "64", *_seconds())
        renewals.append(renewed["ops_per_s"])
        with etcd() as other:
            theirs = _etcd_bulk_grpc(other)
        rows.setdefault("bulk, against its gRPC", []).append((mine["ops_per_s"], theirs))
        with etcd() as other:
            theirs = _etcd_bulk_gateway(other)
        rows.setdefault("bulk, against its gateway", []).append((mine["ops_per_s"], theirs))

        with ours() as registry, etcd() as other:
            put_ten(other, _ten(registry))
            url = f"http://{registry.http}/api/v1/services/bench-ten"
            rate, _ = wrk(url, connections=64)
            theirs, _ = _etcd_ranges(other)
        rows.setdefault("HTTP resolves of 10", []).append((rate, theirs))
    with etcd() as other:
        print(f"etcdctl check perf --load xl: {_etcd_check_perf(other):,.0f} puts/s")
    _show(rows, p99, renewals)


def _show(
    rows: dict[str, list[tuple[float, float]]],
    p99: list[tuple[float, float]],
    renewals: list[float],
) -> None:
    print(f"{'':28}{'ours/s':>12}{'etcd/s':>12}{'ratio':>8}   (each round)")
    for name, pairs in rows.items():
        ratios = [a / b for a, b in pairs]
        mine, theirs = (
            statistics.median(a for a, _ in pairs),
            statistics.median(b for _, b in pairs),
        )
        each = "  ".join(f"{ratio:.1f}" for ratio in ratios)
        print(f"{name:28}{mine:12,.0f}{theirs:12,.0f}{statistics.median(ratios):8.1f}   ({each})")
    mine, theirs = statistics.median(a for a, _ in p99), statistics.median(b for _, b in p99)
    print(f"{'registrations, p99 ms':28}{mine:12.1f}{theirs:12.1f}{mine / theirs:8.2f}")
    print(f"{'renewals':28}{statistics.median(renewals):12,.0f}")


def wrk(
    url: str, *, connections: int, lua: str = "", seconds: int = SECONDS
) -> tuple[float, float]:
    """Requests a second and p99 in milliseconds; raises if any answer was not a 2xx."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(lua)
        script.flush()
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency"]
        command += ["-s", script.name] if lua else []
        out = subprocess.run([*command, url], capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in out:
        raise RuntimeError(f"wrk against {url}: {out}")
    rate = re.search(r"Requests/sec:\s+([\d.]+)", out)
    p99 = re.search(r"99%\s+([\d.]+)(us|ms|s)", out)
    assert rate is not None, out
    assert p99 is not None, out
    unit = {"us": 0.001, "ms": 1.0, "s": 1000.0}[p99[2]]
    return float(rate[1]), float(p99[1]) * unit


def _seconds() -> tuple[str, str]:
    return "--seconds", str(SECONDS)


def key_of(n: int) -> bytes:
    return f"/services/bench-{n % 100}/bench-{n % 100}-10.0.1.1-{8000 + n}".encode()


def value_of(n: int) -> bytes:
    """What a registration holds, as etcd's users write it: JSON of about the same size."""
    return (
        f'{{"host":"10.0.1.1","port":{8000 + n},"zone":"a","tags":["bench"],"version":"{n}",'
        '"meta":{"scheme":"http"}}'
    ).encode()


def base64_of(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _etcd_puts(address: str) -> tuple[float, float]:
    lines = [
        json.dumps({"key": base64_of(key_of(n)), "value": base64_of(value_of(n))})
        for n in range(10_000)
    ]
    return posted(address, "/v3/kv/put", lines, 500)


def _etcd_check_perf(address: str) -> float:
    """What etcd's own check reaches with its largest load: 1,000 clients for a minute."""
    done = subprocess.run(
        ["etcdctl", f"--endpoints={address}", "check", "perf", "--load=xl"],
        env={**os.environ, "ETCDCTL_API": "3"},
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.search(r"hroughput.*?(\d+) writes/s", done.stdout + done.stderr)
    return float(found[1]) if found else 0.0


def _etcd_bulk_gateway(address: str) -> float:
    lines = []
    for start in range(0, 100 * PUTS_PER_TXN, PUTS_PER_TXN):
        puts = [
            {"requestPut": {"key": base64_of(key_of(n)), "value": base64_of(value_of(n))}}
            for n in range(start, start + PUTS_PER_TXN)
        ]
        lines.append(json.dumps({"success": puts}))
    rate, _ = posted(address, "/v3/kv/txn", lines, 8)
    return rate * PUTS_PER_TXN


def _etcd_bulk_grpc(address: str) -> float:
    """Eight threads, each with a channel of its own, sending transactions made beforehand."""
    try:
        import grpc
    except ImportError:
        print("  (grpcio is not installed: etcd's bulk is measured through its gateway alone)")
        return 0.0
    requests = transactions()
    counts = [0] * 8
    end = time.perf_counter() + SECONDS

    def client(number: int) -> None:
        with grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            call = channel.unary_unary(
                "/etcdserverpb.KV/Txn",
                request_serializer=lambda raw: raw,
                response_deserializer=lambda raw: raw,
            )
            while time.perf_counter() < end:
                call(requests[(number * 13 + counts[number]) % len(requests)])
                counts[number] += 1

    threads = [threading.Thread(target=client, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) * PUTS_PER_TXN / SECONDS


def put_request(n: int) -> bytes:
    """A put, as its gRPC interface takes it."""
    return _field(1, key_of(n)) + _field(2, value_of(n))


def transactions() -> list[bytes]:
    """A hundred transactions of puts."""
    return [
        b"".join(_field(2, _field(2, put_request(n))) for n in range(start, start + PUTS_PER_TXN))
        for start in range(0, 100 * PUTS_PER_TXN, PUTS_PER_TXN)
    ]


def _field(number: int, content: bytes) -> bytes:
    """A length-delimited protobuf field (protobuf encoding, "length-delimited records")."""
    size, length = len(content), b""
    while size > 127:
        length += bytes((size & 127 | 128,))
        size >>= 7
    return bytes((number << 3 | 2,)) + length + bytes((size,)) + content


RANGE_OF_TEN = {
    "key": base64_of(b"/services/bench-ten/"),
    "range_end": base64_of(b"/services/bench-ten0"),
}


def register_ten(http: str) -> None:
    """Ten instances of ours."""
    for n in range(10):
        body = {"host": "10.0.1.1", "port": 8000 + n, "zone": "a", "tags": ["bench"], "ttl": 0}
        body |= {"version": "1", "meta": {"scheme": "http"}}
        _put(f"http://{http}/api/v1/services/bench-ten/instances/ten-{n}", body)


def put_ten(other: str, instances: list[dict[str, object]]) -> None:
    """The same ten instances on etcd: as many bytes as our answer has."""
    for n, instance in enumerate(instances):
        body: dict[str, object] = {
            "key": base64_of(f"/services/bench-ten/ten-{n}".encode()),
            "value": base64_of(json.dumps(instance, separators=(",", ":")).encode()),
        }
        _put(f"http://{other}/v3/kv/put", body, method="POST")
    answer = _put(f"http://{other}/v3/kv/range", RANGE_OF_TEN, method="POST")
    assert len(json.loads(answer)["kvs"]) == 10


def ten_of_the_size_of_ours() -> list[dict[str, object]]:
    """Ten instances as our HTTP door shows them."""
    with ours() as registry:
        return _ten(registry)


def _ten(registry: Ours) -> list[dict[str, object]]:
    register_ten(registry.http)
    answer = urllib.request.urlopen(f"http://{registry.http}/api/v1/services/bench-ten").read()
    instances: list[dict[str, object]] = json.loads(answer)["instances"]
    return instances


def _etcd_ranges(address: str) -> tuple[float, float]:
    return posted(address, "/v3/kv/range", [json.dumps(RANGE_OF_TEN)], 64)


def _put(url: str, body: Mapping[str, object], method: str = "PUT") -> bytes:
    request = urllib.request.Request(
        url,
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
        method=method,
    )
    with urllib.request.urlopen(request) as answer:
        content: bytes = answer.read()
        return content


def posted(
    address: str, path: str, lines: list[str], connections: int, *, seconds: int = SECONDS
) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as directory:
        bodies = Path(directory) / "bodies"
        bodies.write_text("\n".join(lines))
        lua = _PUT_LUA % (bodies, path)
        return wrk(f"http://{address}{path}", connections=connections, lua=lua, seconds=seconds)


if __name__ == "__main__":
    sys.exit(main())
