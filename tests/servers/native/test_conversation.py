"""Each request, its answer, and what is said of a wrong one."""

import asyncio

import msgspec
import pytest
import uvloop
from tests.servers.native.peer import Peer, number, refusal
from tests.servers.native.world import CLUSTER, World, native, opened, until

from waypost import wire
from waypost.checks import Check
from waypost.commands import Deregister, PutCheck, Refused, RegisterChecked, ReportCheck, SetHealth
from waypost.commands import Register as Reg
from waypost.model import ID_CHARS_MAX, Instance, Query
from waypost.transport.frames import encode_frame

ORDERS = Instance("orders", "o-1", "10.0.0.1", 8080)

# The greeting


@native
async def test_a_hello_is_answered_with_the_version_the_node_and_the_data_set(world: World) -> None:
    peer = await world.connect(hello=False)

    welcome = await peer.hello()

    assert welcome == wire.Welcome(
        1, "local", CLUSTER, 0, wire.PING_MS, wire.DEADLINE_MS, (), "local"
    )


@native
async def test_a_first_frame_that_is_no_hello_ends_the_connection(world: World) -> None:
    peer = await world.connect(hello=False)

    peer.say(wire.RESOLVE, 7, wire.Resolve("orders"))

    assert (await peer.fault(0)).code == "protocol-violation"
    assert await peer.hears_the_end()


@native
async def test_a_write_before_the_hello_is_not_carried_out(world: World) -> None:
    peer = await world.connect(hello=False)

    peer.say(wire.WRITE, 7, [Reg(ORDERS)])

    assert (await peer.fault(0)).message == "the first frame must be HELLO: send it, then ask"
    assert await peer.hears_the_end()
    assert world.node.revision == 0


@native
async def test_a_version_that_cannot_be_ends_the_connection(world: World) -> None:
    peer = await world.connect(hello=False)

    peer.say(wire.HELLO, 1, wire.Hello(0))

    assert "this node speaks 1 to 1" in (await peer.fault(0)).message
    assert await peer.hears_the_end()


@native
async def test_a_client_from_the_future_is_answered_in_the_version_of_the_node(
    world: World,
) -> None:
    peer = await world.connect(hello=False)

    peer.say(wire.HELLO, 1, [99, "waypost-next", "a field of version 99"])

    assert wire.decode_welcome(await peer.hear(wire.WELCOME, 1)).version == 1


@native
async def test_a_hello_that_cannot_be_read_may_be_sent_again(world: World) -> None:
    peer = await world.connect(hello=False)

    peer.say(wire.HELLO, 1, ["one"])

    assert (await peer.fault(1)).code == "invalid"
    await peer.hello()


# Bodies


@native
async def test_a_kind_that_does_not_exist_is_refused_and_the_connection_stays_usable(
    world: World,
) -> None:
    peer = await world.connect()

    peer.say(200, 7)

    fault = await peer.fault(7)
    assert (fault.code, fault.field) == ("invalid", "kind")
    assert "200 is not a request of protocol version 1: see docs/protocol.md" in fault.message
    assert not (await peer.resolve("orders")).known


@native
async def test_an_answer_sent_as_a_request_is_refused(world: World) -> None:
    peer = await world.connect()

    for kind in (wire.WELCOME, wire.OUTCOMES, wire.SNAPSHOT, wire.FAULT):
        peer.say(kind, 7)
        assert (await peer.fault(7)).field == "kind"


BROKEN = {
    "nothing": b"",
    "cut short": b"\x92\xa6ord",
    "not an array": b"\xa6orders",
    "the wrong type": b"\x91\x07",
    "not UTF-8": b"\x91\xa2\xff\xfe",
    "something after it": b"\x91\xa6orders\x00",
    "an array that claims four thousand million items": b"\xdd\xff\xff\xff\xff",
    "a reserved byte": b"\xc1",
}


