"""Why nothing may be picked, in words for whoever has to mend it."""

from collections import Counter
from collections.abc import Sequence

from waypost.model import Record, ServiceName


def why_none(service: ServiceName, records: Sequence[Record]) -> str:
    """Tell apart: none registered, all drained, none healthy; and say what to do."""
    if not records:
        return (
            f"no instance of {service} is registered: start a provider, or check the name and "
            "the namespace of the service"
        )
    kinds = Counter(_kind(record) for record in records)
    if kinds["drained"] == len(records):
        return (
            f"all instances of {service} are drained ({len(records)} of {len(records)}): undrain "
            "one, give it a weight above 0, or register another"
        )
    counts = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    worst = next(record for record in records if _kind(record) != "drained")
    reason = f"; {worst.instance.id}: {worst.why}" if worst.why else ""
    return (
        f"no instance of {service} is healthy ({counts}{reason}): mend what their checks report, "
        "or wait until one passes"
    )


def _kind(record: Record) -> str:
    is_drained = record.health == "draining" or record.instance.weight == 0
    return "drained" if is_drained else record.health
