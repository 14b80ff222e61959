"""What only the incremental protocol has."""

from tests.servers.xds.world import World

from waypost.servers.xds.delta import DeltaRequest, DeltaStream
from waypost.servers.xds.kinds import CDS, EDS, Kind


class Stream(DeltaStream):
    """A stream whose client takes everything."""

    def told(self, kind: Kind, request: DeltaRequest) -> tuple[list[str], list[str]] | None:
        """What a request is answered with: the resources, and what is gone."""
        self.receive(request)
        response = self.take()
        if response is None:
            return None
        self.receive(DeltaRequest(kind, nonce=response.nonce))
        assert self.take() is None
        return [resource.name for resource in response.resources], response.removed


def test_one_that_comes_back_is_told_what_differs() -> None:
    stream = Stream(World("same", "newer", "new"))
    versions = {"same": "only", "newer": "old", "gone": "only"}

    told = stream.told(CDS, DeltaRequest(CDS, initial=versions))

    assert told is not None
    assert (sorted(told[0]), told[1]) == (["new", "newer"], ["gone"])


def test_one_that_comes_back_and_knows_everything_is_told_so_once() -> None:
    stream = Stream(World("same"))

    assert stream.told(CDS, DeltaRequest(CDS, initial={"same": "only"})) == ([], [])


def test_what_is_asked_for_twice_is_told_twice() -> None:
    stream = Stream(World("orders"))

    for _ in range(2):
        assert stream.told(EDS, DeltaRequest(EDS, ("orders",))) == (["orders"], [])


def test_what_is_left_and_asked_for_at_once_is_asked_for() -> None:
    world = World("orders")
    stream = Stream(world)
    stream.told(EDS, DeltaRequest(EDS, ("orders",)))

    assert stream.told(EDS, DeltaRequest(EDS, ("orders",), ("orders",))) == (["orders"], [])
    world.services["orders"] = 2
    assert stream.touch(["orders"])


def test_what_is_left_by_name_and_kept_by_a_wildcard_is_told_again() -> None:
    stream = Stream(World("orders", "billing"))
    stream.told(CDS, DeltaRequest(CDS, ("*", "orders")))

    assert stream.told(CDS, DeltaRequest(CDS, unsubscribe=("orders",))) == (["orders"], [])


def test_what_was_left_by_name_and_no_wildcard_stands_for_is_said_to_be_gone() -> None:
    stream = Stream(World("orders"))
    stream.told(CDS, DeltaRequest(CDS, ("*", "billing")))

    assert stream.told(CDS, DeltaRequest(CDS, unsubscribe=("billing",))) == ([], ["billing"])


def test_what_can_be_no_service_is_said_to_be_gone_once() -> None:
    stream = Stream(World())

    assert stream.told(EDS, DeltaRequest(EDS, ("a.b.c",))) == ([], ["a.b.c"])
    assert stream.told(EDS, DeltaRequest(EDS, ("orders",))) == (["orders"], [])