@pytest.mark.parametrize("body", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize(
    "kind",
    [wire.WRITE, wire.ATTACH, wire.DETACH, wire.RESOLVE, wire.WATCH, wire.DRAIN, wire.VERIFY],
)
def test_a_body_that_cannot_be_read_is_refused_and_the_connection_stays_usable(
    kind: int, body: bytes
) -> None:
    @native
    async def test(world: World) -> None:
        peer = await world.connect()

        peer.raw(encode_frame(kind, 7, body))

        heard, _, answer = await peer.frame()
        assert heard == wire.FAULT
        fault = wire.decode_fault(answer)
        assert fault.code == "invalid"
        assert fault.field
        assert "docs/protocol.md" in fault.message or fault.field != "body"
        await peer.fence()
        assert world.node.revision == 0

    test()


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (wire.WRITE, [[*msgspec.to_builtins(Reg(ORDERS)), "DEEP"]]),
        (wire.RESOLVE, [*msgspec.to_builtins(wire.Resolve("orders")), "DEEP"]),
        (wire.HELLO, [1, "", "", "DEEP"]),
    ],
)
def test_a_body_nested_deeper_than_any_stack_is_refused(kind: int, body: object) -> None:
    @native
    async def test(world: World) -> None:
        peer = await world.connect()
        deep = wire.encode(body).replace(wire.encode("DEEP"), b"\x91" * 100_000)

        peer.raw(encode_frame(kind, 7, deep))

        fault = await peer.fault(7)
        assert fault.field == "body"
        assert "recursion" in fault.message
        await peer.register("orders", "o-1")

    test()


@native
async def test_fields_that_a_newer_client_adds_do_not_reach_the_log(world: World) -> None:
    peer = await world.connect()
    deep = b"\x91" * 500 + b"\xc0"
    fields = b"\xa6orders\xa3o-1\xa810.0.0.1\xcd\x1f\x90\xc0\xa0\xa0\x90\x80\x80\x00\xa0"
    instance = b"\x9d" + fields + deep
    peer.raw(encode_frame(wire.WRITE, 7, b"\x91\x95\x01" + instance + b"\xa0\xa7passing\xa0"))

    outcomes = wire.decode_outcomes(await peer.hear(wire.OUTCOMES, 7))

    assert number(outcomes.outcomes[0]) == 1
    assert world.record("orders", "o-1").instance.host == "10.0.0.1"
    assert len(world.gate.payloads) == 1
    assert len(world.gate.payloads[0]) < 100


@native
async def test_fields_with_a_default_may_be_left_out_and_an_integer_be_a_float(
    world: World,
) -> None:
    peer = await world.connect()

    asked = peer.ask(wire.WRITE, [[1, ["orders", "o-1", "10.0.0.1", 8080, 3]]])

    await peer.hear(wire.OUTCOMES, asked)
    instance = world.record("orders", "o-1").instance
    assert (instance.weight, type(instance.weight), instance.tags) == (3.0, float, ())


# Writes


@native
async def test_a_check_is_put_and_reported_like_any_other_write(world: World) -> None:
    peer = await world.connect()
    check = Check("http", kind="http", target="http://10.0.0.1:8080/health")

    asked = peer.ask(
        wire.WRITE,
        [
            Reg(ORDERS),
            PutCheck("orders", "o-1", "", check),
            ReportCheck("orders", "o-1", "", "http", "warning", "slow"),
            ReportCheck("orders", "o-1", "", "tcp", "warning"),
        ],
    )

    outcomes = wire.decode_outcomes(await peer.hear(wire.OUTCOMES, asked)).outcomes
    assert outcomes[1:3] == [0, 0]
    assert isinstance(outcomes[3], Refused)
    assert world.record("orders", "o-1").health == "warning"

    wrong = PutCheck("orders", "o-1", "", msgspec.structs.replace(check, target="file:///etc"))
    asked = peer.ask(wire.WRITE, [wrong])
    fault = wire.decode_fault(await peer.hear(wire.FAULT, asked))
    assert (fault.code, fault.field) == ("invalid", "check.target")


