"""``/v1/event``: the latest events, which every server keeps.

In Consul an event is gossiped, and each agent keeps what reached it and what its filters let in.
Here an event is an entry of the log: every server has the same latest ones, in the same order, and
filters are told and not applied.

Source: Consul's documentation of events, and ``agent/event_endpoint`` of 1.16.
"""

import uuid

import msgspec

from waypost.catalog.keyspace import Event
from waypost.commands import FireEvent
from waypost.servers.consul.key_topics import EventsTopic
from waypost.servers.consul.operations import Call, Operation, check_datacenter
from waypost.servers.consul.refusals import Refusal
from waypost.servers.consul.replies import Reply


class EventView(msgspec.Struct, rename="pascal", frozen=True):
    """An event as Consul shows it."""

    id: str = msgspec.field(name="ID")
    name: str
    payload: bytes | None
    node_filter: str
    service_filter: str
    tag_filter: str
    version: int
    l_time: int = msgspec.field(name="LTime")


async def fire(call: Call) -> Reply:
    """Tell of an event."""
    check_datacenter(call.asked)
    if not call.rest:
        raise Refusal(400, "Missing name")
    asked = call.asked
    event = FireEvent(
        str(uuid.uuid4()),
        call.rest,
        await call.content(),
        asked.one("node"),
        asked.one("service"),
        asked.one("tag"),
    )
    await call.written(await call.registry.keys.fire(event))
    shown = EventView(
        event.id,
        event.name,
        event.payload or None,
        event.node,
        event.service,
        event.tag,
        1,
        0,
    )
    return call.plain(shown)


async def listing(call: Call) -> Reply:
    """Show the latest, with ``name`` those of that name."""
    name = call.asked.one("name")
    index = await call.read(EventsTopic(call.registry.keys, name))
    events = call.registry.keys.space.events
    return call.reply([_view(each) for each in events if name in ("", each.name)], index)


def _view(event: Event) -> EventView:
    return EventView(
        event.id,
        event.name,
        event.payload or None,
        event.node,
        event.service,
        event.tag,
        1,
        event.number,
    )


OPERATIONS = (
    Operation("PUT", "event/fire/", fire),
    Operation("GET", "event/list", listing),
)
