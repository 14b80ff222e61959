"""``waypost deregister`` and ``waypost drain``: take an instance away, at once or gently."""

from typing import TYPE_CHECKING

import click

from waypost.cli import exits
from waypost.cli.options import duration, json_option, server_option

if TYPE_CHECKING:
    from waypost.client.registry import Registry


@click.command()
@click.argument("name")
@click.argument("instance_id", metavar="ID")
@server_option
@json_option
def deregister(name: str, instance_id: str, server: str, as_json: bool) -> int:
    """Remove an instance, whoever registered it.

    \b
    Exit codes: 0 removed, 1 there is none.
    """
    from waypost.cli.asking import ask

    async def use(registry: "Registry") -> int:
        from waypost.cli import output

        await registry.deregister(name, instance_id)
        if output.is_for_people(as_json):
            print(f"Deregistered {name}/{instance_id}.")
        else:
            output.print_json({"event": "deregistered", "service": name, "id": instance_id})
        return exits.OK

    return ask(server, f"deregister {name}/{instance_id}", as_json, use)


@click.command()
@click.argument("name")
@click.argument("instance_id", metavar="ID")
@click.option(
    "--deadline",
    type=duration,
    default=10.0,
    show_default="10s",
    help="How long to wait for the consumers.",
)
@server_option
@json_option
def drain(name: str, instance_id: str, deadline: float, server: str, as_json: bool) -> int:
    """Take an instance out of new picks, and wait until every consumer has noticed.

    When it returns with 0, nobody picks the instance any more, and it may be stopped.

    \b
    Exit codes: 0 drained, 1 there is no such instance,
    5 some consumers had not confirmed by the deadline.
    """
    from waypost.cli.asking import ask

    async def use(registry: "Registry") -> int:
        from waypost.cli import output
        from waypost.cli.asking import warn

        done = await registry.drain(name, instance_id, deadline)
        seen = done.watchers - done.unseen
        if output.is_for_people(as_json):
            print(f"Drained {name}/{instance_id}: seen by {seen} of {done.watchers} watchers.")
        else:
            output.print_json(
                {
                    "event": "drained",
                    "service": name,
                    "id": instance_id,
                    "revision": done.revision,
                    "watchers": done.watchers,
                    "unseen": done.unseen,
                }
            )
        if done.unseen:
            warn(
                f"{done.unseen} of {done.watchers} watchers had not confirmed within "
                f"{deadline:g} s: they may still pick it for a moment"
            )
            return exits.NOT_AS_WANTED
        return exits.OK

    return ask(server, f"drain {name}/{instance_id}", as_json, use)
