"""What is answered to which name."""

from collections import Counter

import pytest
from dnslib import QTYPE
from tests.servers.dns.world import Door, code, instance, told

from waypost.model import Health
from waypost.servers.dns.settings import DnsSettings


@pytest.fixture
def door() -> Door:
    door = Door()
    door.known.put(instance("web", "a", "10.0.0.1", port=8001, tags=("v1", "Blue")))
    door.known.put(instance("web", "b", "10.0.0.2", port=8002, tags=("v2",)))
    return door


@pytest.mark.parametrize(
    "name",
    [
        "web.service.waypost",
        "web.service.consul",
        "web.service.dc1.consul",
        "web.service.dc1.dc.consul",
        "WEB.Service.Waypost",
        "_web._tcp.service.waypost",
        "_web._udp.waypost",
        "_web._tcp.dc1.consul",
    ],
)
def test_a_service_is_found_under_each_of_its_names(door: Door, name: str) -> None:
    assert told(door.ask(name)) == ["10.0.0.1", "10.0.0.2"]


@pytest.mark.parametrize(
    "name", ["v1.web.service.waypost", "blue.web.service.waypost", "_web._v1.service.waypost"]
)
def test_a_tag_narrows_it_down_whatever_its_case(door: Door, name: str) -> None:
    assert told(door.ask(name)) == ["10.0.0.1"]


def test_a_namespaced_service_is_meant_before_a_tag(door: Door) -> None:
    door.known.put(instance("team-a", "t", "10.0.1.1", tags=("orders", "blue.orders")))

    assert told(door.ask("orders.team-a.service.waypost")) == ["10.0.1.1"]

    door.known.put(instance("team-a/orders", "o", "10.0.1.2", tags=("blue",)))

    assert told(door.ask("orders.team-a.service.waypost")) == ["10.0.1.2"]
    assert told(door.ask("blue.orders.team-a.service.waypost")) == ["10.0.1.2"]
    assert told(door.ask("_orders._tcp.team-a.service.waypost")) == ["10.0.1.2"]
    assert told(door.ask("team-a.service.waypost")) == ["10.0.1.1"]


def test_srv_tells_ports_and_weights_and_its_targets_resolve(door: Door) -> None:
    door.known.put(instance("web", "c", "::1", port=8003, weight=7))

    reply = door.ask("web.service.consul", "SRV", edns=1232)

    assert told(reply) == [
        "1 1 8001 0a000001.addr.consul.",
        "1 1 8002 0a000002.addr.consul.",
        "1 7 8003 00000000000000000000000000000001.addr.consul.",
    ]
    beside = {str(r.rname): str(r.rdata) for r in reply.ar if r.rtype != QTYPE.OPT}
    for record in reply.rr:
        target = str(record.rdata.target)
        kind = "AAAA" if ":" in beside[target] else "A"
        assert told(door.ask(target, kind)) == [beside[target]]


def test_weights_with_fractions_keep_their_proportions(door: Door) -> None:
    door.known.put(instance("half", "a", weight=0.5, port=1))
    door.known.put(instance("half", "b", weight=2, port=2))

    weights = {r.rdata.port: r.rdata.weight for r in door.ask("half.service.waypost", "SRV").rr}

    assert weights == {1: 50, 2: 200}


@pytest.mark.parametrize("health", ["critical", "starting", "draining"])
def test_what_nobody_should_use_is_left_out(door: Door, health: Health) -> None:
    door.known.put(instance("web", "b", "10.0.0.2"), health)

    assert told(door.ask("web.service.waypost")) == ["10.0.0.1"]

    door.known.put(instance("web", "a", "10.0.0.1"), health)

    assert code(door.ask("web.service.waypost")) == "NXDOMAIN"


def test_a_weight_of_nothing_and_a_suspect_are_left_out_and_a_suspect_is_the_last_resort(
    door: Door,
) -> None:
    door.known.put(instance("web", "a", "10.0.0.1", weight=0))
    door.known.put(instance("web", "c", "10.0.0.3"), suspect=True)

    assert told(door.ask("web.service.waypost")) == ["10.0.0.2"]

    door.known.drop("web", "b")

    assert told(door.ask("web.service.waypost")) == ["10.0.0.3"]


def test_one_that_warns_stays_with_the_least_weight(door: Door) -> None:
    door.known.put(instance("web", "a", "10.0.0.1", port=8001, weight=9), "warning")

    weights = {r.rdata.port: r.rdata.weight for r in door.ask("web.service.waypost", "SRV").rr}

    assert weights == {8001: 1, 8002: 1}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("web.service.waypost", "AAAA"),
        ("web.service.waypost", "TXT"),
        ("0a000001.addr.waypost", "AAAA"),
        ("waypost", "A"),
        ("service.waypost", "A"),
        ("dc1.consul", "A"),
        ("ns.waypost", "MX"),
    ],
)
def test_a_name_without_the_type_is_no_data(door: Door, name: str, kind: str) -> None:
    reply = door.ask(name, kind)

    assert (code(reply), reply.rr, len(reply.auth)) == ("NOERROR", [], 1)
    assert reply.auth[0].rtype == QTYPE.SOA


