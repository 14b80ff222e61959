"""What was kept of earlier revisions never shows in a later answer."""

import asyncio
import json
import random
from collections import Counter
from typing import Any

import pytest
from tests.servers.mounted import Mounted, served

from waypost.commands import Attach, Register, Suspect
from waypost.model import HEALTHS, Instance
from waypost.servers.eureka.listing import WINDOW_MS, Listing
from waypost.servers.eureka.showing import Form

FORMS: tuple[Form, ...] = ("json", "xml")


async def change(world: Mounted, chance: random.Random) -> None:
    """Anything that may happen to one of a few instances."""
    service, instance_id = f"s{chance.randrange(3)}", f"i{chance.randrange(4)}"
    match chance.randrange(5):
        case 0 | 1:
            meta = {"n": str(chance.randrange(3))}
            weight = chance.choice((None, 0.0, 2.0))
            await world.register(service, instance_id, meta=meta, weight=weight)
        case 2:
            known = world.registry.catalog.service(service) or {}
            if instance_id in known:
                await world.registry.deregister(service, instance_id)
        case 3:
            known = world.registry.catalog.service(service) or {}
            if instance_id in known:
                health = chance.choice(HEALTHS)
                await world.registry.set_health(service, instance_id, health, "override: DOWN")
        case _:
            await suspect(world, service, instance_id)


async def suspect(world: Mounted, service: str, instance_id: str) -> None:
    """Lose the connection of its session."""
    session = f"of-{service}-{instance_id}"
    done = await world.registry.write([Attach(session, "elsewhere", 60_000, 60_000)])
    attachment = done.outcomes[0]
    assert isinstance(attachment, int)
    instance = Instance(service, instance_id, "10.0.0.1", 80)
    await world.registry.write([Register(instance, session), Suspect(session, attachment)])


@pytest.mark.parametrize("seed", range(3))
@served
async def test_a_list_that_was_kept_up_to_date_is_the_same_as_a_new_one(
    world: Mounted, seed: int
) -> None:
    chance = random.Random(seed)
    kept = Listing(world.registry)
    for _ in range(60):
        for _ in range(chance.randrange(1, 4)):
            await change(world, chance)
        form = chance.choice(FORMS)
        for what in ("all", "delta"):
            new = Listing(world.registry)
            assert await kept.told(what, form, gzip=False) == await new.told(what, form, gzip=False)


@served
async def test_an_answer_made_while_things_change_agrees_with_its_own_hash_code(
    world: Mounted,
) -> None:
    for number in range(300):
        await world.register(f"s{number % 3}", f"i{number}")
    listing = Listing(world.registry)

    async def change_all() -> None:
        for number in range(0, 300, 7):
            await world.registry.set_health(f"s{number % 3}", f"i{number}", "critical")

    changing = asyncio.create_task(change_all())
    while not changing.done():
        found = json.loads(await listing.told("all", "json", gzip=False))["applications"]
        counts = Counter(one["status"] for app in found["application"] for one in app["instance"])
        code = "".join(f"{status}_{counts[status]}_" for status in sorted(counts))
        assert found["apps__hashcode"] == code
        await asyncio.sleep(0)
    await changing


@pytest.mark.parametrize("seed", range(3))
@served
async def test_a_client_that_applies_deltas_has_what_a_full_answer_has(
    world: Mounted, seed: int
) -> None:
    chance = random.Random(seed)
    listing = Listing(world.registry)
    for _ in range(20):
        await change(world, chance)
    mine = by_id(json.loads(await listing.told("all", "json", gzip=False)))
    catalog = world.registry.catalog
    for _ in range(60):
        # What came before is older than the deltas' window.
        catalog.now_ms += WINDOW_MS + 1
        await change(world, chance)
        delta = json.loads(await listing.told("delta", "json", gzip=False))
        for app in delta["applications"]["application"]:
            for one in app["instance"]:
                key = app["name"], one["instanceId"]
                action = one.pop("actionType")
                if action == "DELETED":
                    mine.pop(key, None)
                else:
                    mine[key] = one
        full = json.loads(await listing.told("all", "json", gzip=False))
        assert mine == by_id(full)
        code = delta["applications"]["apps__hashcode"]
        assert code == full["applications"]["apps__hashcode"]


def by_id(answer: Any) -> dict[tuple[str, str], Any]:
    return {
        (app["name"], one["instanceId"]): one
        for app in answer["applications"]["application"]
        for one in app["instance"]
    }
