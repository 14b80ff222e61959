"""What both protocols of a stream have in common: one subscription for each type, told in order.

``sotw`` and ``delta`` say how requests are read, and what a response holds.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection
from typing import Any, Generic, TypeVar

from waypost.model import ServiceName
from waypost.servers.xds.kinds import IN_ORDER, Kind
from waypost.servers.xds.subscription import Response, Source, Subscription

_Told = TypeVar("_Told", bound=Subscription[Any])


class Stream(ABC, Generic[_Told]):
    """One stream."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._subscriptions: dict[Kind, _Told] = {}
        self._nonce = 0

    def touch(self, services: Collection[ServiceName]) -> bool:
        """These services changed; returns whether any of it concerns this stream."""
        touched = [told.touch(services) for told in self._subscriptions.values()]
        return any(touched)

    def touch_all(self) -> None:
        """Everything may have changed."""
        for told in self._subscriptions.values():
            told.touch_all(self._source)

    def take(self) -> Response | None:
        """What to send now; None until something comes in."""
        for kind in IN_ORDER:
            response = self._compose(kind)
            if response is not None:
                return response
        return None

    @abstractmethod
    def _compose(self, kind: Kind) -> Response | None:
        """What to send of one type now, if anything."""