@native
async def test_a_registration_with_checks_is_taken_whole_or_not_at_all(world: World) -> None:
    peer = await world.connect()
    check = Check("tcp", kind="tcp", target="127.0.0.1:1")
    for wrong, field in (
        (RegisterChecked(Reg(ORDERS), (check, check)), "check.id"),
        (RegisterChecked(Reg(ORDERS), (Check("tcp", kind="tcp", target="x"),)), "check.target"),
        (RegisterChecked(Reg(ORDERS, "elsewhere"), (check,)), "session"),
        (RegisterChecked(Reg(msgspec.structs.replace(ORDERS, port=0)), (check,)), "port"),
    ):
        fault = wire.decode_fault(await peer.hear(wire.FAULT, peer.ask(wire.WRITE, [wrong])))
        assert (fault.code, fault.field) == ("invalid", field)

    (life,) = (await peer.write(RegisterChecked(Reg(ORDERS), (check,)))).outcomes

    assert life == world.record("orders", "o-1").instance.incarnation
    assert world.record("orders", "o-1").why == "check 'tcp' is critical"
    asked = peer.ask(wire.CHECKS, "orders")
    checked = wire.decode_checked(await peer.hear(wire.CHECKED, asked))
    assert [(state.id, state.check) for state in checked.checks] == [("o-1", check)]
    assert checked.count == 1


@native
async def test_a_write_is_answered_in_the_order_of_its_commands(world: World) -> None:
    peer = await world.connect()

    outcomes = await peer.write(
        Reg(ORDERS), Deregister("orders", "o-2"), SetHealth("orders", "o-1", "warning", "slow")
    )

    first, second, third = outcomes.outcomes
    assert first == outcomes.revision == 1
    assert getattr(second, "code", "") == "unknown-instance"
    assert third == 0
    assert world.record("orders", "o-1").health == "warning"


FAULTY: dict[str, tuple[object, str]] = {
    "no commands": ([], "commands"),
    "too many commands": ([Reg(ORDERS)] * (wire.COMMANDS_PER_WRITE_MAX + 1), "commands"),
    "a service that is no name": ([Reg(ORDERS), Reg(Instance("Or ders", "x", "h", 1))], "service"),
    "an id that is none": ([Reg(ORDERS), Reg(Instance("orders", "", "h", 1))], "id"),
    "a port out of range": ([Reg(ORDERS), Reg(Instance("orders", "x", "h", 0))], "port"),
    "a health nobody has": ([Reg(ORDERS), [3, "orders", "o-1", "splendid"]], "body"),
    "a reason too long": ([Reg(ORDERS), SetHealth("orders", "o-1", "critical", "w" * 513)], "why"),
    "a session of somebody else": ([Reg(ORDERS), Reg(ORDERS, "theirs")], "session"),
    "a command of the node": ([Reg(ORDERS), [4, "s", "local", 1000, 0]], "body"),
    "an id too long to leave": ([Deregister("orders", "i" * (ID_CHARS_MAX + 1))], "id"),
    "a service to leave that is none": ([Deregister("-", "i")], "service"),
    "a weight that is no number": ([Reg(Instance("orders", "x", "h", 1, float("nan")))], "weight"),
}


@pytest.mark.parametrize(("commands", "field"), FAULTY.values(), ids=FAULTY)
def test_nothing_of_a_faulty_write_is_carried_out(commands: object, field: str) -> None:
    @native
    async def test(world: World) -> None:
        peer = await world.connect()

        peer.say(wire.WRITE, 7, commands)

        fault = await peer.fault(7)
        assert (fault.code, fault.field) == ("invalid", field)
        assert ":" in fault.message
        await world.idle()
        assert world.node.revision == 0
        assert await peer.register("orders", "o-1") == 1

    test()


@native
async def test_a_write_of_as_many_commands_as_allowed_is_one_revision(world: World) -> None:
    peer = await world.connect()
    instances = [
        Instance("orders", f"o-{n}", "10.0.0.1", 8080) for n in range(wire.COMMANDS_PER_WRITE_MAX)
    ]

    outcomes = await peer.write(*map(Reg, instances))

    assert len(outcomes.outcomes) == wire.COMMANDS_PER_WRITE_MAX
    assert outcomes.revision == 1
    assert world.node.catalog.instance_count == wire.COMMANDS_PER_WRITE_MAX


