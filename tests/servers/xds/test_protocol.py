"""What holds for both protocols, whatever crosses whatever on the wire."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.servers.xds.world import KINDS, Client, World

from waypost.errors import Overloaded
from waypost.servers.xds.delta import DeltaStream
from waypost.servers.xds.kinds import CDS, EDS, LDS, RDS
from waypost.servers.xds.sotw import SotwStream
from waypost.servers.xds.subscription import NAMES_MAX, RESPONSE_BYTES_MAX

BOTH = pytest.mark.parametrize("protocol", [SotwStream, DeltaStream])
Protocol = type[SotwStream] | type[DeltaStream]


def client_of(protocol: Protocol, *services: str) -> Client:
    world = World(*services)
    return Client(world, protocol(world))


def chain(client: Client, *names: str) -> None:
    """Ask as gRPC does, one type after the other."""
    for kind in (LDS, RDS, CDS, EDS):
        client.ask(kind, *names)
        client.settle()


@BOTH
def test_a_client_that_asks_is_told_and_what_it_took_is_not_told_again(protocol: Protocol) -> None:
    client = client_of(protocol, "orders")

    chain(client, "orders")

    assert client.have == {LDS: {"orders": "only"}, RDS: {"orders": "only"},
                           CDS: {"orders": "only"}, EDS: {"orders": "v1"}}  # fmt: skip
    client.stream.touch(["orders"])  # the service changed, and nothing that is told of it
    assert client.settle() == []


@BOTH
def test_a_change_is_told_to_those_whom_it_concerns(protocol: Protocol) -> None:
    client = client_of(protocol, "orders", "billing")
    chain(client, "orders")

    client.change("billing", 2)
    assert client.settle() == []
    client.change("orders", 2)
    assert client.settle() == [(EDS, ["orders"], [])]


@BOTH
def test_one_that_does_not_answer_is_told_the_latest_once_it_does(protocol: Protocol) -> None:
    client = client_of(protocol, "orders")
    chain(client, "orders")

    for version in range(2, 10):
        client.change("orders", version)
        client.push()
    assert len(client.responses) == 1
    client.settle()

    assert client.have[EDS] == {"orders": "v9"}
    assert len(client.log) == 2


@BOTH
def test_what_is_asked_for_at_once_is_told_in_the_order_in_which_it_is_used(
    protocol: Protocol,
) -> None:
    client = client_of(protocol, "orders")
    for kind in KINDS:
        client.ask(kind, "orders")
        client.stream.receive(client.requests.popleft())  # type: ignore[arg-type]

    client.push()

    assert [response.kind for response in client.responses] == [CDS, EDS, LDS, RDS]


@BOTH
def test_a_service_that_goes_and_comes_back_changes_its_endpoints_only(protocol: Protocol) -> None:
    client = client_of(protocol, "orders")
    chain(client, "orders")

    client.change("orders", 0)
    assert client.settle() == [(EDS, ["orders"], [])]
    assert client.have[EDS] == {"orders": "v0"}

    client.change("orders", 5)
    assert client.settle() == [(EDS, ["orders"], [])]
    assert client.have[EDS] == {"orders": "v5"}


@BOTH
@pytest.mark.parametrize("kind", [CDS, EDS])
def test_what_was_left_and_is_asked_for_again_is_told_again(protocol: Protocol, kind: str) -> None:
    client = client_of(protocol, "orders", "billing")
    client.ask(kind, "orders", "billing")
    client.settle()

    client.ask(kind, less=("orders",))
    assert client.settle() == []
    assert set(client.have[kind]) == {"billing"}
    client.ask(kind, "orders")
    client.settle()

    assert set(client.have[kind]) == {"orders", "billing"}


@BOTH
def test_what_was_left_while_a_response_was_on_its_way_is_told_again(protocol: Protocol) -> None:
    client = client_of(protocol, "orders", "billing")
    client.ask(EDS, "orders", "billing")
    client.settle()

    client.change("billing", 2)
    client.push()
    client.ask(EDS, less=("orders",))  # crosses it
    client.ask(EDS, "orders")
    client.settle()

    assert client.have[EDS] == {"orders": "v1", "billing": "v2"}


@BOTH
def test_what_was_left_by_name_stays_only_if_the_wildcard_lists_it(protocol: Protocol) -> None:
    client = client_of(protocol, "orders")
    client.ask(CDS, "orders", "unheard-of", wildcard=True)
    client.ask(CDS, less=("orders", "unheard-of"))

    client.settle()

    assert set(client.have[CDS]) == {"orders"}


@BOTH
def test_a_wildcard_ends_when_the_client_says_so(protocol: Protocol) -> None:
    client = client_of(protocol, "orders", "billing")
    client.ask(CDS, "orders", wildcard=True)
    client.settle()
    assert set(client.have[CDS]) == {"orders", "billing"}

    client.is_wild = False
    client.ask(CDS, less=("*",))
    client.settle()
    client.change("users", 1)

    assert client.settle() == []


@BOTH
def test_a_wildcard_follows_the_services_that_come_and_go(protocol: Protocol) -> None:
    client = client_of(protocol, "orders", "team-a/billing")
    client.ask(CDS)
    client.settle()
    assert set(client.have[CDS]) == {"orders", "billing.team-a"}

    client.change("users", 1)
    client.change("orders", 0)
    client.settle()
    assert set(client.have[CDS]) == {"users", "billing.team-a"}


@BOTH
def test_a_wildcard_for_listeners_gets_an_answer_and_none_of_ours(protocol: Protocol) -> None:
    client = client_of(protocol, "orders")

    client.ask(LDS)

    assert client.settle() == [(LDS, [], [])]


@BOTH
def test_a_refusal_names_what_was_refused_and_is_not_sent_again(protocol: Protocol) -> None:
    client = client_of(protocol, "orders")
    client.ask(EDS, "orders")
    client.serve()
    response = client.responses.popleft()

    client.answer(response, error="bad endpoint")
    refusal = client.stream.receive(client.requests.popleft())  # type: ignore[arg-type]

    assert refusal is not None
    assert (refusal.kind, refusal.names, refusal.why) == (EDS, ["orders"], "bad endpoint")
    assert client.stream.take() is None
    client.change("orders", 2)
    assert client.stream.take() is not None


@BOTH
def test_an_answer_to_an_older_response_says_nothing(protocol: Protocol) -> None:
    client = client_of(protocol, "orders")
    client.ask(EDS, "orders")
    client.serve()
    old = client.responses[0]
    client.settle()
    client.change("orders", 2)
    client.push()

    client.answer(old, error="too late")
    refusal = client.stream.receive(client.requests.popleft())  # type: ignore[arg-type]
    client.change("orders", 3)

    assert refusal is None
    assert client.stream.take() is None  # the latest one is still to be answered


@BOTH
def test_a_type_that_is_not_served_is_not_answered(protocol: Protocol) -> None:
    client = client_of(protocol, "orders")

    client.ask("type.googleapis.com/envoy.service.runtime.v3.Runtime", "x")
    client.serve()

    assert not client.responses


@BOTH
def test_what_changed_comes_in_pieces_where_it_may(protocol: Protocol) -> None:
    names = [f"s{n}" for n in range(10)]
    client = client_of(protocol, *names)
    client.world.size = RESPONSE_BYTES_MAX // 3

    client.ask(EDS, *names)
    told = client.settle()

    assert len(told) == 3
    assert sorted(name for _, some, _ in told for name in some) == names


@BOTH
def test_nobody_asks_for_names_without_end(protocol: Protocol) -> None:
    client = client_of(protocol)

    client.ask(EDS, *(f"s{n}" for n in range(NAMES_MAX + 1)))

    with pytest.raises(Overloaded, match="at most 50000"):
        client.serve()


@BOTH
def test_everything_is_looked_at_again_when_the_registry_jumps(protocol: Protocol) -> None:
    client = client_of(protocol, "orders", "billing")
    client.ask(CDS)
    client.ask(EDS, "orders", "billing")
    client.settle()

    client.world.services = {"orders": 1, "users": 1}
    client.stream.touch_all()

    told = client.settle()
    assert {kind for kind, _, _ in told} == {CDS, EDS}
    assert set(client.have[CDS]) == {"orders", "users"}
    assert client.have[EDS] == {"orders": "v1", "billing": "v0"}


services = st.sampled_from(["a", "n/c"])
asked = st.sampled_from(["a", "c.n", "a:80", "no.such.thing"])
kinds = st.sampled_from([CDS, EDS])  # one of either sort
steps = st.lists(
    st.one_of(
        st.tuples(st.just("change"), services, st.integers(0, 3)),
        st.tuples(st.just("ask"), kinds, asked),
        st.tuples(st.just("leave"), kinds, asked),
        st.just(("settle",)),
        st.just(("serve",)),
        st.just(("hear",)),
        st.just(("push",)),
    ),
    max_size=60,
)


@BOTH
@given(wildcard=st.booleans(), steps=steps)
def test_whatever_crosses_the_client_ends_with_what_there_is(
    protocol: Protocol, wildcard: bool, steps: list[tuple[str, ...]]
) -> None:
    client = client_of(protocol, "a")
    if wildcard:
        client.ask(CDS, wildcard=True)
    for step in steps:
        match step:
            case ("change", service, version):
                client.change(service, int(version))
            case ("ask", kind, name):
                if name not in client.names.get(kind, ()):
                    client.ask(kind, name)
            case ("leave", kind, name):
                if name in client.names.get(kind, ()):
                    client.ask(kind, less=(name,))
            case ("serve",) if client.requests:
                client.serve()
            case ("hear",) if client.responses:
                client.hear()
            case ("settle",):
                client.settle()
            case ("push",):
                client.push()
        outstanding = [response.kind for response in client.responses]
        assert len(outstanding) == len(set(outstanding)), "one response of a type at a time"
    client.settle()

    for kind in KINDS:
        names = dict.fromkeys(name for name in client.names.get(kind, ()) if name != "*")
        if wildcard and kind == CDS:
            names.update(dict.fromkeys(client.world.names()))
        there = {n: r.version for n in names if (r := client.world.find(kind, n)) is not None}
        assert client.have[kind] == there, kind
