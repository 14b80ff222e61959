"""Eureka's ``InstanceInfo``, and its form as nested fields, which JSON and XML share.

The form is that of Eureka's JSON: ``@name`` is an attribute of an element, ``$`` its text.  What
comes in is read leniently where clients differ (numbers as text and text as numbers, a port with
or without its attribute, fields that nobody knows), and refused with the name of the field where
it makes no sense.

Source: Netflix/eureka, ``com.netflix.appinfo.InstanceInfo`` and its converters.
"""

import re
from collections.abc import Mapping
from typing import Any, Final, Literal, get_args

import msgspec

from waypost.errors import Invalid

Status = Literal["UP", "DOWN", "STARTING", "OUT_OF_SERVICE", "UNKNOWN"]
STATUSES: Final[tuple[Status, ...]] = get_args(Status)
Action = Literal["ADDED", "MODIFIED", "DELETED"]
Fields = dict[str, Any]

RENEWAL_S: Final = 30
DURATION_S: Final = 90
DATA_CENTER: Final = "MyOwn"
AMAZON: Final = "Amazon"
CLASS: Final = "@class"
EMPTY_MAP: Final = "java.util.Collections$EmptyMap"
_CLASSES: Final = {AMAZON: "com.netflix.appinfo.AmazonInfo"}
_CLASS_OF_OTHERS: Final = "com.netflix.appinfo.InstanceInfo$DefaultDataCenterInfo"
_NUMBER = re.compile(r"-?[0-9]{1,18}")

TEXTS: Final = (
    "appGroupName",
    "homePageUrl",
    "statusPageUrl",
    "healthCheckUrl",
    "secureHealthCheckUrl",
    "vipAddress",
    "secureVipAddress",
    "asgName",
    "sid",
)
"""Fields that a client may give, and that mean nothing to us."""


class Port(msgspec.Struct, frozen=True, gc=False):
    """A port, and whether it is in use."""

    number: int
    enabled: bool


PORT: Final = Port(7001, True)
SECURE_PORT: Final = Port(443, False)


class DataCenter(msgspec.Struct, frozen=True, gc=False):
    """Where the instance says that it runs."""

    name: str = DATA_CENTER
    class_name: str = _CLASS_OF_OTHERS
    metadata: dict[str, str] = {}