@native
async def test_requests_that_are_sent_without_waiting_are_carried_out_in_order(
    world: World,
) -> None:
    peer = await world.connect(hello=False)

    peer.say(wire.HELLO, 1, wire.Hello(1))
    peer.say(wire.ATTACH, 2, wire.AttachSession("s", 9_000, 0))
    peer.say(wire.WRITE, 3, [Reg(ORDERS, "s")])
    peer.say(wire.WRITE, 4, [SetHealth("orders", "o-1", "critical")])
    peer.say(wire.WRITE, 5, [Deregister("orders", "o-1")])

    await peer.hear(wire.WELCOME, 1)
    for asked in (2, 3, 4, 5):
        answer = wire.decode_outcomes(await peer.hear(wire.OUTCOMES, asked))
        number(answer.outcomes[0])
    assert world.find("orders", "o-1") is None


@native
async def test_an_id_may_be_used_again_and_even_twice_at_once(world: World) -> None:
    peer = await world.connect()

    peer.say(wire.WRITE, 7, [Reg(ORDERS)])
    peer.say(wire.ATTACH, 7, wire.AttachSession("s", 9_000, 0))
    peer.say(wire.WRITE, 7, [Reg(ORDERS, "s")])
    peer.say(wire.DETACH, 7, "s")

    with pytest.raises(AssertionError, match="only the session attached"):
        await peer.hear(wire.OUTCOMES, 7)  # detached before the attachment was answered
    answers = [wire.decode_outcomes(await peer.hear(wire.OUTCOMES, 7)) for _ in range(3)]
    assert [number(a.outcomes[0]) for a in answers] == [1, 2, 3]
    # The attachment is the one that the ATTACH yielded: with it, and no other, the lease ends.
    await world.advance(9)
    assert world.find("orders", "o-1") is None
    assert len(world.node.catalog.sessions) == 0


@native
async def test_registering_again_does_not_undo_a_drain_and_a_health_does(world: World) -> None:
    peer = await world.connect()
    life = await peer.register("orders", "o-1")
    await peer.write(SetHealth("orders", "o-1", "draining"))

    await peer.register("orders", "o-1", incarnation=life)
    assert world.record("orders", "o-1").health == "draining"

    await peer.write(SetHealth("orders", "o-1", "passing"))
    assert world.record("orders", "o-1").health == "passing"


# Reads


@native
async def test_a_resolve_tells_what_a_consumer_should_use_and_how_fresh_it_is(
    world: World,
) -> None:
    peer = await world.connect()
    await peer.register("orders", "o-1")
    await peer.register("orders", "o-2", weight=0)

    resolved = await peer.resolve("orders")

    assert (resolved.revision, resolved.age_ms, resolved.source) == (2, 0, "leader")
    assert [r.instance.id for r in resolved.records] == ["o-1"]


@native
async def test_an_unknown_service_is_told_apart_from_one_without_a_usable_instance(
    world: World,
) -> None:
    peer = await world.connect()
    await peer.register("orders", "o-1", weight=0)

    drained, unknown = await peer.resolve("orders"), await peer.resolve("invoices")

    assert (drained.known, drained.records) == (True, [])
    assert (unknown.known, unknown.records) == (False, [])


@native
async def test_every_condition_of_a_query_must_hold(world: World) -> None:
    peer = await world.connect()
    await peer.register("orders", "a", zone="x", tags=("blue", "new"), meta={"team": "red"})
    await peer.register("orders", "b", zone="x", tags=("blue",), meta={"team": "red"})
    await peer.register("orders", "c", zone="y", tags=("blue", "new"))

    query = Query(tags=("blue", "new"), zone="x", meta={"team": "red"})
    asked = peer.ask(wire.RESOLVE, wire.Resolve("orders", query))

    answer = wire.decode_resolved(await peer.hear(wire.RESOLVED, asked))
    assert [r.instance.id for r in answer.records] == ["a"]


@native
async def test_an_answer_older_than_what_the_client_has_seen_is_refused(world: World) -> None:
    peer = await world.connect()

    asked = peer.ask(wire.RESOLVE, wire.Resolve("orders", min_revision=5))

    fault = await peer.fault(asked)
    assert fault.code == "too-stale"
    assert "revision 0, and 5 has been seen elsewhere" in fault.message


@native
async def test_a_linearizable_resolve_sees_every_write_that_was_answered(world: World) -> None:
    writer, reader = await world.connect(), await world.connect()
    for n in range(20):
        await writer.register("orders", f"o-{n}")
        request = wire.Resolve("orders", consistency="linearizable", max_stale_ms=0)
        asked = reader.ask(wire.RESOLVE, request)
        answer = wire.decode_resolved(await reader.hear(wire.RESOLVED, asked))

        assert len(answer.records) == n + 1


