"""Answers encoded once: what most consumers ask, as bytes, until the service changes.

A resolve of a service without further conditions is one look-up and one write: the records are kept
encoded per service and thrown away by the change that makes them wrong.  Only what differs from
answer to answer (revision, age, source) is encoded each time.

Invariant: an entry is what ``select`` and the encoder would give for the catalog as it is now.
"""

from collections.abc import Iterable

import msgspec

from waypost.catalog.queries import select
from waypost.catalog.state import Catalog
from waypost.model import PLAIN_QUERY, Query, Record, is_pickable
from waypost.views import instance_view
from waypost.wire import ServiceSummary, encode

_encode_json = msgspec.json.Encoder().encode


class Answers:
    """The encoded answers to plain queries, native and JSON."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._native: dict[str, bytes] = {}
        self._json: dict[str, bytes] = {}
        self._summaries: dict[str, ServiceSummary] = {}

    def replace(self, catalog: Catalog) -> None:
        """Everything changed."""
        self._catalog = catalog
        self._native.clear()
        self._json.clear()
        self._summaries.clear()

    def forget(self, services: Iterable[str]) -> None:
        """These services changed."""
        for service in services:
            self._native.pop(service, None)
            self._json.pop(service, None)
            self._summaries.pop(service, None)

    def native(self, service: str) -> bytes:
        """Whether it is known and its records, as the tail of a ``Resolved``."""
        kept = self._native.get(service)
        if kept is None:
            known, records = self.select(service, PLAIN_QUERY)
            kept = encode(known) + encode(records)
            if known:  # the unknown are unbounded: anybody may ask for anything
                self._native[service] = kept
        return kept

    def json(self, service: str) -> bytes | None:
        """Its instances as a JSON array, or None if it is not known."""
        kept = self._json.get(service)
        if kept is None:
            known, records = self.select(service, PLAIN_QUERY)
            if not known:
                return None
            kept = _encode_json([instance_view(record) for record in records])
            self._json[service] = kept
        return kept

    def summary(self, service: str) -> ServiceSummary:
        """A known service in numbers."""
        kept = self._summaries.get(service)
        if kept is None:
            instances = self._catalog.service(service)
            assert instances, "a listed service has instances"
            records = instances.values()
            kept = ServiceSummary(
                service,
                len(instances),
                sum(map(is_pickable, records)),
                self._catalog.service_revision(service) or 0,
            )
            self._summaries[service] = kept
        return kept

    def select(self, service: str, query: Query) -> tuple[bool, list[Record]]:
        """Whether the service is known, and its records that meet the query, by id."""
        instances = self._catalog.service(service)
        if instances is None:
            return False, []
        return True, select(instances.values(), query)