class InstanceInfo(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One running copy of an application, as Eureka tells of it."""

    app: str
    instance_id: str
    host_name: str
    ip_addr: str
    status: Status = "UP"
    overridden: Status = "UNKNOWN"
    port: Port = PORT
    secure_port: Port = SECURE_PORT
    country_id: int = 1
    data_center: DataCenter = DataCenter()
    renewal_s: int = RENEWAL_S
    duration_s: int = DURATION_S
    metadata: dict[str, str] = {}
    texts: dict[str, str] = {}
    """Of ``TEXTS`` those that are given, by name."""
    is_coordinating: bool = False
    dirty_ms: int = 0
    """When its provider last changed it, by the provider's own clock; 0 if it does not say."""
    updated_ms: int = 0


def class_of(data_center: str) -> str:
    """The class that Eureka gives to a data centre of that name."""
    return _CLASSES.get(data_center, _CLASS_OF_OTHERS)


# Out


def fields_of(info: InstanceInfo) -> Fields:
    """Show an instance; in the order of Eureka's own answers."""
    data_center: Fields = {CLASS: info.data_center.class_name, "name": info.data_center.name}
    if info.data_center.metadata:
        data_center["metadata"] = info.data_center.metadata
    fields: Fields = {
        "instanceId": info.instance_id,
        "hostName": info.host_name,
        "app": info.app,
        "ipAddr": info.ip_addr,
        "status": info.status,
        "overriddenstatus": info.overridden,
        "port": _port_fields(info.port),
        "securePort": _port_fields(info.secure_port),
        "countryId": info.country_id,
        "dataCenterInfo": data_center,
        "leaseInfo": {
            "renewalIntervalInSecs": info.renewal_s,
            "durationInSecs": info.duration_s,
            "registrationTimestamp": info.updated_ms,
            "lastRenewalTimestamp": info.updated_ms,
            "evictionTimestamp": 0,
            "serviceUpTimestamp": info.updated_ms,
        },
        "metadata": info.metadata or {CLASS: EMPTY_MAP},
    }
    fields.update(info.texts)
    fields["isCoordinatingDiscoveryServer"] = _flag_text(info.is_coordinating)
    fields["lastUpdatedTimestamp"] = str(info.updated_ms)
    fields["lastDirtyTimestamp"] = str(info.dirty_ms or info.updated_ms)
    return fields


def _port_fields(port: Port) -> Fields:
    return {"$": port.number, "@enabled": _flag_text(port.enabled)}


def _flag_text(flag: bool) -> str:
    return "true" if flag else "false"


# In


def info_of(fields: Fields) -> InstanceInfo:
    """Read an instance; what Eureka demands must be there."""
    data_center = _data_center(fields)
    host_name = _text(fields, "hostName")
    instance_id = (
        _text(fields, "instanceId")
        or (data_center.metadata.get("instance-id", "") if data_center.name == AMAZON else "")
        or host_name
    )
    lease = _nested(fields, "leaseInfo")
    duration_s = _number(lease, "durationInSecs", DURATION_S)
    renewal_s = _number(lease, "renewalIntervalInSecs", RENEWAL_S)
    overridden = _text(fields, "overriddenstatus") or _text(fields, "overriddenStatus")
    texts = {name: _text(fields, name) for name in TEXTS}
    return InstanceInfo(
        app=_needed(_text(fields, "app"), "app", "appName").upper(),
        instance_id=_needed(instance_id, "instanceId", "instanceId"),
        host_name=_needed(host_name, "hostName", "hostname"),
        ip_addr=_needed(_text(fields, "ipAddr"), "ipAddr", "ip address"),
        status=read_status(_text(fields, "status") or "UP", "status"),
        overridden=read_status(overridden or "UNKNOWN", "overriddenstatus"),
        port=_port(fields, "port", PORT),
        secure_port=_port(fields, "securePort", SECURE_PORT),
        country_id=_number(fields, "countryId", 1),
        data_center=data_center,
        renewal_s=renewal_s if renewal_s > 0 else RENEWAL_S,
        duration_s=duration_s if duration_s > 0 else DURATION_S,
        metadata=_pairs(fields, "metadata"),
        texts={name: text for name, text in texts.items() if text},
        is_coordinating=_flag(fields, "isCoordinatingDiscoveryServer", False),
        dirty_ms=max(0, _number(fields, "lastDirtyTimestamp", 0)),
    )


def read_status(text: str, field: str) -> Status:
    """One of Eureka's statuses."""
    for status in STATUSES:
        if text.upper() == status:
            return status
    raise Invalid(f"{field}: {text[:80]!r} is none of {', '.join(STATUSES)}", field=field)


def _needed(text: str, field: str, called: str) -> str:
    if not text:
        raise Invalid(f"Missing {called}: {field} must be given", field=field)
    return text


def _data_center(fields: Fields) -> DataCenter:
    if fields.get("dataCenterInfo") is None:
        raise Invalid(
            'Missing dataCenterInfo: {"name": "MyOwn"} is the usual one', field="dataCenterInfo"
        )
    given = _nested(fields, "dataCenterInfo")
    name = _needed(_text(given, "name"), "dataCenterInfo.name", "dataCenterInfo Name")
    return DataCenter(name, _text(given, CLASS) or class_of(name), _pairs(given, "metadata"))


def _nested(fields: Fields, name: str) -> Fields:
    value = fields.get(name)
    if value is None or value == "":
        return {}
    if not isinstance(value, dict):
        raise Invalid(f"{name}: must have fields of its own", field=name)
    return value  # pyright: ignore[reportUnknownVariableType] - its values are looked at one by one


def _pairs(fields: Fields, name: str) -> dict[str, str]:
    given = _nested(fields, name)
    # How Java's serializers mark a map that is empty.
    return {
        key: _text(given, key, name)
        for key in given
        if not (key in (CLASS, "class") and given[key] == EMPTY_MAP)
    }


def _text(fields: Mapping[str, object], name: str, within: str = "") -> str:
    """A field's text; a scalar of another kind is taken for its text, as Jackson does."""
    value = fields.get(name)
    match value:
        case None:
            return ""
        case str():
            return value if within else value.strip()
        case bool():
            return _flag_text(value)
        case int() | float():
            return str(value)
        case _:
            shown = f"{within}.{name[:80]}" if within else name
            raise Invalid(f"{shown}: must be a text", field=shown)


def _number(fields: Fields, name: str, default: int) -> int:
    text = _text(fields, name)
    if not text:
        return default
    if not _NUMBER.fullmatch(text):
        raise Invalid(f"{name}: {text[:80]!r} is not a whole number", field=name)
    return int(text)


def _flag(fields: Fields, name: str, default: bool) -> bool:
    text = _text(fields, name).lower()
    if text not in ("", "true", "false"):
        raise Invalid(f"{name}: {text[:80]!r} is neither true nor false", field=name)
    return text == "true" if text else default


def _port(fields: Fields, name: str, default: Port) -> Port:
    """``8080``, ``"8080"``, or ``{"$": 8080, "@enabled": "true"}``."""
    value = fields.get(name)
    given: Fields = _nested(fields, name) if isinstance(value, dict) else {"$": value}
    try:
        number = _number(given, "$", default.number)
        enabled = _flag(given, "@enabled", default.enabled)
    except Invalid as error:
        raise Invalid(f"{name}: {error.message}", field=name) from None
    if not 0 <= number <= 65_535:
        raise Invalid(f"{name}: {number} is outside 0 to 65535", field=name)
    return Port(number, enabled)
