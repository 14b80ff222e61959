"""Records of a service, as a consumer learns them from the registry."""

from waypost.model import Health, Instance, Record


def record(
    instance_id: str,
    *,
    weight: float | None = None,
    health: Health = "passing",
    suspect: bool = False,
    incarnation: int = 1,
    why: str = "",
) -> Record:
    return Record(
        instance=Instance(
            service="orders",
            id=instance_id,
            host="10.0.0.1",
            port=8080,
            weight=weight,
            incarnation=incarnation,
        ),
        health=health,
        since_ms=0,
        why=why,
        suspect=suspect,
        session="",
        revision=1,
    )
