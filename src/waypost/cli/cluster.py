"""``waypost cluster``: who the members are, and how that changes while the registry goes on.

Every change prints the members as they are after it, and is over when it prints.
"""

from typing import TYPE_CHECKING

import click

from waypost.cli import exits
from waypost.cli.options import json_option, server_option
from waypost.cli.recover import recover

if TYPE_CHECKING:
    from waypost.wire import ClusterState, ClusterVerb, MemberView


@click.group()
def cluster() -> None:
    """Show the members of a registry, and change them or their engine while it runs.

    Any node may be asked: the leader is told.  A node that is to be added is started first, with
    'waypost serve --join'; it becomes a member by itself, unless it was started with --learner.
    """


cluster.add_command(recover)


@cluster.command("status")
@server_option
@json_option
def status(server: str, as_json: bool) -> int:
    """Show the members, who leads, and how far each holds the log."""
    return _ask(server, as_json, "ask for the members", "status")


@cluster.command("add")
@click.argument("name")
@server_option
@json_option
def add(name: str, server: str, as_json: bool) -> int:
    """Let a learner vote."""
    return _ask(server, as_json, f"add {name}", "add", name)


@cluster.command("remove")
@click.argument("name")
@server_option
@json_option
def remove(name: str, server: str, as_json: bool) -> int:
    """Take a member out; if it led, another one leads."""
    return _ask(server, as_json, f"remove {name}", "remove", name)


@cluster.command("replace")
@click.argument("name")
@click.argument("other")
@server_option
@json_option
def replace(name: str, other: str, server: str, as_json: bool) -> int:
    """Put a learner in the place of a member, in one step."""
    return _ask(server, as_json, f"replace {name} by {other}", "replace", name, other)


@cluster.command("transfer")
@click.argument("name", required=False, default="")
@server_option
@json_option
def transfer(name: str, server: str, as_json: bool) -> int:
    """Let another member lead: NAME, or the one that holds most of the log."""
    return _ask(server, as_json, "transfer leadership", "transfer", name)


@cluster.command("switch")
@click.option("--engine", required=True, metavar="ENGINE", help="raft, paxos or etcd.")
@click.option(
    "--etcd", "endpoints", metavar="URL[,URL]", help="With 'etcd': where that is, http://host:port."
)
@click.option(
    "--etcd-prefix",
    "prefix",
    default="/waypost",
    show_default=True,
    help="Below which all is.",
)
@server_option
@json_option
def switch(engine: str, endpoints: str | None, prefix: str, server: str, as_json: bool) -> int:
    """Let the members agree by another protocol from here on.

    With 'etcd' the log goes on in an etcd that you run.  Every member tries it first, with the
    credentials that it was started with; they stay members, and the way back is the same command.
    """
    if (engine == "etcd") != bool(endpoints):
        raise click.UsageError("--engine etcd and --etcd URL belong together: name both, or none")
    settings = {"endpoints": endpoints, "prefix": prefix} if endpoints else {}
    return _ask(server, as_json, f"switch to {engine}", "switch", engine=engine, settings=settings)


def _ask(
    server: str,
    as_json: bool,
    what: str,
    verb: "ClusterVerb",
    name: str = "",
    other: str = "",
    engine: str = "",
    settings: dict[str, str] | None = None,
) -> int:
    import asyncio

    from waypost.cli.asking import failed
    from waypost.client.members import ask_cluster
    from waypost.errors import WaypostError
    from waypost.wire import ClusterAsk

    try:
        ask = ClusterAsk(verb, name, other, engine, settings or {})
        state = asyncio.run(ask_cluster(server, ask))
    except WaypostError as error:
        return failed(error, what, server, as_json)
    _show(state, as_json)
    return exits.OK


def _show(state: "ClusterState", as_json: bool) -> None:
    import msgspec

    from waypost.cli import output

    if not output.is_for_people(as_json):
        told = msgspec.structs.asdict(state)
        told["members"] = [msgspec.structs.asdict(member) for member in state.members]
        output.print_json(told)
        return
    rows = [_row(member, state) for member in state.members]
    released = "" if state.released else ", which has only begun"
    note = (
        f"{state.engine}, epoch {state.epoch}{released}, as {state.node} sees it; "
        f"{state.commit} of {state.last} entries committed"
    )
    output.print_table(("NAME", "ADDRESS", "ROLE", "VOTES", "LAGS", "HEARD", "NODE ID"), rows, note)


def _row(member: "MemberView", state: "ClusterState") -> list[str]:
    from rich.markup import escape

    styles = {
        "leader": "green",
        "member": "green",
        "follower": "cyan",
        "learner": "blue",
        "away": "red",
    }
    lag = str(max(0, state.last - member.held)) if member.held else "-"
    if member.heard_ms == 0:
        heard = "-"
    else:
        heard = "never" if member.heard_ms < 0 else f"{member.heard_ms / 1000:.1f} s ago"
    return [
        escape(member.name),
        escape(member.address),
        f"[{styles[member.role]}]{member.role}[/]",
        "yes" if member.votes else "no",
        lag,
        heard,
        f"{member.nid:08x}",
    ]
