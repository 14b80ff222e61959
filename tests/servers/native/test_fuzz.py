"""Whatever arrives: no exception reaches the event loop, and everybody else is served on.

Each case plays some hostile connections against one node while a well-behaved client resolves and
writes.  Afterwards the node has nothing left of them.  Three kinds of hostility: bytes at random,
conversations that are valid but for a few changes, and well-formed bodies of the wrong shape.  The
random cases are seeded; a failure names its seed.
"""

import asyncio
import gc
import random
import struct
import tracemalloc
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.servers.native.peer import Peer
from tests.servers.native.world import World, opened, until

from waypost import wire
from waypost.commands import Attach, Deregister, Register, SetHealth
from waypost.model import Instance, Query
from waypost.transport.frames import encode_frame

KINDS = sorted(
    each
    for name, each in vars(wire).items()
    if name.isupper() and isinstance(each, int) and each < 60
)
REQUESTS = [kind for kind in KINDS if kind < wire.WELCOME]

# What hostile clients say


def conversation(draw: random.Random) -> list[bytes]:
    """A valid conversation that touches every request."""
    service = draw.choice(["orders", "fuzz", "team-a/fuzz"])
    session = f"fuzz-{draw.randrange(4)}"
    instance = Instance(service, f"f-{draw.randrange(8)}", "127.0.0.1", draw.randrange(1, 65_536))
    bodies: list[tuple[int, Any]] = [
        (wire.ATTACH, wire.AttachSession(session, draw.choice([500, 9_000]), 0)),
        (wire.WRITE, [Register(instance, session), Register(instance)]),
        (wire.WATCH, wire.Watch(draw.choice(["", service]), draw.randrange(-1, 50))),
        (wire.SEEN, draw.randrange(100)),
        (wire.RESOLVE, wire.Resolve(service, Query(tags=("x",)))),
        (wire.RESOLVE, wire.Resolve(service, consistency="linearizable", max_stale_ms=0)),
        (wire.WRITE, [SetHealth(service, instance.id, "critical", "because")]),
        (wire.LIST, None),
        (wire.STATUS, None),
        (wire.CLUSTER, wire.ClusterAsk("status")),
        (wire.VERIFY, wire.Verify(service, instance.id)),
        (wire.DRAIN, wire.Drain(service, instance.id, draw.randrange(20))),
        (wire.WRITE, [Deregister(service, instance.id)]),
        (wire.PING, None),
        (wire.PONG, None),
        (wire.UNWATCH, None),
        (wire.DETACH, session),
    ]
    if draw.random() < 0.5:
        draw.shuffle(bodies)
    frames = [encode_frame(wire.HELLO, 1, wire.encode(wire.Hello(1, "fuzz")))]
    for kind, body in bodies:
        frame_id = draw.choice([0, 3, 7, draw.randrange(1 << 32)])
        frames.append(encode_frame(kind, frame_id, b"" if body is None else wire.encode(body)))
    return frames


def random_bytes(draw: random.Random) -> bytes:
    hello = encode_frame(wire.HELLO, 1, wire.encode(wire.Hello(1)))
    return (hello if draw.random() < 0.7 else b"") + draw.randbytes(draw.randrange(2_000))


def mutated(draw: random.Random) -> bytes:
    """A valid conversation in which something is changed, lost, doubled or cut."""
    frames = conversation(draw)
    for _ in range(draw.randrange(1, 4)):
        at = draw.randrange(len(frames))
        frame = bytearray(frames[at])
        match draw.randrange(7):
            case 0:
                frame[draw.randrange(len(frame))] = draw.randrange(256)
            case 1:
                del frame[draw.randrange(9, len(frame) + 1) :]
            case 2:
                frame[4] = draw.choice(KINDS)
            case 3:
                struct.pack_into(">I", frame, 0, max(0, len(frame) - 4 + draw.randrange(-9, 9)))
            case 4:
                frames.insert(at, bytes(frame))
            case 5:
                frame[9:] = draw.randbytes(draw.randrange(64))
                struct.pack_into(">I", frame, 0, len(frame) - 4)
            case _:
                frames.insert(draw.randrange(len(frames)), frames.pop(at))
                continue
        frames[at] = bytes(frame)
    return b"".join(frames)


