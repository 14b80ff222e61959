"""``/v1/kv``: keys.  A key is all of the path that follows, slashes included.

Source: Consul's documentation of the KV store, and ``agent/kvs_endpoint`` of 1.16.
"""

import re
from typing import Final
from urllib.parse import urlencode

import msgspec

from waypost.catalog.keys import VALUE_BYTES_MAX, Pair
from waypost.commands import DropKey, PutKey
from waypost.errors import UnknownHolder
from waypost.model import Revision
from waypost.servers.consul.asked import Asked
from waypost.servers.consul.key_topics import KeyTopic, PrefixTopic
from waypost.servers.consul.operations import Call, Operation, check_datacenter
from waypost.servers.consul.refusals import Refusal
from waypost.servers.consul.replies import Reply

_NUMBER: Final = re.compile(r"[0-9]{1,20}")
_UINT64_MAX: Final = 2**64 - 1


class PairView(msgspec.Struct, rename="pascal", omit_defaults=True, frozen=True):
    """A pair as Consul shows it."""

    lock_index: int
    key: str
    flags: int
    value: bytes | None
    create_index: int
    modify_index: int
    session: str = ""


def pair_view(pair: Pair) -> PairView:
    """Show a pair."""
    return PairView(
        pair.lock_index,
        pair.key,
        pair.flags,
        pair.value or None,
        pair.created,
        pair.revision,
        pair.holder,
    )


async def get(call: Call) -> Reply:
    """Read a key; with ``recurse`` all that begin with it, with ``keys`` only their names."""
    asked, prefix = call.asked, call.rest
    if "keys" in asked:
        index = await call.read(PrefixTopic(call.registry.keys, prefix))
        names = _names(call, prefix, asked.one("separator") or asked.one("seperator"))
        return call.reply(names, index) if names or not prefix else _missing(call, index)
    if "recurse" in asked:
        index = await call.read(PrefixTopic(call.registry.keys, prefix))
        pairs = [pair_view(pair) for pair in call.registry.keys.space.keys.under(prefix)]
        return call.reply(pairs, index) if pairs else _missing(call, index)
    key = _key_of(call)
    index = await call.read(KeyTopic(call.registry.keys, key))
    pair = call.registry.keys.space.keys.find(key)
    if pair is None:
        return _missing(call, index)
    if "raw" in asked:
        safe = [(b"x-content-type-options", b"nosniff"), (b"content-security-policy", b"sandbox")]
        return Reply(pair.value, 200, b"text/plain", [*call.headers(index), *safe])
    return call.reply([pair_view(pair)], index)


async def put(call: Call) -> Reply:
    """Set a key, if it is as ``cas`` says; acquire or release it."""
    asked = call.asked
    key = _key_of(call)
    check_datacenter(asked)
    _check_conflict(asked, "cas", "acquire", "release")
    flags, cas = _number(asked, "flags", 0), _number(asked, "cas", -1)
    for name in ("acquire", "release"):
        if name in asked and not asked.one(name):
            raise Refusal(500, "missing session")
    value = await call.content()
    if len(value) > VALUE_BYTES_MAX:
        raise Refusal(
            413,
            f"Request body({len(value)} bytes) too large, max size: {VALUE_BYTES_MAX} bytes",
        )
    holder = asked.one("acquire")
    command = PutKey(key, value, flags, cas, holder, asked.one("release"))
    try:
        revision, done = await call.registry.keys.put(command)
    except UnknownHolder:
        raise Refusal(500, f'invalid session "{holder}"') from None
    await call.written(revision)
    return call.plain(done)


async def delete(call: Call) -> Reply:
    """Remove a key, if it is as ``cas`` says, or with ``recurse`` all that begin with it."""
    asked = call.asked
    check_datacenter(asked)
    _check_conflict(asked, "recurse", "cas")
    is_prefix = "recurse" in asked
    key = call.rest if is_prefix else _key_of(call)
    command = DropKey(key, is_prefix, _number(asked, "cas", -1))
    revision, done = await call.registry.keys.drop(command)
    await call.written(revision)
    return call.plain(done)


def _key_of(call: Call) -> str:
    if not call.rest:
        raise Refusal(400, "Missing key name")
    return call.rest


def _missing(call: Call, index: Revision) -> Reply:
    return Reply(b"", 404, b"", call.headers(index))


def _names(call: Call, prefix: str, separator: str) -> list[str]:
    """The keys under a prefix, each only up to the first separator that follows it."""
    pairs = call.registry.keys.space.keys.under(prefix)
    if not separator:
        return [pair.key for pair in pairs]
    names: dict[str, None] = {}
    for pair in pairs:
        end = pair.key.find(separator, len(prefix))
        names[pair.key if end < 0 else pair.key[: end + len(separator)]] = None
    return list(names)


def _check_conflict(asked: Asked, *names: str) -> None:
    given = [name for name in names if name in asked]
    if len(given) > 1:
        shown = urlencode({name: asked.one(name) for name in sorted(given)})
        raise Refusal(400, f"Conflicting flags: {shown}\n")


def _number(asked: Asked, name: str, default: int) -> int:
    if name not in asked:
        return default
    text = asked.one(name)
    if not _NUMBER.fullmatch(text) or int(text) > _UINT64_MAX:
        raise Refusal(400, f'strconv.ParseUint: parsing "{text[:80]}": invalid syntax')
    return int(text)


OPERATIONS = (
    Operation("GET", "kv/", get),
    Operation("PUT", "kv/", put),
    Operation("DELETE", "kv/", delete),
)
