"""``waypost status``: how the registry is."""

from typing import TYPE_CHECKING, cast

import click

from waypost.cli import exits
from waypost.cli.options import json_option, server_option

if TYPE_CHECKING:
    from waypost.client.registry import Registry


@click.command()
@server_option
@json_option
def status(server: str, as_json: bool) -> int:
    """Show how the registry is: what it holds, who leads, whether it takes writes."""
    from waypost.cli.asking import ask

    async def use(registry: "Registry") -> int:
        import msgspec

        from waypost.cli import output

        node = await registry.status()
        shown = msgspec.structs.asdict(node)
        if not output.is_for_people(as_json):
            output.print_json(shown)
            return exits.OK
        rows = [(key.replace("_", " "), _text(value)) for key, value in shown.items()]
        output.print_table(("", server), rows)
        return exits.OK

    return ask(server, "ask for the status", as_json, use)


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return " ".join(map(str, cast("list[object]", value)))
    return str(value) or "-"