@native
async def test_a_list_tells_each_service_in_numbers(world: World) -> None:
    peer = await world.connect()
    await peer.register("orders", "o-1")
    await peer.register("orders", "o-2", weight=0)
    await peer.register("invoices", "i-1")

    asked = peer.ask(wire.LIST)

    services = wire.decode_services(await peer.hear(wire.SERVICES, asked))
    assert [(s.service, s.instances, s.pickable, s.revision) for s in services.services] == [
        ("invoices", 1, 1, 3),
        ("orders", 2, 1, 2),
    ]


@native
async def test_a_status_counts_what_there_is(world: World) -> None:
    peer = await world.connect()
    await peer.attach("s")
    await peer.register("orders", "o-1", "s")
    peer.say(wire.WATCH, 7, wire.Watch("orders"))
    await peer.hear(wire.SNAPSHOT, 7)

    asked = peer.ask(wire.STATUS)

    status = wire.decode_status(await peer.hear(wire.STATE, asked))
    assert (status.instances, status.sessions, status.connections, status.watchers) == (1, 1, 1, 1)
    assert (status.cluster, status.durable, status.writable) == (CLUSTER, False, True)


@native
async def test_a_ping_is_answered_with_its_id(world: World) -> None:
    peer = await world.connect()

    peer.say(wire.PING, 4_294_967_295)

    assert await peer.hear(wire.PONG, 4_294_967_295) == b""


# What takes a while


@native
async def test_an_instance_that_listens_is_verified(world: World) -> None:
    peer = await world.connect()
    listener = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    await peer.write(Reg(Instance("orders", "o-1", "127.0.0.1", port)))

    asked = peer.ask(wire.VERIFY, wire.Verify("orders", "o-1"))

    verified = wire.decode_verified(await peer.hear(wire.VERIFIED, asked))
    assert verified == wire.Verified(True, "", "127.0.0.1")
    listener.close()


@native
async def test_an_instance_that_does_not_listen_is_told_with_its_remedy(world: World) -> None:
    peer = await world.connect()
    await peer.write(Reg(Instance("orders", "o-1", "127.0.0.1", 1)))

    asked = peer.ask(wire.VERIFY, wire.Verify("orders", "o-1"))

    verified = wire.decode_verified(await peer.hear(wire.VERIFIED, asked))
    assert not verified.reachable
    assert "127.0.0.1:1: " in verified.why
    assert "is it listening" in verified.why


@pytest.mark.parametrize("host", ["a..b", "x" * 200, "fe80::1%nowhere", "%%%", "-", "::::", "."])
def test_no_advertised_host_is_too_odd_to_verify(host: str) -> None:
    @native
    async def test(world: World) -> None:
        peer = await world.connect()
        await peer.write(Reg(Instance("orders", "o-1", host, 9)))

        asked = peer.ask(wire.VERIFY, wire.Verify("orders", "o-1"))

        assert not wire.decode_verified(await peer.hear(wire.VERIFIED, asked)).reachable

    test()


@native
async def test_what_is_not_registered_cannot_be_verified_or_drained(world: World) -> None:
    peer = await world.connect()
    await peer.register("orders", "o-1")

    for service, instance_id, code in [
        ("orders", "o-2", "unknown-instance"),
        ("invoices", "o-1", "unknown-service"),
    ]:
        asked = peer.ask(wire.VERIFY, wire.Verify(service, instance_id))
        assert (await peer.fault(asked)).code == code
        asked = peer.ask(wire.DRAIN, wire.Drain(service, instance_id))
        assert (await peer.fault(asked)).code == code


@native
async def test_a_drain_may_not_wait_for_ever(world: World) -> None:
    peer = await world.connect()
    await peer.register("orders", "o-1")

    for deadline_ms in (-1, wire.DRAIN_MS_MAX + 1):
        asked = peer.ask(wire.DRAIN, wire.Drain("orders", "o-1", deadline_ms))
        assert (await peer.fault(asked)).field == "deadline"
    assert world.record("orders", "o-1").health == "passing"