def value(draw: random.Random, depth: int = 0) -> Any:
    """Any value of MessagePack, those at the limits above all."""
    scalars: list[Callable[[], Any]] = [
        lambda: None,
        lambda: draw.random() < 0.5,
        lambda: draw.choice([0, 1, -1, 127, 2**31, 2**63 - 1, -(2**63), 2**64 - 1]),
        lambda: draw.choice([0.0, -0.0, 1e308, float("inf"), float("nan")]),
        lambda: draw.choice(["", "orders", "fuzz", "x" * 1_000, "\0", "ä/ö", "resolvable", "any"]),
        lambda: draw.randbytes(draw.randrange(20)),
    ]
    if depth < 4 and draw.random() < 0.4:
        if draw.random() < 0.8:
            return [value(draw, depth + 1) for _ in range(draw.randrange(14))]
        return {draw.choice(["a", "b", ""]): value(draw, depth + 1) for _ in range(3)}
    return draw.choice(scalars)()


def near(draw: random.Random, body: Any) -> Any:
    """A valid body in which one field is something else."""
    plain = msgspec.to_builtins(body)
    at = plain
    while isinstance(at, list) and at:
        index = draw.randrange(len(at))
        if not isinstance(at[index], list) or not at[index] or draw.random() < 0.3:
            at[index] = value(draw)
            return plain
        at = at[index]
    return value(draw)


def odd_bodies(draw: random.Random) -> bytes:
    """Well-formed frames for every kind, with bodies of any shape."""
    instance = Instance("fuzz", "f-1", "127.0.0.1", 80, 1.0, "z", "v", ("t",), {"k": "v"})
    templates: dict[int, Any] = {
        wire.HELLO: wire.Hello(1, "fuzz"),
        wire.WRITE: [Register(instance), Attach("s", "local", 1_000, 0)],
        wire.ATTACH: wire.AttachSession("s", 1_000, 0),
        wire.DETACH: "s",
        wire.RESOLVE: wire.Resolve("fuzz"),
        wire.WATCH: wire.Watch("fuzz"),
        wire.SEEN: 1,
        wire.DRAIN: wire.Drain("fuzz", "f-1", 10),
        wire.VERIFY: wire.Verify("fuzz", "f-1"),
    }
    frames = [encode_frame(wire.HELLO, 1, wire.encode(wire.Hello(1)))]
    for _ in range(20):
        kind = draw.choice(REQUESTS) if draw.random() < 0.9 else draw.randrange(256)
        body = value(draw)
        if kind in templates and draw.random() < 0.7:
            body = near(draw, templates[kind])
        frames.append(encode_frame(kind, draw.choice([0, 7, 2**32 - 1]), wire.encode(body)))
    return b"".join(frames)


# How they say it


async def play(world: World, seed: float, say: Callable[[random.Random], bytes]) -> None:
    """Say something in pieces, read or do not read, and leave in one way or another."""
    draw = random.Random(seed)
    said = say(draw)
    peer = await world.connect(hello=False, receive_bytes=draw.choice([0, 4_096]))
    at = 0
    while at < len(said):
        step = draw.choice([1, 2, 9, 100, len(said)])
        peer.raw(said[at : at + step])
        at += step
        if draw.random() < 0.2:
            await asyncio.sleep(0)
    if draw.random() < 0.5:
        await listen(peer)
    if draw.random() < 0.5:
        peer.close()
    else:
        peer.abort()


async def listen(peer: Peer) -> None:
    """Read what comes at once; everything must be a frame of the protocol."""
    try:
        async with asyncio.timeout(0.005):
            while True:
                kind, _, body = await peer.frame()
                assert kind in KINDS
                if kind == wire.FAULT:
                    assert wire.decode_fault(body).message
    except (TimeoutError, EOFError, ConnectionError):
        pass


async def serve_on(world: World, good: Peer, n: int) -> None:
    """The well-behaved client is served as if nobody else were there."""
    good.is_polite = True
    await good.register("good", f"g-{n % 10}", version=str(n))
    resolved = await good.resolve("good")
    assert {r.instance.id: r.instance.version for r in resolved.records}[f"g-{n % 10}"] == str(n)


async def leave_nothing(world: World, good: Peer) -> None:
    """Every trace of the hostile clients is gone, at the latest with their leases."""
    await until(lambda: len(world.server.connections) == 1)
    await until(lambda: len(world.node.watches) == 0)
    for _ in range(10):
        await world.advance(1)
        await good.fence()
    assert len(world.node.sessions) == 0
    assert len(world.node.catalog.sessions) == 0
    assert world.node.replica.waiting_commands == 0
    assert world.node.replica.waiting_bytes == 0
    await serve_on(world, good, 0)
    assert world.trouble == []