@pytest.mark.parametrize(
    "name",
    [
        "nobody.service.waypost",
        "v9.web.service.waypost",
        "web.service.dc2.waypost",
        "web.waypost",
        "x.node.waypost",
        "0a00000.addr.waypost",
        "0a0000zz.addr.waypost",
        "q.query.consul",
        "web.connect.consul",
    ],
)
def test_a_name_that_is_not_there_says_so_with_the_zone_s_soa(door: Door, name: str) -> None:
    reply = door.ask(name)

    assert (code(reply), reply.header.aa) == ("NXDOMAIN", 1)
    assert str(reply.auth[0].rname) == name.rsplit(".", 1)[1] + "."
    assert reply.auth[0].rdata.times[0] == door.known.revision


@pytest.mark.parametrize("name", ["example.org", ".", "waypost.example", "1.0.0.10.in-addr.arpa"])
def test_somebody_else_s_name_is_refused(door: Door, name: str) -> None:
    reply = door.ask(name)

    assert (code(reply), reply.header.aa, reply.auth) == ("REFUSED", 0, [])


def test_a_host_name_is_an_alias_and_only_one_is_told(door: Door) -> None:
    door.known.put(instance("ext", "a", "one.example"))
    door.known.put(instance("ext", "b", "two.example", weight=3))

    seen = Counter(told(door.ask("ext.service.waypost", kind))[0] for kind in ["A", "AAAA"] * 200)

    assert set(seen) == {"one.example.", "two.example."}
    assert seen["two.example."] > seen["one.example."]
    assert told(door.ask("ext.service.waypost", "SRV")) == [
        "1 1 80 one.example.",
        "1 3 80 two.example.",
    ]
    assert door.ask("ext.service.waypost", "TXT").rr == []


def test_addresses_go_before_aliases_and_localhost_is_an_address(door: Door) -> None:
    door.known.put(instance("mixed", "a", "one.example"))
    door.known.put(instance("mixed", "b", "localhost"))
    door.known.put(instance("mixed", "c", "fe80::1%eth0"))

    assert told(door.ask("mixed.service.waypost")) == ["127.0.0.1"]
    assert door.ask("mixed.service.waypost", "AAAA").rr == []


def test_an_address_of_several_instances_is_told_once(door: Door) -> None:
    door.known.put(instance("web", "c", "10.0.0.2", port=9000))

    assert told(door.ask("web.service.waypost")) == ["10.0.0.1", "10.0.0.2"]
    srv = door.ask("web.service.waypost", "SRV", edns=1232)
    assert len(srv.rr) == 3
    assert len([each for each in srv.ar if each.rtype == QTYPE.A]) == 2


def test_any_is_answered_with_the_addresses(door: Door) -> None:
    assert told(door.ask("web.service.waypost", "ANY")) == ["10.0.0.1", "10.0.0.2"]


def test_the_domain_has_a_name_server_that_resolves(door: Door) -> None:
    reply = door.ask("waypost", "NS")

    assert told(reply) == ["ns.waypost."]
    assert [str(each.rdata) for each in reply.ar] == ["127.0.0.1"]
    assert told(door.ask("ns.waypost")) == ["127.0.0.1"]
    assert door.ask("consul", "SOA").rr[0].rdata.times[0] == door.known.revision


def test_a_node_and_an_address_are_found_backwards_and_forwards(door: Door) -> None:
    door.known.nodes["db.east"] = ["10.9.0.1", "::9"]
    door.known.meta["db.east"] = {"rack": "7", "note": "x" * 300}
    door.known.addresses[b"\x0a\0\0\1"] = ["web", "team-a/orders"]

    assert told(door.ask("db.east.node.waypost")) == ["10.9.0.1"]
    assert told(door.ask("db.east.node.dc1.consul", "AAAA")) == ["::9"]
    assert told(door.ask("db.east.node.waypost", "TXT")) == [
        f'"note={"x" * 250}","{"x" * 50}"',
        '"rack=7"',
    ]
    assert told(door.ask("1.0.0.10.in-addr.arpa", "PTR")) == [
        "orders.team-a.service.waypost.",
        "web.service.waypost.",
    ]


def test_ttls_are_those_that_were_set() -> None:
    door = Door(DnsSettings(ttl_s=5, ttls_s={"web": 30}))
    door.known.put(instance("web", "a"))
    door.known.put(instance("other", "a"))

    assert door.ask("web.service.waypost").rr[0].ttl == 30
    assert door.ask("other.service.waypost").rr[0].ttl == 5
    nobody = door.ask("nobody.service.waypost").auth[0]
    assert (nobody.ttl, nobody.rdata.times[4]) == (5, 5)


def test_a_node_that_heard_nothing_for_long_tells_what_it_knows_and_denies_nothing(
    door: Door,
) -> None:
    assert code(door.ask("nobody.service.waypost")) == "NXDOMAIN"

    door.known.age_ms = 60_000

    assert told(door.ask("web.service.waypost")) == ["10.0.0.1", "10.0.0.2"]
    assert code(door.ask("nobody.service.waypost")) == "SERVFAIL"

    door.known.age_ms = 0

    assert code(door.ask("nobody.service.waypost")) == "NXDOMAIN"
