"""The verbs on checks and nodes."""

from collections.abc import Sequence

import pytest
from tests.servers.http.world import World, served

from waypost.checks import Check, NodeEntry, check_check
from waypost.errors import Invalid, UnknownCheck, UnknownInstance, UnknownNode
from waypost.model import Instance

CHECK = Check("http", kind="http", target="http://10.0.0.1:8080/health")


@served
async def test_a_check_is_put_reported_shown_and_dropped(world: World) -> None:
    registry = world.registry
    await registry.register(Instance("orders", "o-1", "10.0.0.1", 8080), ttl_ms=0)

    put = await registry.put_check("orders", "o-1", CHECK)
    assert registry.checks_revision("orders") == registry.checks_revision() == put
    assert registry.record("orders", "o-1").health == "critical"
    await registry.report_check("orders", "o-1", "http", "passing", "200 OK")

    (state,) = registry.checks("orders", "o-1")
    assert (state.check, state.status, state.output) == (CHECK, "passing", "200 OK")
    assert registry.record("orders", "o-1").health == "passing"
    await registry.drop_check("orders", "o-1", "http")
    assert registry.checks("orders", "o-1") == ()
    with pytest.raises(UnknownCheck):
        await registry.drop_check("orders", "o-1", "http")
    with pytest.raises(UnknownInstance):
        await registry.put_check("orders", "o-2", CHECK)


@served
async def test_a_node_is_put_checked_and_dropped(world: World) -> None:
    registry = world.registry
    await registry.register(Instance("orders", "o-1", "10.0.0.1", 8080, node="m-1"), ttl_ms=0)

    put = await registry.put_node(NodeEntry("m-1", "10.0.0.1"))
    assert (
        registry.nodes() == [registry.node("m-1")] == [NodeEntry("m-1", "10.0.0.1", revision=put)]
    )
    assert registry.nodes_revision() == put
    await registry.put_check("", "", Check("disk", kind="manual"), node="m-1", status="warning")
    assert registry.record("orders", "o-1").health == "warning"
    await registry.report_check("", "", "disk", "critical", "full", node="m-1")
    assert [state.output for state in registry.node_checks("m-1")] == ["full"]
    assert registry.on_node("m-1") == [("orders", "o-1")]

    await registry.drop_node("m-1")
    assert (registry.nodes(), registry.node_checks("m-1")) == ([], ())
    assert registry.record("orders", "o-1").health == "passing"
    with pytest.raises(UnknownNode):
        await registry.drop_node("m-1")


@served
async def test_whoever_listens_hears_of_each_change_of_a_check_its_output_alone_too(
    world: World,
) -> None:
    registry = world.registry
    await registry.register(Instance("orders", "o-1", "10.0.0.1", 8080), ttl_ms=0)
    heard: list[tuple[int, list[str]]] = []

    def listen(revision: int, services: Sequence[str]) -> None:
        heard.append((revision, list(services)))

    stop = registry.on_checks(listen)
    put = await registry.put_check("orders", "o-1", CHECK, status="passing")
    told = await registry.report_check("orders", "o-1", "http", "passing", "in 3 ms")
    await registry.report_check("orders", "o-1", "http", "passing", "in 3 ms")
    entry = await registry.put_node(NodeEntry("m-1"))
    assert heard == [(put, ["orders"]), (told, ["orders"]), (entry, [""])]
    assert registry.record("orders", "o-1").revision < put, "it was passing all the time"

    stop()
    await registry.report_check("orders", "o-1", "http", "critical")
    assert len(heard) == 3


@pytest.mark.parametrize(
    ("check", "field"),
    [
        (Check(""), "id"),
        (Check("x" * 257), "id"),
        (Check("a\nb"), "id"),
        (Check("a", "n" * 513, kind="manual"), "name"),
        (Check("a", kind="http", target="ftp://10.0.0.1/"), "target"),
        (Check("a", kind="http", target="http://user@10.0.0.1/"), "target"),
        (Check("a", kind="http", target="http://10.0.0.1/a b"), "target"),
        (Check("a", kind="http", target="http://10.0.0.1/\r\nx: y"), "target"),
        (Check("a", kind="http", target="http://10.0.0.1/" + "x" * 2_048), "target"),
        (Check("a", kind="tcp", target="10.0.0.1"), "target"),
        (Check("a", kind="tcp", target="10.0.0.1:70000"), "target"),
        (Check("a", kind="grpc", target="/service"), "target"),
        (Check("a", kind="alias", target="orders"), "target"),
        (Check("a", kind="ttl", target="http://10.0.0.1/", ttl_ms=1_000), "target"),
        (Check("a", kind="ttl"), "ttl"),
        (Check("a", kind="tcp", target="a:1", interval_ms=10), "interval"),
        (Check("a", kind="tcp", target="a:1", timeout_ms=-1), "timeout"),
        (Check("a", kind="http", target="http://a/", method="GET /"), "method"),
        (Check("a", kind="http", target="http://a/", headers={"a b": "c"}), "headers"),
        (Check("a", kind="http", target="http://a/", headers={"a": "c\r\nd: e"}), "headers"),
        (Check("a", kind="http", target="http://a/", body="x" * 4_097), "body"),
        (Check("a", kind="tcp", target="a:1", up_after=0), "up_after"),
        (Check("a", kind="tcp", target="a:1", down_after=101), "down_after"),
        (Check("a", kind="manual", deregister_after_ms=1), "deregister_after"),
    ],
)
def test_a_check_outside_the_limits_is_refused_by_field(check: Check, field: str) -> None:
    with pytest.raises(Invalid) as refused:
        check_check(check)
    assert refused.value.field == f"check.{field}"


@pytest.mark.parametrize(
    "check",
    [
        CHECK,
        Check("service:web-1:2", kind="http", target="https://[::1]:8443/health?x=1"),
        Check("a b", kind="http", target="http://localhost"),
        Check("a", kind="tcp", target="[::1]:80"),
        Check("a", kind="grpc", target="10.0.0.1:50051/grpc.Service", tls=True),
        Check("a", kind="alias", target="team-a/orders/o-1"),
        Check("a", kind="ttl", ttl_ms=100),
    ],
)
def test_a_check_within_the_limits_passes(check: Check) -> None:
    check_check(check)


@served
async def test_a_check_of_both_or_of_none_is_refused_at_the_door(world: World) -> None:
    for owner, node in ((("orders", "o-1"), "m-1"), (("", ""), "")):
        with pytest.raises(Invalid):
            await world.registry.put_check(*owner, CHECK, node=node)
