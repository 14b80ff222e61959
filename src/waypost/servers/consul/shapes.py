"""Services and checks in the forms in which Consul's clients read them.

Every instance is shown with the checks that count for it: its node's, its own, and, where it is not
passing by its provider's word or by the registry's doubt, one that says so.  ``draining`` is shown
as Consul's maintenance mode.  So ``?passing`` is what ``model.resolvable`` gives, without what
warns.
"""

from collections.abc import Iterable
from typing import Any, Final

from waypost.catalog.directory import Directory
from waypost.checks import CheckState
from waypost.model import Record, resolvable
from waypost.servers.consul.check_forms import definition_of, interval_of, timeout_of
from waypost.servers.consul.extras import Extras, extras_of, without_extras
from waypost.servers.consul.names import node_of, service_id_of, shown_name
from waypost.servers.consul.nodes import (
    CONSUL,
    DATACENTER,
    SERF,
    Nodes,
    family,
    port_of,
    serf_check,
)

MAINTENANCE: Final = "_service_maintenance:"
_PROXY: Final[dict[str, Any]] = {"Mode": "", "MeshGateway": {}, "Expose": {}}


class Shapes:
    """The forms of one moment."""

    __slots__ = ("_catalog", "_servers", "nodes")

    def __init__(self, catalog: Directory, servers: list[tuple[str, str]]) -> None:
        self._catalog = catalog
        self._servers = servers
        self.nodes = Nodes(catalog, servers)

    # Which

    def records(self, service: str) -> list[Record]:
        """The instances of a service, by node and id."""
        found = self._catalog.service(service) or {}
        return sorted(
            found.values(), key=lambda each: (node_of(each.instance), service_id_of(each.instance))
        )

    def usable(self, records: Iterable[Record]) -> set[str]:
        """The ids of those that a consumer should use."""
        return {record.instance.id for record in resolvable(records)}

    # Services

    def health_entries(self, service: str) -> list[dict[str, Any]]:
        """A service as ``health/service`` shows it: each instance, its node and its checks."""
        if service == CONSUL:
            return [self._server_entry(name, address) for name, address in self._servers]
        records = self.records(service)
        usable = self.usable(records)
        return [
            {
                "Node": self.nodes.of(record.instance),
                "Service": self.service(record),
                "Checks": self.checks(record, is_usable=record.instance.id in usable),
            }
            for record in records
        ]

    def catalog_entries(self, service: str) -> list[dict[str, Any]]:
        """A service as ``catalog/service`` shows it: flat."""
        if service == CONSUL:
            return [
                flat(self.nodes.shown(name), self._server(address))
                for name, address in self._servers
            ]
        return [
            flat(self.nodes.of(record.instance), self.service(record))
            for record in self.records(service)
        ]

    def service(self, record: Record) -> dict[str, Any]:
        """One instance, as the catalog has it."""
        shown = self._service(record)
        address, port = shown["Address"], shown["Port"]
        kind = family(address)
        if kind and port:
            of_service = {"Address": address, "Port": port}
            shown["TaggedAddresses"] = {
                f"lan_{kind}": of_service,
                f"wan_{kind}": of_service,
            } | shown.get("TaggedAddresses", {})
        return _in_catalog(
            shown, min(record.instance.incarnation, record.revision), record.revision
        )

    def agent_service(self, record: Record) -> dict[str, Any]:
        """One instance, as its agent has it."""
        return {**self._service(record), "Datacenter": DATACENTER}

    def _service(self, record: Record) -> dict[str, Any]:
        instance = record.instance
        extras = extras_of(instance)
        shown: dict[str, Any] = {
            "ID": service_id_of(instance),
            "Service": shown_name(instance.service),
            "Tags": instance.tags,
            "Meta": without_extras(instance.meta),
            "Port": 0 if extras.no_port else instance.port,
            "Address": self.service_address(record),
            "Weights": _weights(instance.weight, extras),
            "EnableTagOverride": extras.enable_tag_override,
        }
        if extras.kind:
            shown["Kind"] = extras.kind
        if extras.tagged:
            shown["TaggedAddresses"] = {
                name: {"Address": each.address, "Port": each.port}
                for name, each in extras.tagged.items()
            }
        return shown

    def service_address(self, record: Record) -> str:
        """The address that was given for a service: none, where it is just that of its node."""
        instance = record.instance
        extras = extras_of(instance)
        if extras.address:
            return extras.address
        if instance.node and instance.host == self.nodes.address(instance.node, instance.host):
            return ""
        return instance.host

    def _server(self, address: str) -> dict[str, Any]:
        shown: dict[str, Any] = {
            "ID": CONSUL,
            "Service": CONSUL,
            "Tags": [],
            "Meta": {},
            "Port": port_of(address),
            "Address": "",
            "Weights": {"Passing": 1, "Warning": 1},
            "EnableTagOverride": False,
        }
        return _in_catalog(shown, 1, 1)

    def _server_entry(self, name: str, address: str) -> dict[str, Any]:
        return {
            "Node": self.nodes.shown(name),
            "Service": self._server(address),
            "Checks": self.node_checks(name),
        }

    # Checks

    def checks(self, record: Record, *, is_usable: bool) -> list[dict[str, Any]]:
        """All that count for an instance: its node's, then its own."""
        return [*self.node_checks(node_of(record.instance)), *self.own_checks(record, is_usable)]

    def node_checks(self, node: str) -> list[dict[str, Any]]:
        """Those of a node."""
        shown = self.stored_node_checks(node)
        if any(each["CheckID"] == SERF for each in shown):
            return shown
        return [*shown, serf_check(node)]

    def stored_node_checks(self, node: str) -> list[dict[str, Any]]:
        """Those that somebody gave a node."""
        return [check(state, node) for state in self._catalog.checks.of_node(node)]

    def own_checks(self, record: Record, is_usable: bool) -> list[dict[str, Any]]:
        """Those of an instance itself, and the registry's own word if that is not ``passing``."""
        instance = record.instance
        node = node_of(instance)
        shown = [check(state, node, record) for state in self.stored(record)]
        doubt = self._doubt(record, is_usable)
        if doubt is not None:
            shown.append(doubt)
        return shown

    def stored(self, record: Record) -> tuple[CheckState, ...]:
        """The checks that somebody gave an instance."""
        return self._catalog.checks.own((record.instance.service, record.instance.id))

    def _doubt(self, record: Record, is_usable: bool) -> dict[str, Any] | None:
        instance = record.instance
        declared, why = self._catalog.declared(record)
        status = declared if declared in ("passing", "warning") else "critical"
        if not is_usable and (record.suspect or instance.weight == 0):
            status = "critical"
            why = record.why or ("its weight is 0" if instance.weight == 0 else "probably gone")
        if status == "passing":
            return None
        service_id = service_id_of(instance)
        is_drained = record.health == "draining"
        if is_drained and any(
            each.check.id.startswith(MAINTENANCE) for each in self.stored(record)
        ):
            return None
        return _check(
            record,
            check_id=f"{MAINTENANCE if is_drained else 'waypost:'}{service_id}",
            name="Service Maintenance Mode" if is_drained else "Waypost health",
            status=status,
            notes=why if is_drained else "",
            output=why or declared,
        )


