"""The instances of a service as xDS tells them: endpoints in localities, with weights.

Envoy balances by the weights of endpoints.  gRPC's round robin does not know those, only the
weights of localities.  So the instances of a zone that weigh the same are one locality, whose
weight is their sum: picks by locality, then in turn, are picks by weight, in both.  The commonest
weight of a zone keeps the zone's own name (without a sub-zone), so that zones with one weight,
which are nearly all, look as everybody expects.

What is always true, because a client refuses a whole response otherwise, or skips the locality:
addresses are numeric and none comes twice; every weight is at least 1; their sum fits 32 bits.

Source: gRFC A27 (xDS-based global load balancing), Envoy's ``endpoint_components.proto``.
"""

import ipaddress
from collections import Counter
from collections.abc import Collection, Iterable
from functools import lru_cache
from typing import Final

import msgspec

from waypost.model import Record, resolvable

HEALTHY: Final = 1
UNHEALTHY: Final = 2
DRAINING: Final = 3
_WEIGHTS_SUM_MAX: Final = 2**32 - 1
_FRACTION: Final = 1000


class Endpoint(msgspec.Struct, frozen=True, gc=False):
    """One address, and whether it is to be used."""

    host: str
    port: int
    weight: int
    health: int
    zone: str


class Locality(msgspec.Struct, frozen=True, gc=False):
    """Those of a zone that weigh the same."""

    zone: str
    sub_zone: str
    weight: int
    endpoints: tuple[Endpoint, ...]


def localities_of(records: Collection[Record]) -> list[Locality]:
    """Arrange the instances of a service; the order depends on nothing but the records."""
    endpoints = endpoints_of(records)
    groups: dict[tuple[str, int], list[Endpoint]] = {}
    for endpoint in endpoints:
        groups.setdefault((endpoint.zone, endpoint.weight), []).append(endpoint)
    bare = _commonest(endpoints)
    return [
        Locality(
            zone,
            "" if bare[zone] == weight else f"weight-{weight}",
            # Without a healthy endpoint nothing is picked there, but 0 would hide it altogether.
            sum(e.weight for e in members if e.health == HEALTHY) or 1,
            tuple(members),
        )
        for (zone, weight), members in sorted(groups.items())
    ]


def endpoints_of(records: Collection[Record]) -> list[Endpoint]:
    """Tell every instance that can be told, in the order of their ids, each address once."""
    used = {record.instance.id for record in resolvable(records)}
    by_address: dict[tuple[str, int], tuple[int, Record]] = {}
    for record in sorted(records, key=_id):
        health = HEALTHY if record.instance.id in used else _unused(record)
        host = numeric(record.instance.host)
        if not health or not host:
            continue
        address = (host, record.instance.port)
        other = by_address.get(address)
        # One that came back under another id: the healthy one counts, else the newer one.
        if other is None or (-health, record.revision) > (-other[0], other[1].revision):
            by_address[address] = (health, record)
    weights = _weights([record.instance.weight for _, record in by_address.values()])
    return [
        Endpoint(host, port, weight, health, record.instance.zone)
        for ((host, port), (health, record)), weight in zip(
            by_address.items(), weights, strict=True
        )
    ]


@lru_cache(32_768)
def numeric(host: str) -> str:
    """Tell the address in its one usual form; empty if it is a name, which xDS cannot carry."""
    try:
        return str(ipaddress.ip_address(host)) if "%" not in host else ""
    except ValueError:
        return ""


def _unused(record: Record) -> int:
    """Tell how to say that an instance gets no new work; 0 to leave it out."""
    if record.health == "starting":
        return 0
    if record.health == "draining" or record.instance.weight == 0:
        return DRAINING
    return UNHEALTHY


def _weights(declared: list[float | None]) -> list[int]:
    """Make whole numbers of the weights; the unknown count as the mean of the known."""
    known = [weight for weight in declared if weight]
    mean = sum(known) / len(known) if known else 1.0
    weights = [mean if weight is None else weight for weight in declared]
    factor = 1.0 if all(float(weight).is_integer() for weight in weights) else _FRACTION
    total = sum(weights) * factor
    room = _WEIGHTS_SUM_MAX - len(weights)  # each may be rounded up, by less than one
    if total > room:
        factor *= room / total
    return [max(1, round(weight * factor)) for weight in weights]


def _commonest(endpoints: Iterable[Endpoint]) -> dict[str, int]:
    counts: dict[str, Counter[int]] = {}
    for endpoint in endpoints:
        counts.setdefault(endpoint.zone, Counter())[endpoint.weight] += 1
    return {
        zone: min(weights, key=lambda weight: (-weights[weight], weight))
        for zone, weights in counts.items()
    }


def _id(record: Record) -> str:
    return record.instance.id
