"""One service as Eureka shows it, at one revision: built once, and from its predecessor.

A record that did not change is the same object in the next revision, and so is what was made of it:
its ``InstanceInfo``, and its bytes in each form.  So a change of one instance among ten thousand
costs the showing of one, and a look at the others.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final, Literal

import msgspec

from waypost.model import InstanceId, Record, Revision
from waypost.servers.eureka.info import Action, InstanceInfo, Status, fields_of
from waypost.servers.eureka.xml import element

Form = Literal["json", "xml"]
AT_ONCE: Final = 100
"""So many instances are shown before others have their turn: a few milliseconds."""
_END: Final = b"</instance>"

_encode_json = msgspec.json.Encoder().encode


class Shown:
    """A service; invariant: ``infos`` and ``records`` have the same keys, in order of the ids."""

    __slots__ = ("_applications", "_encoded", "counts", "infos", "records", "revision")

    def __init__(
        self,
        revision: Revision,
        records: Mapping[InstanceId, Record],
        infos: dict[InstanceId, InstanceInfo],
        before: "Shown | None",
    ) -> None:
        self.revision = revision
        self.records = records
        self.infos = infos
        self.counts = Counter[Status](info.status for info in infos.values())
        self._applications: dict[Form, bytes] = {}
        self._encoded: dict[Form, dict[InstanceId, bytes]] = {}
        if before is not None:
            for form, encoded in before._encoded.items():
                self._encoded[form] = {
                    key: shown
                    for key, shown in encoded.items()
                    if infos.get(key) is before.infos[key]
                }

    def one(self, instance_id: InstanceId, form: Form) -> bytes:
        """One of its instances."""
        encoded = self._encoded.setdefault(form, {})
        shown = encoded.get(instance_id)
        if shown is None:
            shown = encoded[instance_id] = encode(self.infos[instance_id], form)
        return shown

    def showing(self, form: Form) -> Iterator[None]:
        """Show every instance; pauses now and then."""
        count = 0
        for key in self.infos:
            if key not in self._encoded.setdefault(form, {}):
                self.one(key, form)
                count += 1
                if count % AT_ONCE == 0:
                    yield

    def application(self, form: Form) -> bytes:
        """It, as one of ``applications``."""
        shown = self._applications.get(form)
        if shown is None:
            app = next(iter(self.infos.values())).app
            shown = application(app, [self.one(key, form) for key in self.infos], form)
            self._applications[form] = shown
        return shown


def encode(info: InstanceInfo, form: Form) -> bytes:
    """An instance, as one of an application."""
    fields = fields_of(info)
    return element("instance", fields).encode() if form == "xml" else _encode_json(fields)


def with_action(shown: bytes, action: Action, form: Form) -> bytes:
    """An instance in a delta."""
    if form == "xml":
        return b"%b<actionType>%b</actionType>%b" % (shown[: -len(_END)], action.encode(), _END)
    return b'%b,"actionType":"%b"}' % (shown[:-1], action.encode())


def application(app: str, instances: list[bytes], form: Form) -> bytes:
    """An application of these."""
    if form == "xml":
        parts = b"".join(instances)
        return b"<application><name>%b</name>%b</application>" % (app.encode(), parts)
    return b'{"name":"%b","instance":[%b]}' % (app.encode(), b",".join(instances))


def applications(
    revision: Revision, counts: Counter[Status], parts: list[bytes], form: Form
) -> bytes:
    """Applications; ``counts`` are those of all that there are."""
    code = hash_code(counts).encode()
    if form == "xml":
        head = b"<versions__delta>%d</versions__delta><apps__hashcode>%b</apps__hashcode>"
        return b"<applications>%b%b</applications>" % (head % (revision, code), b"".join(parts))
    head = b'"versions__delta":"%d","apps__hashcode":"%b"' % (revision, code)
    return b'{"applications":{%b,"application":[%b]}}' % (head, b",".join(parts))


def hash_code(counts: Counter[Status]) -> str:
    """How many have each status, in order of the statuses' names."""
    return "".join(f"{status}_{counts[status]}_" for status in sorted(counts) if counts[status])
