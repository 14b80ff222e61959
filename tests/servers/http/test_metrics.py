"""Metrics are text that Prometheus reads."""

import math
import re
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.servers.http.world import World, of, served

from waypost.node.metrics import Metric
from waypost.servers.http.metrics import BUCKETS_S, HttpMetrics, exposition

_SAMPLE: Final = re.compile(
    r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{((?:[a-z_]+=\"(?:[^\"\\\n]|\\[\\n\"])*\",?)*)\})? (\S+)"
)
_LABEL: Final = re.compile(r"([a-z_]+)=\"((?:[^\"\\\n]|\\[\\n\"])*)\"")


class Family:
    def __init__(self) -> None:
        self.kind = ""
        self.help = ""
        self.samples: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}


def parsed(text: str) -> dict[str, Family]:
    """Read the exposition format, by its grammar."""
    assert text.endswith("\n")
    families: dict[str, Family] = {}
    current = ""
    for line in text[:-1].split("\n"):
        if line.startswith("# HELP "):
            current, _, help_ = line[7:].partition(" ")
            assert current not in families, "a family is told once, in one piece"
            families[current] = Family()
            families[current].help = help_.replace(r"\n", "\n").replace("\\\\", "\\")
        elif line.startswith("# TYPE "):
            name, _, kind = line[7:].partition(" ")
            assert name == current
            families[name].kind = kind
        else:
            match = _SAMPLE.fullmatch(line)
            assert match is not None, line
            assert match[1].startswith(current)
            labels = frozenset((k, unescaped(v)) for k, v in _LABEL.findall(match[2] or ""))
            key = (match[1], labels)
            assert key not in families[current].samples, "no sample is told twice"
            families[current].samples[key] = float(match[3])
    return families


def unescaped(text: str) -> str:
    return re.sub(r"\\(.)", lambda m: "\n" if m[1] == "n" else m[1], text)


@given(
    st.text().filter(lambda text: "\r" not in text),
    st.floats(allow_nan=False),
)
def test_whatever_a_label_holds_is_read_back(value: str, number: float) -> None:
    metric = Metric("m", "gauge", "Help with \\ and\nlines.", [({"l": value}, number)])

    family = parsed(exposition([metric], ()).decode())["m"]

    assert family.samples == {("m", frozenset({("l", value)})): number}
    assert family.kind == "gauge"
    assert family.help == "Help with \\ and\nlines."


def test_a_sample_without_labels_has_no_braces() -> None:
    assert exposition([Metric("m", "counter", "H.", [({}, 3.0)])], ()) == (
        b"# HELP m H.\n# TYPE m counter\nm 3\n"
    )


def test_latencies_are_a_cumulative_histogram() -> None:
    metrics = HttpMetrics()
    for seconds in (0.0001, 0.0005, 0.02, 3.0, 99.0):
        metrics.observe("/r", "GET", 200, seconds)

    family = parsed(exposition((), metrics.lines()).decode())["waypost_http_request_seconds"]
    buckets = {
        float(dict(labels)["le"]): value
        for (name, labels), value in family.samples.items()
        if name.endswith("_bucket")
    }

    assert family.kind == "histogram"
    assert list(buckets) == [*BUCKETS_S, math.inf]
    assert buckets[0.0005] == 2
    assert buckets[0.025] == 3
    assert buckets[5.0] == 4
    assert buckets[math.inf] == 5
    route = frozenset({("route", "/r")})
    assert family.samples["waypost_http_request_seconds_count", route] == 5
    assert family.samples["waypost_http_request_seconds_sum", route] == pytest.approx(102.0206)


@served
async def test_the_node_and_the_door_are_counted(world: World) -> None:
    await world.register("web", "a")
    await world.get(of("web"))
    await world.get(of("web") + "?zone=a")
    await world.get(of("nobody"), 404)
    await world.get("/nope", 404)
    await world.ask("POST", "/healthz", 405)

    answer = await world.ask("GET", "/metrics", 200)
    families = parsed(answer.text)

    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert families["waypost_instances"].samples == {("waypost_instances", frozenset()): 1}
    told = {metric.name for metric in world.registry.metrics()}
    assert told <= families.keys()
    counted = {
        tuple(dict(labels)[key] for key in ("route", "method", "status")): value
        for (_, labels), value in families["waypost_http_requests_total"].samples.items()
    }
    assert counted == {
        ("/api/v1/services/{service}/instances/{id}", "PUT", "201"): 1,
        ("/api/v1/services/{service}", "GET", "200"): 2,
        ("/api/v1/services/{service}", "GET", "404"): 1,
        ("(unknown)", "(other)", "404"): 1,
        ("/healthz", "(other)", "405"): 1,
    }
