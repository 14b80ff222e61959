"""``waypost watch [NAME]``: what is there, and then every change, once and in order.

Reconnects, restarts of the registry and forgotten history show only on stderr: the events go on
where they stopped.
"""

import asyncio
import os
import stat
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from waypost.cli import exits
from waypost.cli.options import json_option, server_option

if TYPE_CHECKING:
    from waypost.cli.tellers import Key, Teller
    from waypost.client.registry import Registry
    from waypost.model import Record


@click.command()
@click.argument("name", required=False)
@click.option(
    "--exec",
    "command",
    metavar="CMD",
    help="Run this in a shell with what is there now, and again after each change or burst of "
    "changes: the state is on its standard input, as JSON; the service in $WAYPOST_SERVICE.",
)
@server_option
@json_option
def watch(name: str | None, command: str | None, server: str, as_json: bool) -> int:
    """Follow a service, or with no NAME all of them.

    First comes a snapshot of what is there, then every change: up, changed or down.  In a pipe,
    each is a line of JSON.  With --exec only the command's output is shown, unless --json is said.

    \b
    Exit codes: 130 interrupted, 3 no answer and nothing cached.
    """
    from waypost.cli.asking import ask, tell_warnings
    from waypost.cli.output import is_for_people
    from waypost.cli.tellers import Hook, Lines, Screen

    tell_warnings()
    tellers: list[Teller] = []
    if as_json or not (command or is_for_people(as_json)):
        tellers.append(Lines(name))
    elif not command:
        tellers.append(Screen())

    async def use(registry: "Registry") -> int:
        unread = _when_unread()
        hook = Hook(command, name) if command else None
        everybody = tellers if hook is None else [*tellers, hook]
        running = [asyncio.create_task(_follow(registry, name, everybody)), unread]
        if hook is not None:
            running.append(asyncio.create_task(hook.run()))
        try:
            done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            return done.pop().result()
        finally:
            for each in running:
                each.cancel()
            await asyncio.wait(running)

    return ask(server, f"watch {name!r}" if name else "watch", as_json, use)


async def _follow(registry: "Registry", name: str | None, tellers: "Sequence[Teller]") -> int:
    """Tell until the watch ends."""
    from waypost.cli.asking import tell_events

    async with registry.watch(name) as watch:
        await watch.ready()
        tell_events()
        changes = asyncio.ensure_future(watch.take())
        await asyncio.sleep(0)  # what is there is had at once; if there is nothing, this goes on
        state: dict[Key, Record] = {}
        if changes.done():
            state = {_key(change.record): change.record for change in changes.result()}
            changes = asyncio.ensure_future(watch.take())
        for teller in tellers:
            teller.begin(watch, state)
        while happened := await changes:
            for change in happened:
                state.pop(_key(change.record), None)
                if change.kind != "down":
                    state[_key(change.record)] = change.record
            for teller in tellers:
                teller.change(watch, happened, state)
            changes = asyncio.ensure_future(watch.take())
    return exits.OK


def _when_unread() -> "asyncio.Future[int]":
    """Done, with the exit code, when whoever reads the output through a pipe has gone.

    Without this, ``waypost watch | head -1`` would stay until the next change.
    """
    loop = asyncio.get_running_loop()
    unread: asyncio.Future[int] = loop.create_future()
    output = sys.stdout.fileno()

    def gone() -> None:
        loop.remove_reader(output)
        unread.set_result(exits.PIPE_CLOSED)

    if stat.S_ISFIFO(os.fstat(output).st_mode):
        loop.add_reader(output, gone)  # the writing end of a pipe is only ever "ready" by an error
    return unread


def _key(record: "Record") -> "Key":
    return record.instance.service, record.instance.id
