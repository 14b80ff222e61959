"""Which of what is listed is asked for: ``tag``, ``node-meta``, ``filter``; and what those know.

``near`` changes nothing: nobody measures the distances between nodes, and Consul keeps the order
then too.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from waypost.servers.consul.filters import ANY, Test
from waypost.servers.consul.operations import Call

NODE_FIELDS: Final[dict[str, Any]] = {
    "ID": None,
    "Node": None,
    "Address": None,
    "Datacenter": None,
    "TaggedAddresses": ANY,
    "Meta": ANY,
    "CreateIndex": None,
    "ModifyIndex": None,
    "Partition": None,
    "PeerName": None,
}
SERVICE_FIELDS: Final[dict[str, Any]] = {
    "ID": None,
    "Kind": None,
    "Service": None,
    "Tags": None,
    "Address": None,
    "TaggedAddresses": ANY,
    "Meta": ANY,
    "Port": None,
    "Weights": {"Passing": None, "Warning": None},
    "EnableTagOverride": None,
    "Proxy": ANY,
    "Connect": ANY,
    "Datacenter": None,
    "PeerName": None,
    "CreateIndex": None,
    "ModifyIndex": None,
}
CHECK_FIELDS: Final[dict[str, Any]] = {
    "Node": None,
    "CheckID": None,
    "Name": None,
    "Status": None,
    "Notes": None,
    "Output": None,
    "ServiceID": None,
    "ServiceName": None,
    "ServiceTags": None,
    "Type": None,
    "Interval": None,
    "Timeout": None,
    "Definition": ANY,
    "CreateIndex": None,
    "ModifyIndex": None,
}
ENTRY_FIELDS: Final[dict[str, Any]] = {
    "Node": NODE_FIELDS,
    "Service": SERVICE_FIELDS,
    "Checks": CHECK_FIELDS,
}
FLAT_FIELDS: Final[dict[str, Any]] = {
    "ID": None,
    "Node": None,
    "Address": None,
    "Datacenter": None,
    "TaggedAddresses": ANY,
    "NodeMeta": ANY,
    "ServiceKind": None,
    "ServiceID": None,
    "ServiceName": None,
    "ServiceTags": None,
    "ServiceAddress": None,
    "ServiceTaggedAddresses": ANY,
    "ServiceWeights": {"Passing": None, "Warning": None},
    "ServiceMeta": ANY,
    "ServicePort": None,
    "ServiceSocketPath": None,
    "ServiceEnableTagOverride": None,
    "ServiceProxy": ANY,
    "ServiceConnect": ANY,
    "ServiceLocality": ANY,
    "CreateIndex": None,
    "ModifyIndex": None,
}


def chosen_entries(
    call: Call, entries: list[dict[str, Any]], test: Test | None
) -> list[dict[str, Any]]:
    """Those of ``health/service`` with all the tags and node meta that are asked for."""
    tags, meta = wanted_tags(call), wanted_meta(call)
    if call.asked.one("peer"):  # there are none
        return []
    if tags:
        entries = [each for each in entries if has_tags(each["Service"]["Tags"], tags)]
    if meta:
        entries = [each for each in entries if has_pairs(each["Node"]["Meta"], meta)]
    return entries if test is None else [each for each in entries if test(each)]


def chosen_flat(
    call: Call, entries: list[dict[str, Any]], test: Test | None
) -> list[dict[str, Any]]:
    """Those of ``catalog/service``, likewise."""
    tags, meta = wanted_tags(call), wanted_meta(call)
    if call.asked.one("peer"):
        return []
    if tags:
        entries = [each for each in entries if has_tags(each["ServiceTags"], tags)]
    if meta:
        entries = [each for each in entries if has_pairs(each["NodeMeta"], meta)]
    return entries if test is None else [each for each in entries if test(each)]


def chosen_checks(
    call: Call, checks: list[dict[str, Any]], test: Test | None
) -> list[dict[str, Any]]:
    """Those of nodes with the meta that is asked for."""
    meta = wanted_meta(call)
    if meta:
        nodes = call.shapes().nodes
        checks = [each for each in checks if nodes.has_meta(each["Node"], meta)]
    return checks if test is None else [each for each in checks if test(each)]


def wanted_tags(call: Call) -> set[str]:
    """All of which an instance must have, whatever their case."""
    return {tag.lower() for tag in call.asked.all("tag") if tag}


def wanted_meta(call: Call) -> dict[str, str]:
    """Pairs, all of which a node must have."""
    pairs = (each.partition(":") for each in call.asked.all("node-meta"))
    return {key: value for key, _, value in pairs}


def has_tags(tags: Iterable[str], wanted: set[str]) -> bool:
    """Whether all of them are there."""
    return wanted <= {tag.lower() for tag in tags}


def has_pairs(meta: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    """Whether all of them are there."""
    return all(meta.get(key) == value for key, value in wanted.items())


def by_check(check: dict[str, Any]) -> tuple[str, str]:
    """The order of checks."""
    return check["Node"], check["CheckID"]
