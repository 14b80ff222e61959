"""What a consumer asks of one service, and which of its instances answer.

All conditions of a query hold together.  Health comes last: the last resort (a suspect, when
nothing better is left) is looked for among those that match everything else.
"""

from collections.abc import Iterable
from typing import assert_never

from waypost.model import Query, Record, resolvable


def select(records: Iterable[Record], query: Query) -> list[Record]:
    """Tell which of the records answer the query, in order of their ids."""
    chosen = [record for record in records if _matches(record, query)]
    match query.health:
        case "any":
            pass
        case "resolvable":
            chosen = resolvable(chosen)
        case "starting" | "passing" | "warning" | "critical" | "draining":
            chosen = [record for record in chosen if record.health == query.health]
            chosen = [record for record in chosen if not record.suspect] or chosen
        case _:
            assert_never(query.health)
    chosen.sort(key=_id)
    return chosen


def _matches(record: Record, query: Query) -> bool:
    instance = record.instance
    return (
        (not query.zone or instance.zone == query.zone)
        and (not query.version or instance.version == query.version)
        and all(tag in instance.tags for tag in query.tags)
        and all(instance.meta.get(key) == value for key, value in query.meta.items())
    )


def _id(record: Record) -> str:
    return record.instance.id
