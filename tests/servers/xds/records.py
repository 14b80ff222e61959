"""Records, in few words."""

from typing import Any

from waypost.model import Health, Instance, Record


def record(
    id_: str,
    host: str = "10.0.0.1",
    port: int = 80,
    *,
    health: Health = "passing",
    suspect: bool = False,
    revision: int = 1,
    **more: Any,
) -> Record:
    instance = Instance("orders", id_, host, port, **more)
    return Record(instance, health, 0, "", suspect, "", revision)
