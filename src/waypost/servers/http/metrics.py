"""Metrics in the text that Prometheus reads (exposition format 0.0.4), and this door's own.

Format: https://prometheus.io/docs/instrumenting/exposition_formats/ ("Text-based format").
"""

import math
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from waypost.node.metrics import Metric

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
BUCKETS_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class HttpMetrics:
    """What this door counts: requests by route, method and status, and how long they took."""

    def __init__(self) -> None:
        self._requests: dict[tuple[str, str, int], int] = {}
        self._latencies: dict[str, list[int]] = {}
        self._seconds: dict[str, float] = {}

    def observe(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count one request."""
        key = (route, method, status)
        self._requests[key] = self._requests.get(key, 0) + 1
        counts = self._latencies.get(route)
        if counts is None:
            counts = self._latencies[route] = [0] * (len(BUCKETS_S) + 1)
        counts[bisect_left(BUCKETS_S, seconds)] += 1
        self._seconds[route] = self._seconds.get(route, 0.0) + seconds

    def lines(self) -> Iterator[str]:
        """Tell them in the exposition format."""
        requests = [
            ({"route": route, "method": method, "status": str(status)}, float(count))
            for (route, method, status), count in self._requests.items()
        ]
        yield from family("waypost_http_requests_total", "counter", "HTTP requests.", requests)
        name = "waypost_http_request_seconds"
        yield from _head(name, "histogram", "Time from a request's head to its answer's.")
        for route, counts in self._latencies.items():
            below = 0
            for bound, count in zip((*BUCKETS_S, math.inf), counts, strict=True):
                below += count
                yield _sample(f"{name}_bucket", {"route": route, "le": _number(bound)}, below)
            yield _sample(f"{name}_sum", {"route": route}, self._seconds[route])
            yield _sample(f"{name}_count", {"route": route}, below)


def exposition(metrics: Iterable[Metric], lines: Iterable[str]) -> bytes:
    """Write the node's metrics and the lines of a door's own."""
    text = [line for m in metrics for line in family(m.name, m.kind, m.help, m.samples)]
    return "".join(f"{line}\n" for line in (*text, *lines)).encode()


def family(
    name: str, kind: str, help_: str, samples: Iterable[tuple[Mapping[str, str], float]]
) -> Iterator[str]:
    """One family: what it is, and its samples."""
    yield from _head(name, kind, help_)
    for labels, value in samples:
        yield _sample(name, labels, value)


def _head(name: str, kind: str, help_: str) -> Iterator[str]:
    escaped = help_.replace("\\", r"\\").replace("\n", r"\n")
    yield f"# HELP {name} {escaped}"
    yield f"# TYPE {name} {kind}"


def _sample(name: str, labels: Mapping[str, str], value: float) -> str:
    if not labels:
        return f"{name} {_number(value)}"
    inner = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
    return f"{name}{{{inner}}} {_number(value)}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(value: float) -> str:
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) else repr(value)
