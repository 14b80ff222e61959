"""``waypost bench``: what this registry does on this machine, in numbers.

Runs against the registry that ``--server`` names, and registers instances of services named
``bench-…``, which it removes again.  Numbers hold for this machine at this moment; compare two
runs only if they were made side by side.
"""

import asyncio
import json
import random
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final

import click
import msgspec

from waypost import wire
from waypost.balance import POLICIES, Pool
from waypost.cli import exits
from waypost.cli.fanout import fan_out
from waypost.cli.load import (
    Load,
    Tally,
    registrations,
    renewals,
    resolves,
    under_load,
)
from waypost.client.addresses import ADDRESS_DEFAULT, parse_addresses
from waypost.commands import Deregister, Register
from waypost.errors import Unavailable
from waypost.model import Instance, Record
from waypost.standalone import new_event_loop

SERVICES: Final = 100
INSTANCES: Final = 10_000
_Options = Callable[[Callable[..., int]], Callable[..., int]]


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """One line of results."""

    bench: str
    ops_per_s: float
    p50_ms: float
    p99_ms: float
    operations: int
    seconds: float
    connections: int
    window: int
    errors: int
    detail: dict[str, float] = {}


@click.group()
def bench() -> None:
    """Measure this registry: write, resolve, renew, watch, pick."""


def _options(connections: int, window: int) -> _Options:
    def decorate(command: Callable[..., int]) -> Callable[..., int]:
        for option in (
            click.option("--json", "as_json", is_flag=True, help="Print one JSON object."),
            click.option(
                "--server",
                envvar="WAYPOST",
                default="",
                help="host:port, or several with commas: each connection takes the next.",
            ),
            click.option("--seconds", default=5.0, show_default=True, type=click.FloatRange(0.1)),
            click.option(
                "--window",
                default=window,
                show_default=True,
                type=click.IntRange(1, 4096),
                help="Operations outstanding on each connection.",
            ),
            click.option(
                "--connections",
                default=connections,
                show_default=True,
                type=click.IntRange(1, 10_000),
            ),
        ):
            command = option(command)
        return command

    return decorate


