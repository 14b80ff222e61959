"""What a node counts, as families of the Prometheus data model."""

from typing import Literal

import msgspec


class Metric(msgspec.Struct, frozen=True, gc=False):
    """One family: its samples by labels."""

    name: str
    kind: Literal["counter", "gauge"]
    help: str
    samples: list[tuple[dict[str, str], float]]


def counter(name: str, help_: str, value: float) -> Metric:
    """A family of one unlabelled counter."""
    return Metric(name, "counter", help_, [({}, value)])


def gauge(name: str, help_: str, value: float) -> Metric:
    """A family of one unlabelled gauge."""
    return Metric(name, "gauge", help_, [({}, value)])