@native
async def test_a_connection_has_a_bounded_number_of_slow_requests(world: World) -> None:
    peer, watcher = await world.connect(), await world.connect()
    await peer.register("orders", "o-1")
    watcher.say(wire.WATCH, 7, wire.Watch("orders"))
    await watcher.hear(wire.SNAPSHOT, 7)

    for n in range(300):
        peer.say(wire.DRAIN, 1_000 + n, wire.Drain("orders", "o-1", 60_000))

    refused = [await peer.frame() for _ in range(300 - 256)]
    assert {wire.decode_fault(body).code for _, _, body in refused} == {"overloaded"}
    await peer.resolve("orders")


@native
async def test_a_client_that_asks_and_leaves_at_once_leaves_no_work_behind(world: World) -> None:
    peer, other = await world.connect(), await world.connect()
    await other.register("orders", "o-1")
    other.say(wire.WATCH, 7, wire.Watch("orders"))
    await other.hear(wire.SNAPSHOT, 7)
    before = asyncio.all_tasks()

    for n in range(10):
        peer.say(wire.DRAIN, 100 + n, wire.Drain("orders", "o-1", 60_000))
    await until(lambda: len(asyncio.all_tasks()) == len(before) + 10)
    peer.abort()

    await until(lambda: asyncio.all_tasks() == before)


def test_a_refusal_names_what_is_wrong_and_changes_nothing() -> None:
    async def run() -> None:
        async with opened() as world:
            peer: Peer = await world.connect()
            first = await peer.register("orders", "o-1")
            taken = await peer.register("orders", "o-1", incarnation=first + 5)

            again = Reg(Instance("orders", "o-1", "10.0.0.9", 8080, incarnation=first))
            refused = refusal(await peer.write(again))

            assert refused.code == "superseded"
            assert world.record("orders", "o-1").instance.incarnation == taken
            assert world.record("orders", "o-1").instance.host == "10.0.0.1"

    uvloop.run(run())


@native
async def test_a_write_that_comes_again_on_another_connection_is_carried_out_once(
    world: World,
) -> None:
    one, two = await world.connect(hello=False), await world.connect(hello=False)
    for peer in (one, two):
        await peer.hello(client="c1")
    register = [Reg(ORDERS), Deregister("orders", "o-9")]
    one.say(wire.WRITE, 7, register)
    first = await one.hear(wire.OUTCOMES, 7)
    await one.register("others", "x")

    two.say(wire.WRITE, 7, register)

    assert await two.hear(wire.OUTCOMES, 7) == first
    assert world.record("orders", "o-1").revision == wire.decode_outcomes(first).revision


@native
async def test_the_same_id_is_another_write_if_it_comes_from_another_client(world: World) -> None:
    one, two = await world.connect(hello=False), await world.connect()
    await one.hello(client="c1")

    revisions = []
    for peer in (one, two, two):
        peer.say(wire.WRITE, 7, [Reg(ORDERS)])
        outcomes = wire.decode_outcomes(await peer.hear(wire.OUTCOMES, 7))
        revisions.append(outcomes.revision)

    assert revisions == [1, 2, 3]


@native
async def test_a_write_of_a_client_that_names_itself_needs_an_id(world: World) -> None:
    peer = await world.connect(hello=False)
    await peer.hello(client="c1")

    peer.say(wire.WRITE, 0, [Reg(ORDERS)])

    assert (await peer.fault(0)).field == "id"
    assert world.node.revision == 0


@native
async def test_a_client_with_too_long_a_name_is_hung_up_on(world: World) -> None:
    peer = await world.connect(hello=False)

    peer.say(wire.HELLO, 1, wire.Hello(1, "", "x" * (wire.CLIENT_CHARS_MAX + 1)))

    assert (await peer.fault(0)).code == "protocol-violation"


@native
async def test_a_welcome_tells_who_the_members_are_and_who_leads(world: World) -> None:
    world.node.native_addresses = ("10.0.0.1:8300", "10.0.0.2:8300")
    peer = await world.connect(hello=False)

    welcome = await peer.hello()

    assert welcome.members == ("10.0.0.1:8300", "10.0.0.2:8300")
    assert welcome.leader == "local"
