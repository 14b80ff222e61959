"""``waypost services``: what there is."""

from typing import TYPE_CHECKING

import click

from waypost.cli import exits
from waypost.cli.options import json_option, server_option

if TYPE_CHECKING:
    from waypost.client.registry import Registry


@click.command()
@server_option
@json_option
def services(server: str, as_json: bool) -> int:
    """List every service that has an instance."""
    from waypost.cli.asking import ask

    async def use(registry: "Registry") -> int:
        import msgspec

        from waypost.cli import output

        listed = await registry.services()
        age_ms = round(listed.age * 1000)
        if not output.is_for_people(as_json):
            output.print_json(
                {
                    "revision": listed.revision,
                    "age_ms": age_ms,
                    "source": listed.source,
                    "services": [msgspec.structs.asdict(each) for each in listed.services],
                }
            )
            return exits.OK
        note = output.freshness_text(listed.revision, age_ms, listed.source)
        if not listed.services:
            print(f"No service is registered yet ({note}).")
            return exits.OK
        rows = [
            (each.service, str(each.instances), str(each.pickable), str(each.revision))
            for each in listed.services
        ]
        output.print_table(("SERVICE", "INSTANCES", "USABLE", "CHANGED AT"), rows, note)
        return exits.OK

    return ask(server, "list the services", as_json, use)