def _check(
    record: Record, *, check_id: str, name: str, status: str, notes: str, output: str
) -> dict[str, Any]:
    instance = record.instance
    return {
        "Node": node_of(instance),
        "CheckID": check_id,
        "Name": name,
        "Status": status,
        "Notes": notes,
        "Output": output,
        "ServiceID": service_id_of(instance),
        "ServiceName": shown_name(instance.service),
        "ServiceTags": instance.tags,
        "Type": "",
        "Interval": "",
        "Timeout": "",
        "ExposedPort": 0,
        "Definition": {},
        "CreateIndex": min(instance.incarnation, record.revision),
        "ModifyIndex": record.revision,
    }


def check(state: CheckState, node: str, record: Record | None = None) -> dict[str, Any]:
    """A check of a node, or of the instance of ``record``."""
    kept = state.check
    instance = None if record is None else record.instance
    return {
        "Node": node,
        "CheckID": kept.id,
        "Name": kept.name,
        "Status": state.status,
        "Notes": kept.notes,
        "Output": state.output,
        "ServiceID": "" if instance is None else service_id_of(instance),
        "ServiceName": "" if instance is None else shown_name(instance.service),
        "ServiceTags": () if instance is None else instance.tags,
        "Type": "" if kept.kind == "manual" else kept.kind,
        "Interval": interval_of(kept),
        "Timeout": timeout_of(kept),
        "ExposedPort": 0,
        "Definition": definition_of(kept),
        "CreateIndex": state.revision,
        "ModifyIndex": state.revision,
    }


def flat(node: dict[str, Any], service: dict[str, Any]) -> dict[str, Any]:
    """A service and its node in one: ``ServiceNode``."""
    shown = {
        "ID": node["ID"],
        "Node": node["Node"],
        "Address": node["Address"],
        "Datacenter": DATACENTER,
        "TaggedAddresses": node["TaggedAddresses"],
        "NodeMeta": node["Meta"],
        "ServiceKind": service.get("Kind", ""),
        "ServiceID": service["ID"],
        "ServiceName": service["Service"],
        "ServiceTags": service["Tags"],
        "ServiceAddress": service["Address"],
        "ServiceWeights": service["Weights"],
        "ServiceMeta": service["Meta"],
        "ServicePort": service.get("Port", 0),
        "ServiceSocketPath": "",
        "ServiceEnableTagOverride": service["EnableTagOverride"],
        "ServiceProxy": _PROXY,
        "ServiceConnect": {},
        "ServiceLocality": None,
        "CreateIndex": service["CreateIndex"],
        "ModifyIndex": service["ModifyIndex"],
    }
    if "TaggedAddresses" in service:
        shown["ServiceTaggedAddresses"] = service["TaggedAddresses"]
    return shown


def _in_catalog(shown: dict[str, Any], created: int, modified: int) -> dict[str, Any]:
    shown |= {
        "Proxy": _PROXY,
        "Connect": {},
        "PeerName": "",
        "CreateIndex": created,
        "ModifyIndex": modified,
    }
    if not shown["Port"]:
        del shown["Port"]
    return shown


def _weights(weight: float | None, extras: Extras) -> dict[str, int]:
    passing = 1 if weight is None else round(weight)
    if weight and not passing:
        passing = 1
    return {"Passing": passing, "Warning": extras.warning}