@bench.command()
@_options(500, 1)
def write(connections: int, window: int, seconds: float, server: str, as_json: bool) -> int:
    """Registrations, each a change of its own."""

    async def run() -> Measured:
        makes = [
            registrations(n, window, SERVICES, max(1, INSTANCES // connections))
            for n in range(connections)
        ]
        tally, took = await under_load(
            _addresses(server), makes, window=window, seconds=seconds, with_sessions=True
        )
        return _measured("write", tally, took, connections, window)

    return _report(run(), as_json)


@bench.command()
@_options(64, 1)
@click.option("--linearizable", is_flag=True, help="Each sees all that was acknowledged before it.")
def resolve(
    connections: int, window: int, seconds: float, server: str, as_json: bool, linearizable: bool
) -> int:
    """Resolves of a service of ten instances, over the native protocol."""

    async def run() -> Measured:
        addresses = _addresses(server)
        service = "bench-resolve"
        async with _ten_instances(addresses[0], service):
            makes = [resolves(service, "linearizable" if linearizable else "default")] * connections
            tally, took = await under_load(
                addresses, makes, window=window, seconds=seconds, with_sessions=False
            )
        return _measured("resolve", tally, took, connections, window)

    return _report(run(), as_json)


@bench.command()
@_options(8, 64)
def renew(connections: int, window: int, seconds: float, server: str, as_json: bool) -> int:
    """Renewals of sessions."""

    async def run() -> Measured:
        makes = [renewals()] * connections
        tally, took = await under_load(
            _addresses(server), makes, window=window, seconds=seconds, with_sessions=True
        )
        return _measured("renew", tally, took, connections, window)

    return _report(run(), as_json)


@bench.command()
@_options(1000, 1)
@click.option("--rate", default=20.0, show_default=True, help="Changes a second.")
def watch(
    connections: int, window: int, seconds: float, server: str, as_json: bool, rate: float
) -> int:
    """Changes of one service, to as many watchers as there are connections.

    Latency is from the writer's acknowledgement to each watcher's reception.
    """

    async def run() -> Measured:
        result = await fan_out(_addresses(server)[0], connections, seconds, rate)
        return Measured(
            bench="watch",
            ops_per_s=round(result.received / result.seconds, 1),
            p50_ms=round(result.percentile_ms(0.50), 3),
            p99_ms=round(result.percentile_ms(0.99), 3),
            operations=result.received,
            seconds=round(result.seconds, 3),
            connections=connections,
            window=window,
            errors=result.missed + result.repeated + result.out_of_order,
            detail={"changes": result.changes, "rate": rate},
        )

    return _report(run(), as_json)


@bench.command()
@click.option("--instances", default=1000, show_default=True, type=click.IntRange(1, 1_000_000))
@click.option("--policy", "policies", multiple=True, type=click.Choice(sorted(POLICIES)))
@click.option("--seconds", default=0.5, show_default=True, help="For each policy.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
def pick(instances: int, policies: tuple[str, ...], seconds: float, as_json: bool) -> None:
    """Picks in this process, for each policy; needs no registry."""
    records = [_record("bench-pick", n) for n in range(instances)]
    for policy in policies or sorted(POLICIES):
        pool = Pool(policy, random=random.random, clock=time.perf_counter_ns)
        pool.replace(records)
        took: list[float] = []  # seconds for a thousand picks, so milliseconds for one
        end = time.perf_counter() + seconds
        while time.perf_counter() < end or not took:
            begun = time.perf_counter()
            for _ in range(1000):
                pool.pick()
            took.append(time.perf_counter() - begun)
        took.sort()
        _print(
            Measured(
                bench=f"pick {policy}",
                ops_per_s=round(len(took) * 1000 / sum(took), 1),
                p50_ms=round(took[len(took) // 2], 6),
                p99_ms=round(took[int(0.99 * len(took))], 6),
                operations=len(took) * 1000,
                seconds=round(sum(took), 3),
                connections=0,
                window=1,
                errors=0,
                detail={"instances": instances, "best_ns": round(took[0] * 1e6, 1)},
            ),
            as_json,
        )


class _ten_instances:  # noqa: N801 - reads as what it is where it is used
    """Ten instances of a service, for as long as the block runs."""

    def __init__(self, address: tuple[str, int], service: str) -> None:
        self._address = address
        self._service = service

    async def __aenter__(self) -> None:
        await self._write([Register(_record(self._service, n).instance) for n in range(10)])

    async def __aexit__(self, *_: object) -> None:
        await self._write(
            [Deregister(self._service, _record(self._service, n).instance.id) for n in range(10)]
        )

    async def _write(self, commands: list[Any]) -> None:
        tally = Tally()
        load = Load(lambda: (wire.WRITE, wire.encode(commands), 1), 1, tally)
        await asyncio.get_running_loop().create_connection(lambda: load, *self._address)
        await load.ready
        load.run()
        load.stop()
        await load.idle
        load.close()
        if tally.errors:
            raise Unavailable(tally.first_error)


def _record(service: str, n: int) -> Record:
    host = f"10.0.{n // 250 % 250}.{n % 250 + 1}"
    instance = Instance(
        service, f"{service}-{host}-{8000 + n}", host, 8000 + n % 50_000, weight=1.0
    )
    return Record(instance, "passing", 0, "", False, "", 1)


def _measured(name: str, tally: Tally, took: float, connections: int, window: int) -> Measured:
    if tally.errors:
        click.echo(f"{tally.errors} operations failed; the first: {tally.first_error}", err=True)
    return Measured(
        bench=name,
        ops_per_s=round(tally.operations / took, 1),
        p50_ms=round(tally.percentile_ms(0.50), 3),
        p99_ms=round(tally.percentile_ms(0.99), 3),
        operations=tally.operations,
        seconds=round(took, 3),
        connections=connections,
        window=window,
        errors=tally.errors,
    )


def _addresses(server: str) -> list[tuple[str, int]]:
    return [(each.host, each.port) for each in parse_addresses(server or ADDRESS_DEFAULT)]


def _report(run: Coroutine[Any, Any, Measured], as_json: bool) -> int:
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        try:
            measured = runner.run(run)
        except OSError as error:
            raise Unavailable(
                f"no registry: {error}: start one with 'waypost serve', or name it with --server"
            ) from None
    _print(measured, as_json)
    return exits.REFUSED if measured.errors else exits.OK


def _print(measured: Measured, as_json: bool) -> None:
    if as_json or not sys.stdout.isatty():
        click.echo(json.dumps(msgspec.to_builtins(measured)))
        return
    detail = "".join(f"  {key} {value:g}" for key, value in measured.detail.items())
    click.echo(
        f"{measured.bench:28} {measured.ops_per_s:>12,.0f} ops/s   "
        f"p50 {measured.p50_ms:.3f} ms   p99 {measured.p99_ms:.3f} ms   "
        f"{measured.connections} x {measured.window}{detail}"
    )
