"""Services between Consul's form and Waypost's: what a client registers, and the instance of it."""

from typing import Any, Final

import msgspec

from waypost.errors import Invalid
from waypost.model import Instance, check_instance
from waypost.servers.consul.check_forms import CheckForm
from waypost.servers.consul.extras import (
    NO_PORT,
    Extras,
    ServiceAddress,
    with_extras,
    without_extras,
)
from waypost.servers.consul.names import checked_name
from waypost.servers.consul.refusals import Refusal

_NOWHERE: Final = ("0.0.0.0", "::", "[::]")
_KINDS: Final = ("", "typical")


class AddressForm(msgspec.Struct):
    """An address of a service."""

    address: str = ""
    port: int = 0


class WeightsForm(msgspec.Struct):
    """The weights of a service, by its state."""

    passing: int = 1
    warning: int = 1


class ServiceForm(msgspec.Struct):
    """A service as a client registers it; the names are folded (see ``bodies``)."""

    id: str = ""
    name: str = ""
    service: str = ""
    """The name, in ``catalog/register``."""
    kind: str = ""
    tags: list[str] = []
    address: str = ""
    taggedaddresses: dict[str, AddressForm] = {}
    meta: dict[str, str] = {}
    port: int = 0
    socketpath: str = ""
    weights: WeightsForm | None = None
    enabletagoverride: bool = False
    check: CheckForm | None = None
    checks: list[CheckForm] = []
    proxy: Any = None
    connect: Any = None


class Wanted(msgspec.Struct, frozen=True):
    """A service to register, its form checked as far as that needs no registry."""

    service: str
    service_id: str
    form: ServiceForm

    def instance(self, instance_id: str, node: str, node_address: str) -> Instance:
        """The instance; refused if a field of it is out of bounds."""
        form = self.form
        weights = form.weights
        extras = Extras(
            id=""
            if instance_id in (self.service_id, f"{self.service_id}@{node}")
            else self.service_id,
            address=form.address if form.address == node_address else "",
            no_port=not form.port,
            warning=1 if weights is None else weights.warning,
            enable_tag_override=form.enabletagoverride,
            kind=form.kind,
            tagged={
                name: ServiceAddress(each.address, each.port)
                for name, each in form.taggedaddresses.items()
            },
        )
        instance = Instance(
            service=self.service,
            id=instance_id,
            host=form.address or node_address,
            port=form.port or NO_PORT,
            weight=None if weights is None else float(weights.passing),
            tags=tuple(form.tags),
            meta=with_extras(without_extras(form.meta), extras),
            node=node,
        )
        try:
            check_instance(instance)
        except Invalid as error:
            raise Refusal(400, f"Invalid service: {error.message}") from None
        return instance


def without_odd_weights(form: ServiceForm) -> ServiceForm:
    """Leave out weights that nothing can have: the catalog takes 1 then, in Consul as well.

    Consul's own client in Go always sends some, and they are 0 where its caller gave none.
    """
    return form if _are_weights(form) else msgspec.structs.replace(form, weights=None)


def _are_weights(form: ServiceForm) -> bool:
    return form.weights is None or (form.weights.passing >= 1 and form.weights.warning >= 0)


def wanted(form: ServiceForm) -> Wanted:
    """Check the form of a service, in Consul's words."""
    name = form.name or form.service
    if not name:
        raise Refusal(400, "Missing service name")
    if form.address in _NOWHERE:
        raise Refusal(400, "Invalid service address")
    if form.kind not in _KINDS or form.proxy or form.connect:
        raise Refusal(
            400, "Invalid service: Waypost has no service mesh: no proxies, gateways and sidecars"
        )
    if form.socketpath:
        raise Refusal(400, "Invalid service: SocketPath is not supported: give Address and Port")
    if not _are_weights(form):
        raise Refusal(400, "Invalid Weights: passing must be at least 1, warning at least 0")
    if not 0 <= form.port <= 65_535:
        raise Refusal(400, f"Invalid service: Port {form.port} is outside 0 to 65535")
    return Wanted(checked_name(name), form.id or name, form)
