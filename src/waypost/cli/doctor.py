"""``waypost doctor``: is this machine, and is this cluster, as a registry needs it?"""

from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from waypost.cli import exits
from waypost.cli.options import json_option

if TYPE_CHECKING:
    from waypost.cli.finding import Finding

_STYLES: Final = {"good": "green", "note": "cyan", "poor": "yellow", "bad": "red"}


@click.command()
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Where a node keeps its data, or is to keep it: measure that disk.",
)
@click.option(
    "--cluster",
    "line",
    metavar="A=H:P,B=H:P | H:P",
    help="Ask these members, and those that they name.",
)
@click.option("--port", default=8300, show_default=True, help="The native port of a node here.")
@click.option("--http-port", default=8500, show_default=True, help="The HTTP port of a node here.")
@click.option("--dns-port", default=8600, show_default=True, help="The DNS port of a node here.")
@json_option
def doctor(
    data_dir: Path | None,
    line: str | None,
    port: int,
    http_port: int,
    dns_port: int,
    as_json: bool,
) -> int:
    """Check this machine, a data directory and a cluster, and say what should be done.

    \b
    Exit codes: 0 nothing must be done, 5 something must be.
    """
    from waypost.cli import machine_checks as machine
    from waypost.cli import member_checks as members
    from waypost.cli import output

    found = [*machine.check_clock(), *machine.check_files()]
    ports = {"native port": port, "HTTP port": http_port, "DNS port": dns_port}
    found += [machine.check_port(name, number) for name, number in ports.items()]
    if data_dir is not None:
        found += [*machine.check_disk(data_dir), *machine.check_data(data_dir)]
    if line is not None:
        found += members.check_members(members.parse_line(line))
    is_bad = any(each.state == "bad" for each in found)
    if output.is_for_people(as_json):
        _print(found)
    else:
        output.print_json({"well": not is_bad, "findings": found})
    return exits.NOT_AS_WANTED if is_bad else exits.OK


def _print(found: "list[Finding]") -> None:
    from rich.markup import escape

    from waypost.cli import output

    rows = [
        (each.check, f"[{_STYLES[each.state]}]{each.state}[/]", escape(each.what)) for each in found
    ]
    to_do = [f"{each.check}: {each.remedy}" for each in found if each.remedy]
    output.print_table(("CHECK", "", "FOUND"), rows, "\n".join(to_do))
