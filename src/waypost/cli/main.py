"""The command ``waypost``: finds the subcommand, and turns every failure into one line and a code.

A subcommand's module is imported when it is asked for, and what is heavy (an event loop, tables, a
server) when it runs, so that ``waypost --version`` and completion in a shell stay instant.
"""

import importlib
import sys
from typing import Final

import click

from waypost.cli import exits
from waypost.errors import WaypostError

COMMANDS: Final = {
    "serve": "waypost.cli.serve:serve",
    "register": "waypost.cli.register:register",
    "resolve": "waypost.cli.resolve:resolve",
    "services": "waypost.cli.services:services",
    "checks": "waypost.cli.checks:checks",
    "watch": "waypost.cli.watch:watch",
    "deregister": "waypost.cli.departures:deregister",
    "drain": "waypost.cli.departures:drain",
    "status": "waypost.cli.status:status",
    "cluster": "waypost.cli.cluster:cluster",
    "snapshot": "waypost.cli.snapshot:snapshot",
    "doctor": "waypost.cli.doctor:doctor",
    "demo": "waypost.cli.demo:demo",
    "bench": "waypost.cli.bench:bench",
    "simulate": "waypost.cli.simulate:simulate",
    "xds-bootstrap": "waypost.cli.xds_bootstrap:xds_bootstrap",
}
"""In the order in which a newcomer needs them."""


class LazyCommands(click.Group):
    """A group that imports a subcommand when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Name them, in the order of ``COMMANDS``."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import one; None if there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        command = getattr(importlib.import_module(module), name)
        assert isinstance(command, click.Command)
        return command


def _print_version(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        click.echo(f"waypost {version('waypost')}")
        ctx.exit()


@click.command(
    cls=LazyCommands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_print_version,
    help="Show the version and exit.",
)
def commands() -> None:
    """Waypost: providers register, consumers find them and choose one.

    Commands that ask a registry take its address from --server, then from $WAYPOST, and else ask
    127.0.0.1:8300.  They print a table on a terminal and JSON into a pipe.

    \b
    Exit codes: 0 done or found, 1 unknown name, 2 known but nothing usable, 3 no answer,
    4 refused, 64 wrong command line; 'waypost COMMAND --help' names any others.
    """


def main() -> int:
    """Run the command line of this process; returns its exit code."""
    try:
        return commands.main(prog_name="waypost", standalone_mode=False) or exits.OK
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx else "waypost"
        print(f"waypost: {error.format_message()} (see '{where} --help')", file=sys.stderr)
        return exits.USAGE
    except WaypostError as error:
        print(f"waypost: {error}", file=sys.stderr)
        return exits.exit_code_of(error)
    except (click.Abort, KeyboardInterrupt):
        return exits.INTERRUPTED
