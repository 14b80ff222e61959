"""What is shown: on a terminal with the traffic moving below, in a pipe as plain lines."""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from rich import box
from rich.console import Console
from rich.live import Live
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from waypost.cli.demo.traffic import Traffic

SEEN: Final = "●"
"""The mark in a table."""
WINDOW_S: Final = 1.0
_FRAME_S: Final = 0.1
_LINE_S: Final = 1.0
_BAR_CELLS: Final = 40


class Stage:
    """The story as it is told, what it claimed, and what it measured."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, soft_wrap=True)
        self._measured: list[tuple[str, str]] = []
        self.claims = 0
        self.broken: list[str] = []
        """The claims that did not hold."""

    def act(self, title: str) -> None:
        """Begin a chapter."""
        self._console.print()
        self._console.print(title, style="bold", markup=False)

    def say(self, text: str) -> None:
        """Tell what happens."""
        self._console.print(f"  {text}", markup=False)

    def claim(self, text: str, holds: bool, why_not: str = "") -> None:
        """Say that something is so; it has just been checked."""
        self.claims += 1
        if holds:
            self._console.print(f"  [green]ok[/]  {text}")
            return
        self.broken.append(f"{text} ({why_not})" if why_not else text)
        self._console.print(f"  [bold red]NOT SO[/]  {self.broken[-1]}")

    def table(self, head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Show how things stand."""
        table = Table(*head, box=box.SIMPLE_HEAD, header_style="bold", show_edge=False)
        for row in rows:
            table.add_row(*(Text(cell, "green" if cell == SEEN else "") for cell in row))
        self._console.print()
        self._console.print(Padding(table, (0, 0, 0, 1)))
        self._console.print()

    def measured(self, what: str, value: str) -> None:
        """Note a number for the end."""
        self._measured.append((what, value))

    async def show(self, traffic: Traffic, beside: Callable[[], str] = str) -> None:
        """Show the traffic, and what there is to say ``beside`` it, until this is cancelled."""
        if not self._console.is_terminal:
            while True:
                await asyncio.sleep(_LINE_S)
                self.say(f"traffic: {_in_words(traffic)}  {beside()}".rstrip())
        with Live(console=self._console, auto_refresh=False, transient=True) as live:
            while True:
                live.update(_in_bars(traffic, beside()), refresh=True)
                await asyncio.sleep(_FRAME_S)

    def end(self, seconds: float, then: str) -> None:
        """Sum up, and say what comes ``then``."""
        table = Table("Measured", "", box=box.SIMPLE_HEAD, header_style="bold", show_edge=False)
        for what, value in self._measured:
            table.add_row(Text(what), Text(value))
        self._console.print()
        self._console.print(table)
        self._console.print()
        for text in self.broken:
            self._console.print(f"NOT SO: {text}", style="bold red", markup=False)
        held = self.claims - len(self.broken)
        self._console.print(f"{held} of {self.claims} claims held, in {seconds:.0f} s.")
        self._console.print(then, markup=False)


def _in_words(traffic: Traffic) -> str:
    began = time.monotonic() - WINDOW_S
    shares = traffic.shares_since(began)
    words = [f"{len(traffic.since(began)) / WINDOW_S:.0f} calls/s"]
    words += [f"{name} {share:.0%}" for name, share in shares.items()]
    words.append(f"{len(traffic.failures_since(began))} failed")
    return "  ".join(words)


def _in_bars(traffic: Traffic, beside: str) -> Table:
    began = time.monotonic() - WINDOW_S
    table = Table(box=None, show_header=False, pad_edge=True)
    for name, share in traffic.shares_since(began).items():
        bar = Text("━" * round(share * _BAR_CELLS), style="green")
        table.add_row(f"  {name}", f"{share:4.0%}", bar)
    calls, failures = traffic.since(began), traffic.failures_since(began)
    style = "red" if failures else "dim"
    words = f"{len(calls) / WINDOW_S:.0f} calls/s, {len(failures)} failed in the last second"
    table.add_row("", "", Text(words, style=style))
    if beside:
        table.add_row("", "", Text(beside, style="dim"))
    return table
