"""Whom ``waypost watch`` tells: a program that reads lines, a person, or a command that is run.

Each is told once what is there, and then of every change and what is there after it.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

import msgspec
from rich.console import Console
from rich.markup import escape

from waypost.cli import output
from waypost.cli.asking import warn
from waypost.client.watching import Watch
from waypost.model import Change, Record
from waypost.views import instance_view

DEBOUNCE_S: Final = 0.2
_MARKS: Final = {
    "up": "[green]+ up     [/]",
    "changed": "[yellow]~ changed[/]",
    "down": "[red]- down   [/]",
}
Key = tuple[str, str]


class Teller(Protocol):
    """One of them."""

    def begin(self, watch: Watch, state: Mapping[Key, Record]) -> None:
        """Tell what is there."""
        ...

    def change(self, watch: Watch, changes: Sequence[Change], state: Mapping[Key, Record]) -> None:
        """Tell what happened, and what is there now."""
        ...


class Lines:
    """A line of JSON for the snapshot, and one for each change."""

    def __init__(self, service: str | None) -> None:
        self._service = service or ""

    def begin(self, watch: Watch, state: Mapping[Key, Record]) -> None:
        """Print the snapshot."""
        output.print_json({"event": "snapshot", **as_json(self._service, watch, state)})

    def change(self, watch: Watch, changes: Sequence[Change], state: Mapping[Key, Record]) -> None:  # noqa: ARG002
        """Print each change."""
        for change in changes:
            output.print_json(
                {
                    "event": change.kind,
                    "revision": change.revision,
                    "at_ms": change.at_ms,
                    "instance": instance_view(change.record),
                }
            )


class Screen:
    """A table of the snapshot, and a line for each change."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, soft_wrap=True)

    def begin(self, watch: Watch, state: Mapping[Key, Record]) -> None:
        """Print the table."""
        if state:
            note = output.freshness_text(watch.revision, round(watch.age * 1000), str(watch.source))
            output.print_instances(state.values(), note)
        else:
            self._console.print("Nothing is registered yet; waiting for changes.", style="dim")

    def change(self, watch: Watch, changes: Sequence[Change], state: Mapping[Key, Record]) -> None:  # noqa: ARG002
        """Print each change."""
        for change in changes:
            record = change.record
            instance = record.instance
            health = "" if change.kind == "down" else output.health_text(record)
            words = [
                time.strftime("[dim]%H:%M:%S[/]"),
                _MARKS[change.kind],
                escape(f"{instance.service}/{instance.id}"),
                escape(output.address_text(instance.host, instance.port)),
                health,
                f"[dim]{escape(record.why)}[/]" if record.why else "",
            ]
            self._console.print("  ".join(word for word in words if word))


class Hook:
    """A command, run with the state; changes that come together, or while it runs, are one."""

    def __init__(self, command: str, service: str | None) -> None:
        self._command = command
        self._service = service or ""
        self._state = b""
        self._has_news = asyncio.Event()

    def begin(self, watch: Watch, state: Mapping[Key, Record]) -> None:
        """Have it run."""
        self._state = msgspec.json.encode(as_json(self._service, watch, state))
        self._has_news.set()

    def change(self, watch: Watch, changes: Sequence[Change], state: Mapping[Key, Record]) -> None:  # noqa: ARG002
        """Have it run again."""
        self.begin(watch, state)

    async def run(self) -> int:
        """Run it whenever there is news, until this is cancelled."""
        env = {**os.environ, "WAYPOST_SERVICE": self._service}
        while True:
            await self._has_news.wait()
            await asyncio.sleep(DEBOUNCE_S)
            self._has_news.clear()
            process = await asyncio.create_subprocess_shell(
                self._command, stdin=asyncio.subprocess.PIPE, env=env
            )
            try:
                await process.communicate(self._state + b"\n")
            finally:
                if process.returncode is None:
                    with contextlib.suppress(ProcessLookupError):
                        process.terminate()
            if process.returncode:
                warn(f"{self._command!r} ended with {process.returncode}; it runs again on changes")


def as_json(service: str, watch: Watch, state: Mapping[Key, Record]) -> dict[str, object]:
    """What is there, as of when."""
    return {
        "service": service,
        "revision": watch.revision,
        "source": watch.source,
        "instances": [instance_view(state[key]) for key in sorted(state)],
    }