SAID: dict[str, Callable[[random.Random], bytes]] = {
    "random bytes": random_bytes,
    "mutated conversations": mutated,
    "odd bodies": odd_bodies,
}


@pytest.mark.parametrize("run", [uvloop.run, asyncio.run], ids=["uvloop", "asyncio"])
@pytest.mark.parametrize("say", SAID.values(), ids=SAID)
@pytest.mark.parametrize("seed", range(2))
def test_whatever_a_client_says_the_others_are_served(
    seed: int, say: Callable[[random.Random], bytes], run: Callable[[Any], None]
) -> None:
    async def test() -> None:
        draw = random.Random(seed)
        async with opened() as world, asyncio.timeout(100):
            good = await world.connect()
            for n in range(40):
                hostile = [play(world, draw.random(), say) for _ in range(3)]
                await asyncio.gather(serve_on(world, good, n), *hostile)
                await world.advance(draw.choice([0.1, 1, 4]), look=True)
                await good.fence()
            await leave_nothing(world, good)

    run(test())


ANSWERS = {
    wire.HELLO: {wire.WELCOME},
    wire.WRITE: {wire.OUTCOMES},
    wire.ATTACH: {wire.OUTCOMES},
    wire.DETACH: {wire.OUTCOMES},
    wire.RESOLVE: {wire.RESOLVED},
    wire.LIST: {wire.SERVICES},
    wire.WATCH: {wire.SNAPSHOT, wire.CHANGES, wire.BOOKMARK},
    wire.DRAIN: {wire.DRAINED},
    wire.VERIFY: {wire.VERIFIED},
    wire.STATUS: {wire.STATE},
    wire.CLUSTER: {wire.MEMBERS},
    wire.CHECKS: {wire.CHECKED},
    wire.PING: {wire.PONG},
}
UNANSWERED = {wire.UNWATCH, wire.SEEN, wire.PONG}

bodies = st.binary(max_size=40) | st.recursive(
    st.none() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=12),
    max_leaves=20,
).map(msgspec.msgpack.encode)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([*REQUESTS, wire.WELCOME, 255]), bodies), max_size=12))
def test_every_request_has_one_answer_and_it_is_of_its_kind(said: list[tuple[int, bytes]]) -> None:
    async def test() -> None:
        async with opened() as world:
            peer = await world.connect()
            for n, (kind, body) in enumerate(said, start=1_000):
                peer.raw(encode_frame(kind, n, body))
                heard: list[int] = []
                if kind not in UNANSWERED:
                    while not heard:
                        heard_kind, heard_id, _ = await peer.frame()
                        if (heard_kind, heard_id) == (wire.FAULT, 0):
                            assert kind == wire.HELLO
                            assert await peer.hears_the_end()
                            return
                        if heard_id == n:
                            heard.append(heard_kind)
                heard += [kind for kind, frame_id, _ in await peer.fence() if frame_id == n]
                allowed = ANSWERS.get(kind, set()) | {wire.FAULT}
                assert len(heard) <= 1 if kind in UNANSWERED else len(heard) == 1
                assert set(heard) <= allowed

    uvloop.run(test())


def test_hostile_clients_leave_no_memory_behind() -> None:
    async def test() -> None:
        async with opened() as world, asyncio.timeout(100):
            good = await world.connect()
            sizes: list[int] = []
            objects: list[int] = []
            for _ in range(3):
                draw = random.Random(3)  # the same each time
                for n in range(30):
                    hostile = [play(world, draw.random(), say) for say in SAID.values()]
                    await asyncio.gather(serve_on(world, good, n), *hostile)
                    await world.advance(1, look=True)
                    await good.fence()
                await leave_nothing(world, good)
                del world.peers[1:]
                gc.collect()
                if not tracemalloc.is_tracing():
                    tracemalloc.start()  # from the second round on: the first filled every cache
                else:
                    sizes.append(tracemalloc.get_traced_memory()[0])
                objects.append(len(gc.get_objects()))
            tracemalloc.stop()
            assert sizes[-1] - sizes[0] < 200_000, sizes
            assert objects[-1] - objects[-2] < 200, objects

    uvloop.run(test())
