"""``/v1/txn``: operations on keys, nodes, services and checks, all of them or none.

One that only reads is answered from this node, as fresh as its flags ask; any other goes through
the log, as one command.  Operations on anything but keys are read by ``txn_catalog``.

Source: Consul's documentation of transactions, and ``agent/consul/state/txn`` of 1.16.
"""

import base64
import binascii
from typing import Any, assert_never

import msgspec

from waypost.catalog.keys import VALUE_BYTES_MAX
from waypost.catalog.keyspace import Miss
from waypost.catalog.transacting import OPERATIONS_MAX, Transacted, is_read
from waypost.commands import CheckKey, DropKey, KeyOperation, PutKey, ReadKey
from waypost.commands import Operation as Part
from waypost.servers.consul import txn_catalog
from waypost.servers.consul.bodies import UINT64_MAX, decode
from waypost.servers.consul.kv import pair_view
from waypost.servers.consul.nodes import Nodes
from waypost.servers.consul.operations import Call, Operation, check_datacenter
from waypost.servers.consul.refusals import Refusal
from waypost.servers.consul.replies import Reply
from waypost.servers.consul.topics import CONSTANT
from waypost.servers.consul.txn_catalog import CheckStep, NodeStep, Places, ServiceStep


class _Kv(msgspec.Struct):
    verb: str = ""
    key: str = ""
    value: str = ""
    flags: int = 0
    index: int = 0
    session: str = ""


class _Given(msgspec.Struct):
    kv: _Kv | None = None
    node: NodeStep | None = None
    service: ServiceStep | None = None
    check: CheckStep | None = None


_Step = _Kv | NodeStep | ServiceStep | CheckStep | None
"""None says nothing."""


class _Error(msgspec.Struct, rename="pascal", frozen=True):
    op_index: int
    what: str


class _Answer(msgspec.Struct, rename="pascal", frozen=True):
    results: list[dict[str, Any]] | None
    errors: list[_Error] | None


async def transact(call: Call) -> Reply:
    """Do it."""
    check_datacenter(call.asked)
    given = _given(await call.content())
    steps: list[_Step] = [each.kv or each.node or each.service or each.check for each in given]
    if any(txn_catalog.needs_address(step) for step in steps):
        await call.make_certain()
    nodes = Nodes(call.registry.catalog, call.door.servers())
    places = Places(lambda name: nodes.address(name, "127.0.0.1"), nodes.servers)
    operations: list[Part] = []
    wrong: list[_Error] = []
    for number, step in enumerate(steps):
        made = _part(step, places)
        if isinstance(made, str):
            wrong.append(_Error(number, made))
        else:
            operations.append(made)
    if wrong:
        return _conflict(call, wrong)
    is_reading = all(is_read(each) for each in operations)
    index = await call.read(CONSTANT) if is_reading else 0
    revision, done = await call.registry.keys.transact(operations)
    await call.written(revision)
    if done.missed:
        return _conflict(call, _errors(steps, done))
    reply = call.plain(_Answer(_results(call, done), None))
    if is_reading:
        reply.headers = call.headers(max(index, revision))
    return reply


def _given(content: bytes) -> list[_Given]:
    try:
        given = decode(content, list[_Given])
    except Refusal as error:
        why = error.message.removeprefix("Request decode failed: ")
        raise Refusal(400, f"Failed to parse body: {why}") from None
    if len(given) > OPERATIONS_MAX:
        raise Refusal(
            413,
            f"Transaction contains too many operations ({len(given)} > {OPERATIONS_MAX})",
        )
    return given


def _part(step: _Step, places: Places) -> Part | str:
    """The operation, or what is wrong with it."""
    if step is None:
        return "no operation specified: give one of KV, Node, Service and Check"
    return _operation(step) if isinstance(step, _Kv) else txn_catalog.operation(step, places)


def _results(call: Call, done: Transacted) -> list[dict[str, Any]]:
    """What was read and set, in order."""
    shapes = call.shapes()
    results: list[dict[str, Any]] = [{"KV": pair_view(pair)} for pair in done.pairs]
    for found in reversed(done.found):
        results.insert(found.pairs_before, txn_catalog.shown(found, shapes))
    return results


