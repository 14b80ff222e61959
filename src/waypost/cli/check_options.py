"""The options that ask for health checks of what is registered, and what they mean."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from waypost.cli.options import duration

if TYPE_CHECKING:
    from waypost.client.check import Check

_OPTION_OF: Final = {"check.interval": "--check-interval", "check.timeout": "--check-timeout"}
_F = TypeVar("_F", bound=Callable[..., Any])


def check_options(command: _F) -> _F:
    """Let a command be told what the registry shall look at."""
    for option in (
        click.option(
            "--check-timeout",
            type=duration,
            help="How long a check may take; by default 10s, or the interval if that is shorter.",
        ),
        click.option(
            "--check-interval",
            type=duration,
            default=10.0,
            show_default="10s",
            help="How often the registry looks.",
        ),
        click.option(
            "--check",
            "checks",
            multiple=True,
            metavar="KIND[=TARGET]",
            help="Have the registry look for itself: http=/PATH, tcp, grpc or grpc=SERVICE of this "
            "instance; :PORT and a whole URL or host:port are taken too; repeatable.",
        ),
    ):
        command = option(command)
    return command


def checks_of(
    texts: Sequence[str], interval_s: float, timeout_s: float | None, port: int
) -> "list[Check] | None":
    """Read what was written behind ``--check``; None if it was never."""
    from waypost.client.check import declared
    from waypost.errors import Invalid

    if not texts:
        return None
    checks = [_check_of(text, interval_s, timeout_s or 0.0) for text in texts]
    try:
        declared(checks, "127.0.0.1", port)  # for what it raises
    except Invalid as error:
        option = _OPTION_OF.get(error.field, "--check")
        raise click.BadParameter(error.message, param_hint=option) from error
    return checks


def _check_of(text: str, interval: float, timeout: float) -> "Check":
    from waypost.client.check import Check

    kind, equals, target = text.partition("=")
    if kind not in ("http", "tcp", "grpc") or (equals and not target):
        raise click.BadParameter(
            f"{text!r} is not a check: write http=/PATH, tcp or grpc=SERVICE, such as "
            "--check http=/health",
            param_hint="--check",
        )
    match kind:
        case "http":
            return Check(http=target or "/", interval=interval, timeout=timeout)
        case "tcp":
            return Check(tcp=target or True, interval=interval, timeout=timeout)
        case _:
            is_service = bool(target) and ":" not in target and "/" not in target
            where = f"/{target}" if is_service else target or True
            return Check(grpc=where, interval=interval, timeout=timeout)
