"""Options that several commands share, and what may be written for their values."""

import re
from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

SERVER_DEFAULT: Final = "127.0.0.1:8300"
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)?")
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_F = TypeVar("_F", bound=Callable[..., Any])


def duration(value: str | float) -> float:
    """Read a duration, such as 2, 2s, 500ms or 1.5m, as seconds."""
    found = _DURATION.fullmatch(str(value))
    if found is None:
        raise click.BadParameter(f"{value!r} is not a duration: write 2s, 500ms or 1.5m")
    return float(found[1]) * _SECONDS[found[2] or "s"]


def pair(value: str | tuple[str, str]) -> tuple[str, str]:
    """Split a key and its value at the first equals sign."""
    if isinstance(value, tuple):
        return value
    key, equals, rest = value.partition("=")
    if not (key and equals):
        raise click.BadParameter(f"{value!r} is not a pair: write it as key=value")
    return key, rest


def server_option(command: _F) -> _F:
    """Let a command be told which registry to ask."""
    return click.option(
        "--server",
        envvar="WAYPOST",
        default=SERVER_DEFAULT,
        metavar="HOST:PORT",
        help="The registry, or several of its nodes with commas between.  [env: WAYPOST; default: "
        f"{SERVER_DEFAULT}]",
    )(command)


def json_option(command: _F) -> _F:
    """Let a command be told to speak JSON, on a terminal too."""
    return click.option(
        "--json",
        "as_json",
        is_flag=True,
        help="Print JSON even on a terminal, and errors as JSON, on stderr.",
    )(command)


def filter_options(command: _F) -> _F:
    """Let a command be told which instances are meant."""
    for option in (
        click.option(
            "--meta",
            type=pair,
            metavar="KEY=VALUE",
            multiple=True,
            help="Only with this pair; repeatable.",
        ),
        click.option("--zone", default="", help="Only in this zone."),
        click.option("--tag", "tags", multiple=True, help="Only with this tag; repeatable."),
    ):
        command = option(command)
    return command