def _operation(step: _Kv) -> KeyOperation | str:
    """The operation, or what is wrong with it."""
    key, index = step.key, step.index
    if not key and step.verb not in ("delete-tree", "get-tree"):
        return "Must provide key"
    if not (0 <= index <= UINT64_MAX and 0 <= step.flags <= UINT64_MAX):
        return "Index and Flags must be unsigned numbers of 64 bits"
    match step.verb:
        case "set" | "cas" | "lock" | "unlock":
            return _put(step)
        case "delete":
            return DropKey(key)
        case "delete-cas":
            return DropKey(key, cas=index)
        case "delete-tree":
            return DropKey(key, is_prefix=True)
        case "get":
            return ReadKey(key)
        case "get-or-empty":
            return ReadKey(key, may_miss=True)
        case "get-tree":
            return ReadKey(key, is_prefix=True)
        case "check-index":
            return CheckKey(key, revision=index)
        case "check-session":
            return CheckKey(key, holder=step.session)
        case "check-not-exists":
            return CheckKey(key)
        case _:
            return f'unknown KV verb "{step.verb[:80]}"'


def _put(step: _Kv) -> KeyOperation | str:
    value = _value(step)
    match step.verb:
        case "cas":
            return PutKey(step.key, value, step.flags, cas=step.index)
        case "lock" | "unlock":
            if not step.session:
                return "missing session"
            if step.verb == "lock":
                return PutKey(step.key, value, step.flags, acquire=step.session)
            return PutKey(step.key, value, step.flags, release=step.session)
        case _:
            return PutKey(step.key, value, step.flags)


def _value(step: _Kv) -> bytes:
    try:
        value = base64.b64decode(step.value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refusal(400, f"Failed to parse body: failed to decode value: {error}") from None
    if len(value) > VALUE_BYTES_MAX:
        raise Refusal(
            413,
            f'Value for key "{step.key[:80]}" is too large ({len(value)} > {VALUE_BYTES_MAX} '
            "bytes)",
        )
    return value


def _conflict(call: Call, errors: list[_Error]) -> Reply:
    reply = call.plain(_Answer(None, errors))
    reply.status = 409
    return reply


def _errors(steps: list[_Step], done: Transacted) -> list[_Error]:
    return [_Error(number, _why(steps[number], miss)) for number, miss in done.missed]


def _why(step: _Step, miss: Miss) -> str:
    assert step is not None, "what says nothing is never done"
    return _what(step, miss) if isinstance(step, _Kv) else txn_catalog.what(step, miss)


def _what(step: _Kv, miss: Miss) -> str:
    """Why, in Consul's words."""
    key = step.key
    match miss.kind:
        case "stale":
            verb = "delete" if step.verb == "delete-cas" else "set"
            return f'failed to {verb} key "{key}", index is stale'
        case "held":
            return f'failed to lock key "{key}", lock is already held'
        case "delayed":
            return f'failed to lock key "{key}" due to lock delay'
        case "not-held":
            return f'failed to unlock key "{key}", lock isn\'t held, or is held by another session'
        case "unknown-holder":
            return f'invalid session "{miss.found}"'
        case "exists":
            return f'key "{key}" exists'
        case "missing" if step.verb == "get":
            return f'key "{key}" doesn\'t exist'
        case "missing":
            what = "session" if step.verb == "check-session" else "index"
            return f'failed to check {what}, key "{key}" doesn\'t exist'
        case "revision":
            return (
                f'failed index check for key "{key}", current modify index {miss.found} != '
                f"{step.index}"
            )
        case "holder":
            return (
                f'failed session check for key "{key}", current session "{miss.found}" != '
                f'"{step.session}"'
            )
        case "too-large":
            return "what the transaction reads is larger than 1 MiB: read less at once"
        case "no-node" | "no-service" | "full":
            raise AssertionError("a key needs no node")
        case _:
            assert_never(miss.kind)


OPERATIONS = (Operation("PUT", "txn", transact),)
