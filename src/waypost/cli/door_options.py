"""Which doors ``waypost serve`` opens, and where: all but the native one and HTTP's port."""

import functools
from collections.abc import Callable
from typing import Any

import click

_OPTIONS = (
    click.option(
        "--without",
        default="",
        metavar="DOOR[,DOOR]",
        help="Leave these doors closed; see docs/doors.",
    ),
    click.option(
        "--xds-port",
        type=click.IntRange(0, 65_535),
        metavar="PORT",
        help="Speak xDS to gRPC and Envoy on this port, usually 8502; 0 takes a free port. Closed "
        "unless given. Needs the extra waypost[xds].",
    ),
)


def door_options(command: Callable[..., int]) -> Callable[..., int]:
    """Add the options; the command gets ``doors``: what ``Standalone`` is to be told of them."""

    @functools.wraps(command)
    def with_doors(*, without: str, xds_port: int | None, **others: Any) -> int:
        doors = {"without": _closed(without), "xds_port": xds_port}
        return command(doors=doors, **others)

    for option in reversed(_OPTIONS):
        with_doors = option(with_doors)
    return with_doors


def _closed(without: str) -> set[str]:
    """Read the names of doors."""
    from waypost.standalone import DOORS

    closed = set(filter(None, without.split(",")))
    if unknown := sorted(closed.difference(DOORS)):
        raise click.UsageError(
            f"--without: there is no door {unknown[0]!r}: choose from {', '.join(DOORS)}"
        )
    return closed
