"""``waypost resolve NAME``: which instances a consumer should use now."""

import random
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from waypost.cli import exits
from waypost.cli.options import duration, filter_options, json_option, server_option

if TYPE_CHECKING:
    from waypost.client.answers import Answer
    from waypost.client.registry import Registry
    from waypost.model import Record


HEALTH_FILTERS: Final = (
    "resolvable",
    "any",
    "starting",
    "passing",
    "warning",
    "critical",
    "draining",
)


@click.command()
@click.argument("name")
@click.option("--one", is_flag=True, help="Choose one of them.")
@click.option(
    "--policy",
    help="How --one chooses: least_response_time (the default), random, round_robin or weighted.",
)
@click.option(
    "--health",
    type=click.Choice(HEALTH_FILTERS),
    default="resolvable",
    show_default=True,
    help="Only of this health; 'resolvable' are those that should be used, 'any' is all.",
)
@filter_options
@click.option(
    "--consistency",
    type=click.Choice(["default", "linearizable"]),
    default="default",
    show_default=True,
    help="'linearizable' sees every write that was acknowledged before.",
)
@click.option("--max-stale", type=duration, help="Fail rather than answer from older data.")
@server_option
@json_option
def resolve(
    name: str,
    one: bool,
    policy: str | None,
    health: str,
    tags: tuple[str, ...],
    zone: str,
    meta: tuple[tuple[str, str], ...],
    consistency: str,
    max_stale: float | None,
    server: str,
    as_json: bool,
) -> int:
    """Show the instances of a service that a consumer should use now.

    While no registry answers, the last known answer is shown, with a warning on stderr.

    \b
    Exit codes: 0 found, 1 unknown name, 2 known but none to be used,
    3 no answer and nothing cached.
    """
    if policy is not None and not one:
        raise click.UsageError("--policy says how --one chooses: add --one")
    from waypost.cli.asking import ask

    conditions: dict[str, Any] = {
        "health": health,
        "tags": tags,
        "zone": zone,
        "meta": dict(meta),
        "consistency": consistency,
        "max_stale": max_stale,
    }

    async def use(registry: "Registry") -> int:
        answer = await _answer(registry, name, conditions)
        records = answer.records
        if one and records:
            records = (_one_of(records, policy, name),)
        _show(name, answer, records, one, as_json)
        if not records:
            await _explain_none(registry, name)
        return exits.OK

    return ask(server, f"resolve {name!r}", as_json, use)


async def _answer(registry: "Registry", name: str, conditions: dict[str, Any]) -> "Answer":
    answer = await registry.resolve(name, **conditions)
    if answer.source in ("cache", "disk"):
        from waypost.cli.asking import warn

        warn(f"no registry answers: this is what was last known, {answer.age:.0f} s ago")
    return answer


async def _explain_none(registry: "Registry", name: str) -> None:
    """Raise why nothing was found."""
    from waypost.balance.refusal import why_none
    from waypost.errors import NoInstance, UnknownService
    from waypost.model import resolvable

    every = (await registry.resolve(name, health="any")).records
    if not every:
        raise UnknownService(
            "no instance is registered: check the name, or start a provider ('waypost services' "
            "lists what there is)"
        )
    if resolvable(every):
        raise NoInstance(
            f"{len(every)} registered, and none of them meets the conditions: leave some out"
        )
    raise NoInstance(why_none(name, every))


def _one_of(records: "Sequence[Record]", policy: str | None, name: str) -> "Record":
    from waypost.balance import DEFAULT_POLICY, Pool

    pool = Pool(
        policy or DEFAULT_POLICY, random=random.random, clock=time.monotonic_ns, service=name
    )
    pool.replace(records)
    return pool.pick().record


def _show(
    name: str, answer: "Answer", records: "Sequence[Record]", one: bool, as_json: bool
) -> None:
    from waypost.cli import output
    from waypost.views import instance_view

    age_ms = round(answer.age * 1000)
    if not output.is_for_people(as_json):
        views = [instance_view(record) for record in records]
        shown: dict[str, object] = {
            "service": name,
            "revision": answer.revision,
            "age_ms": age_ms,
            "source": answer.source,
        }
        if one:
            shown["instance"] = views[0] if views else None
        else:
            shown["instances"] = views
        output.print_json(shown)
    elif records:
        note = output.freshness_text(answer.revision, age_ms, answer.source)
        output.print_instances(records, note)
