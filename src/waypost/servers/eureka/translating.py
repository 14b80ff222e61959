"""Eureka's ``InstanceInfo`` and our instance, each as the other.

What Eureka knows of an instance beyond ours is kept in its meta under ``eureka.`` and the name that
it has in Eureka's JSON, and shown again unchanged.  What is usual is not kept: a country of 1, a
renewal every 30 s, a data centre ``MyOwn``, a secure port that is 443 and not in use.  An instance
that came by another door has no such meta, and is shown as a client of Eureka would have put it.

Of two ports in use the plain one is the instance's, and the other is its port named ``secure``.

An instance's status is its health, and an override is why it is so: ``override: DOWN``.  A drain,
whoever asked for it, is an override to ``OUT_OF_SERVICE``.

Source: for what is shown, Netflix/eureka, ``InstanceInfo``; for the order in which an override and
an instance's own status count, its ``FirstMatchWinsCompositeRule``.
"""

from typing import Final

from waypost.errors import Invalid
from waypost.model import Health, Instance, Record, check_instance
from waypost.servers.eureka.info import (
    AMAZON,
    DATA_CENTER,
    DURATION_S,
    RENEWAL_S,
    SECURE_PORT,
    STATUSES,
    TEXTS,
    DataCenter,
    InstanceInfo,
    Port,
    Status,
    class_of,
)
from waypost.servers.eureka.names import app_of, id_of, instance_id_of, service_of

PREFIX: Final = "eureka."
SECURE: Final = "secure"
"""The name among an instance's ports of the one for TLS, if it is not its only one."""
_HOST: Final = PREFIX + "hostName"
"""Every instance that came by this door has it."""
_PORT: Final = PREFIX + "port"
_SECURE_PORT: Final = PREFIX + "securePort"
_COUNTRY: Final = PREFIX + "countryId"
_RENEWAL: Final = PREFIX + "renewalIntervalInSecs"
_COORDINATING: Final = PREFIX + "isCoordinatingDiscoveryServer"
_DIRTY: Final = PREFIX + "lastDirtyTimestamp"
_CENTER_NAME: Final = PREFIX + "dataCenterInfo.name"
_CENTER_CLASS: Final = PREFIX + "dataCenterInfo.class"
_CENTER_META: Final = PREFIX + "dataCenterInfo.metadata."
_META: Final = PREFIX + "metadata."
"""Of a client's own metadata, the keys that begin with ``eureka.``, so that they are not ours."""

_AVAILABILITY_ZONE: Final = "availability-zone"
_HEALTHS: Final[dict[Status, Health]] = {
    "UP": "passing",
    "DOWN": "critical",
    "STARTING": "starting",
    "OUT_OF_SERVICE": "draining",
    "UNKNOWN": "critical",
}
_STATUSES: Final[dict[Health, Status]] = {
    "passing": "UP",
    "warning": "UP",
    "critical": "DOWN",
    "starting": "STARTING",
    "draining": "OUT_OF_SERVICE",
}
_OVERRIDE: Final = "override: "
WHY_UNKNOWN: Final = "status UNKNOWN"
WHY_OWN_DRAIN: Final = "registered as OUT_OF_SERVICE"


# Health and status


def health_of(status: Status) -> tuple[Health, str]:
    """The health that a status of its own stands for, and why."""
    why = {"UNKNOWN": WHY_UNKNOWN, "OUT_OF_SERVICE": WHY_OWN_DRAIN}.get(status, "")
    return _HEALTHS[status], why


def overriding(status: Status) -> tuple[Health, str]:
    """The health that an override to this status gives, and why."""
    return _HEALTHS[status], WHY_UNKNOWN if status == "UNKNOWN" else _OVERRIDE + status


def overridden(status: Status, override: Status) -> tuple[Health, str]:
    """The health of one whose own status is this, and that is overridden."""
    if override == "UNKNOWN":
        return health_of(status)
    health, why = overriding(override)
    return (health if status in ("UP", "OUT_OF_SERVICE") else _HEALTHS[status]), why


def override_of(health: Health, why: str) -> Status:
    """The status that somebody else gave an instance that is declared so.

    ``UNKNOWN`` if nobody did.
    """
    for status in STATUSES:
        if why == _OVERRIDE + status:
            return status
    is_drained = health == "draining" and why != WHY_OWN_DRAIN
    return "OUT_OF_SERVICE" if is_drained else "UNKNOWN"


def status_of(record: Record, *, is_resolvable: bool) -> Status:
    """How it is, for those who look for one to use."""
    if record.health == "critical" and record.why == WHY_UNKNOWN:
        return "UNKNOWN"
    status = _STATUSES[record.health]
    if status == "UP" and not is_resolvable:
        return "OUT_OF_SERVICE" if record.instance.weight == 0 else "DOWN"
    return status


# In


def instance_of(info: InstanceInfo) -> Instance:
    """What is registered of it; ``Invalid`` if that cannot be."""
    port, ports = _ports_in(info)
    zone = info.metadata.get("zone", "")
    if not zone and info.data_center.name == AMAZON:
        zone = info.data_center.metadata.get(_AVAILABILITY_ZONE, "")
    instance = Instance(
        service_of(info.app),
        id_of(info.instance_id),
        info.ip_addr,
        port,
        zone=zone,
        version=info.metadata.get("version", ""),
        meta=_meta_in(info),
        ports=ports,
    )
    check_instance(instance)
    return instance


def _ports_in(info: InstanceInfo) -> tuple[int, dict[str, int]]:
    port, secure = info.port, info.secure_port
    if port.enabled or not secure.enabled:
        ports = {SECURE: secure.number} if secure.enabled else {}
        return _used(port, "port"), ports
    return _used(secure, "securePort"), {SECURE: secure.number}


