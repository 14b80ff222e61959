"""``waypost cluster recover``: begin again after a majority is lost for good."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from waypost.cli import exits
from waypost.cli.options import json_option

if TYPE_CHECKING:
    from waypost.node.recovering import Recovery, Survivor


@click.command()
@click.argument(
    "directories",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DATA_DIR...",
)
@click.option(
    "--engine",
    type=click.Choice(["raft", "paxos"]),
    default=None,
    help="How the survivors are to agree; as before by default.",
)
@click.option(
    "--accept-data-loss",
    is_flag=True,
    help="Do it, without a question: writes that only the lost nodes held are gone.",
)
@json_option
def recover(
    directories: tuple[Path, ...], engine: str | None, accept_data_loss: bool, as_json: bool
) -> int:
    """Begin again from the DATA_DIRs of the nodes that survive, all of them stopped.

    Shows what each holds and what would be lost, asks, and writes an epoch with a new lineage: the
    lost nodes, should they come back, are refused.  A node alone is enough; the others join it.
    Keep copies of the directories.

    \b
    Exit codes: 0 written, 5 not written because nobody agreed.
    """
    from waypost.cli import output
    from waypost.node.recovering import force, plan

    recovery = plan(directories, engine=engine or "")
    is_for_people = output.is_for_people(as_json)
    if is_for_people:
        _show(recovery)
    agreed = accept_data_loss
    if not agreed and is_for_people and sys.stdin.isatty():
        agreed = _ask("Write this, and give up what only the lost nodes held?")
    if agreed:
        force(recovery)
    if not is_for_people:
        output.print_json(_told(recovery, agreed))
    elif agreed:
        starts = [each.name for each in recovery.survivors if each.is_taken]
        print(f"Written.  Start {' and '.join(starts)} as before; let the others join anew.")
    else:
        print("Nothing was changed.  --accept-data-loss writes it without a question.")
    return exits.OK if agreed else exits.NOT_AS_WANTED


def _ask(question: str) -> bool:
    """Ask on standard output: ``input`` asks on standard error, which may be elsewhere."""
    print(f"{question} [y/N] ", end="", flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _show(recovery: "Recovery") -> None:
    from rich.markup import escape

    from waypost.cli import output

    rows = [_row(each) for each in recovery.survivors]
    output.print_table(
        ("DIRECTORY", "NODE", "EPOCH", "LOG UP TO", "COMMITTED", "STATE THERE", "BECOMES"),
        [[escape(cell) for cell in row] for row in rows],
        "\n".join(_warnings(recovery)),
    )


def _row(survivor: "Survivor") -> list[str]:
    told = survivor.findings.directory
    state = told.whole or told.contents
    return [
        str(survivor.path),
        survivor.name,
        str(told.epoch.number) if told.epoch else "-",
        f"{told.last} (ballot {told.last_ballot})",
        str(told.commit),
        "unreadable" if state is None else f"{state.instances} instances, {state.digest[:12]}",
        "member" if survivor.is_taken else survivor.why,
    ]


def _warnings(recovery: "Recovery") -> list[str]:
    last = recovery.last
    told = [
        f"Kept: everything up to entry {last}; known to be committed: up to {recovery.surely}.",
        f"Lost: whatever was acknowledged after entry {last} by nodes that are not here.",
    ]
    if recovery.last > recovery.surely:
        told.append(
            f"Entries {recovery.surely + 1} to {recovery.last} may never have been acknowledged, "
            "and become so."
        )
    told += [
        f"{each.path}: {each.dropped} entries of its own are dropped."
        for each in recovery.survivors
        if each.dropped
    ]
    if not recovery.is_needed:
        told.append(
            f"These are a majority of the {recovery.members_before} members: start them, and they "
            "go on by themselves, without any loss.  Recover only if they cannot."
        )
    return told


def _told(recovery: "Recovery", written: bool) -> dict[str, object]:
    return {
        "written": written,
        "needed": recovery.is_needed,
        "epoch": recovery.epoch.number,
        "lineage": f"{recovery.epoch.lineage:016x}",
        "engine": recovery.epoch.engine,
        "members": [each.name for each in recovery.survivors if each.is_taken],
        "last": recovery.last,
        "committed": recovery.surely,
        "directories": [
            {
                "path": str(each.path),
                "node": each.name,
                "member": each.is_taken,
                "why": each.why,
                "dropped": each.dropped,
                "holds": each.findings.directory,
            }
            for each in recovery.survivors
        ],
        "warnings": _warnings(recovery),
    }
