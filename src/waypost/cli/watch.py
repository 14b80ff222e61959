"""``waypost watch [NAME]``: what is there, and then every change, once and in order.

Reconnects, restarts of the registry and forgotten history show only on stderr: the events go on
where they stopped.
"""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from waypost.cli import exits
from waypost.cli.options import json_option, server_option

if TYPE_CHECKING:
    from waypost.cli.tellers import Hook, Key, Teller
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
        if not command:
            return await _follow(registry, name, tellers)
        hook = Hook(command, name)
        return await _follow_with(hook, registry, name, [*tellers, hook])

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


async def _follow_with(
    hook: "Hook", registry: "Registry", name: str | None, tellers: "Sequence[Teller]"
) -> int:
    running = asyncio.create_task(hook.run())
    try:
        return await _follow(registry, name, tellers)
    finally:
        running.cancel()
        await asyncio.wait([running])


def _key(record: "Record") -> "Key":
    return record.instance.service, record.instance.id