def _used(port: Port, field: str) -> int:
    if port.number == 0:
        raise Invalid(
            f"{field}: 0 is no port to connect to: register the one that it listens on", field=field
        )
    return port.number


def _meta_in(info: InstanceInfo) -> dict[str, str]:
    center = info.data_center
    kept = {_HOST: info.host_name, **{PREFIX + name: text for name, text in info.texts.items()}}
    if not info.port.enabled:
        kept[_PORT] = str(info.port.number)
    if not info.secure_port.enabled and info.secure_port.number != SECURE_PORT.number:
        kept[_SECURE_PORT] = str(info.secure_port.number)
    if info.country_id != 1:
        kept[_COUNTRY] = str(info.country_id)
    if info.renewal_s != RENEWAL_S:
        kept[_RENEWAL] = str(info.renewal_s)
    if info.is_coordinating:
        kept[_COORDINATING] = "true"
    if info.dirty_ms:
        kept[_DIRTY] = str(info.dirty_ms)
    if center.name != DATA_CENTER:
        kept[_CENTER_NAME] = center.name
    if center.class_name != class_of(center.name):
        kept[_CENTER_CLASS] = center.class_name
    kept.update((_CENTER_META + key, value) for key, value in center.metadata.items())
    return kept | own_meta(info.metadata)


def own_meta(metadata: dict[str, str]) -> dict[str, str]:
    """A client's metadata as it stands in our meta."""
    return {
        (_META + key if key.startswith(PREFIX) else key): value for key, value in metadata.items()
    }


# Out


def dirty_ms_of(record: Record) -> int:
    """When its provider last changed it, as the provider said; 0 if it did not say."""
    return _number(record.instance.meta, _DIRTY, 0)


def info_of(record: Record, *, status: Status, override: Status, ttl_ms: int) -> InstanceInfo:
    """Show a record; ``ttl_ms`` is its lease, 0 for none."""
    instance = record.instance
    duration_s = -(-ttl_ms // 1000)  # rounded up: nobody should renew too late
    if _HOST not in instance.meta:
        return _shown_as_of_eureka(record, status, override, duration_s)
    meta = instance.meta
    center = meta.get(_CENTER_NAME, DATA_CENTER)
    port, secure_port = _ports_out(instance)
    return InstanceInfo(
        app=app_of(instance.service),
        instance_id=instance_id_of(instance.id),
        host_name=meta[_HOST],
        ip_addr=instance.host,
        status=status,
        overridden=override,
        port=port,
        secure_port=secure_port,
        country_id=_number(meta, _COUNTRY, 1),
        data_center=DataCenter(
            center,
            meta.get(_CENTER_CLASS, class_of(center)),
            _within(meta, _CENTER_META),
        ),
        renewal_s=_number(meta, _RENEWAL, RENEWAL_S),
        duration_s=duration_s,
        metadata={key: value for key, value in meta.items() if not key.startswith(PREFIX)}
        | _within(meta, _META),
        texts={name: meta[PREFIX + name] for name in TEXTS if PREFIX + name in meta},
        is_coordinating=_COORDINATING in meta,
        dirty_ms=dirty_ms_of(record),
        updated_ms=record.since_ms,
    )


def _within(meta: dict[str, str], prefix: str) -> dict[str, str]:
    return {
        key.removeprefix(prefix): value for key, value in meta.items() if key.startswith(prefix)
    }


def _number(meta: dict[str, str], key: str, default: int) -> int:
    """What we wrote there, and perhaps somebody else after us: that may be anything."""
    text = meta.get(key, "")
    return int(text) if text.isascii() and text.isdigit() else default


def _ports_out(instance: Instance) -> tuple[Port, Port]:
    meta = instance.meta
    port = Port(_number(meta, _PORT, instance.port), _PORT not in meta)
    if SECURE in instance.ports:
        return port, Port(instance.ports[SECURE], True)
    return port, Port(_number(meta, _SECURE_PORT, SECURE_PORT.number), False)


def _shown_as_of_eureka(
    record: Record, status: Status, override: Status, duration_s: int
) -> InstanceInfo:
    """One that came by another door."""
    instance = record.instance
    app = app_of(instance.service)
    secure = instance.ports.get(SECURE) or instance.ports.get("https")
    metadata = {key: value for key, value in instance.meta.items() if not key.startswith(PREFIX)}
    for name, number in instance.ports.items():
        metadata.setdefault(f"port.{name}", str(number))
    if instance.tags:
        metadata.setdefault("tags", ",".join(instance.tags))
    if instance.zone:
        metadata.setdefault("zone", instance.zone)
    if instance.version:
        metadata.setdefault("version", instance.version)
    if instance.node:
        metadata.setdefault("node", instance.node)
    if instance.weight is not None:
        metadata.setdefault("weight", f"{instance.weight:g}")
    host = f"[{instance.host}]" if ":" in instance.host else instance.host
    return InstanceInfo(
        app=app,
        instance_id=instance_id_of(instance.id),
        host_name=instance.host,
        ip_addr=instance.host,
        status=status,
        overridden=override,
        port=Port(instance.port, True),
        secure_port=SECURE_PORT if secure is None else Port(secure, True),
        renewal_s=max(1, duration_s // 3) if duration_s else RENEWAL_S,
        duration_s=duration_s or DURATION_S,
        metadata=metadata,
        texts={
            "homePageUrl": f"http://{host}:{instance.port}/",
            "vipAddress": app.lower(),
            "secureVipAddress": app.lower(),
        },
        updated_ms=record.since_ms,
    )
