"""What commands print: tables for people, JSON for programs.

The JSON is that of ``waypost.wire``, the same as over HTTP.  Tables are built only when there is a
terminal to read them, because the library that draws them takes a while to import.
"""

import sys
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from waypost.checks import CheckStatus
from waypost.model import HEALTHS, Record
from waypost.views import instance_view

_STYLES: Final = dict(zip(HEALTHS, ("cyan", "green", "yellow", "red", "magenta"), strict=True))
_COLUMNS: Final = ("ID", "ADDRESS", "HEALTH", "WEIGHT", "ZONE", "VERSION", "TAGS", "META", "WHY")
_ALWAYS_SHOWN: Final = 3


def is_for_people(as_json: bool) -> bool:
    """Whether to print for people rather than for programs."""
    return not as_json and sys.stdout.isatty()


def print_json(value: object) -> None:
    """Print one line of JSON, at once."""
    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")
    sys.stdout.flush()


def print_instances(records: Iterable[Record], note: str) -> None:
    """Print a table of instances, without the columns that say nothing."""
    rows = [_instance_row(record) for record in sorted(records, key=lambda r: r.instance.id)]
    shown = [n for n in range(len(_COLUMNS)) if n < _ALWAYS_SHOWN or any(row[n] for row in rows)]
    print_table([_COLUMNS[n] for n in shown], [[row[n] for n in shown] for row in rows], note)


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]], note: str = "") -> None:
    """Print a table, and below it what holds for all of it."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(
        *headings, box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False, show_edge=False
    )
    for row in rows:
        table.add_row(*row)
    console = Console()
    console.print(table)
    if note:
        console.print(note, style="dim", markup=False, highlight=False)


def health_text(record: Record) -> str:
    """A record's health, coloured, and whether it is doubted."""
    doubt = " [red](suspect)[/]" if record.suspect else ""
    return f"[{_STYLES[record.health]}]{record.health}[/]{doubt}"


def status_text(status: CheckStatus) -> str:
    """How a check is, coloured."""
    return f"[{_STYLES[status]}]{status}[/]"


def freshness_text(revision: int, age_ms: int, source: str) -> str:
    """How fresh an answer is."""
    return f"revision {revision}, from {source}, {age_ms / 1000:g} s old"


def address_text(host: str, port: int) -> str:
    """An address, as a URL has it (RFC 3986, section 3.2.2)."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _instance_row(record: Record) -> list[str]:
    from rich.markup import escape

    view = instance_view(record)
    return [
        escape(view.id),
        escape(address_text(view.host, view.port)),
        health_text(record),
        "" if view.weight is None else f"{view.weight:g}",
        escape(view.zone),
        escape(view.version),
        escape(" ".join(view.tags)),
        escape(" ".join(f"{key}={value}" for key, value in view.meta.items())),
        escape(view.why),
    ]
