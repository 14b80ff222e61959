"""``waypost checks NAME``: what the health checks of a service found, and so why it is critical."""

from typing import TYPE_CHECKING, Final

import click

from waypost.cli import exits
from waypost.cli.options import json_option, server_option

if TYPE_CHECKING:
    from waypost.client.registry import Registry

OUTPUT_CHARS: Final = 160


@click.command()
@click.argument("name")
@server_option
@json_option
def checks(name: str, server: str, as_json: bool) -> int:
    """Show the health checks of a service's instances, the worst first, and what they found last.

    \b
    Exit codes: 0 shown, 3 no registry answers.
    """
    from waypost.cli.asking import ask

    async def use(registry: "Registry") -> int:
        import msgspec
        from rich.markup import escape

        from waypost.cli import output

        checked = await registry.checks(name)
        if not output.is_for_people(as_json):
            output.print_json(
                {
                    "service": name,
                    "revision": checked.revision,
                    "count": checked.count,
                    "checks": [
                        {
                            "id": state.id,
                            "node": state.node,
                            "check": msgspec.structs.asdict(state.check),
                            "status": state.status,
                            "output": state.output,
                            "since_ms": state.since_ms,
                        }
                        for state in checked.checks
                    ],
                }
            )
            return exits.OK
        if not checked.checks:
            print(
                f"{name!r} has no health checks: 'waypost register --check' asks for them "
                "('waypost services' lists what there is)."
            )
            return exits.OK
        rows = [
            (
                escape(state.id or f"node {state.node}"),
                escape(state.check.id),
                output.status_text(state.status),
                escape(" ".join(state.output.split())[:OUTPUT_CHARS] or "nothing found yet"),
            )
            for state in checked.checks
        ]
        note = f"revision {checked.revision}, {len(rows)} of {checked.count} checks"
        output.print_table(("INSTANCE", "CHECK", "STATUS", "LAST OUTPUT"), rows, note)
        return exits.OK

    return ask(server, f"show the checks of {name!r}", as_json, use)
