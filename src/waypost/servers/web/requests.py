"""Reading a request: its head, its parameters and its body, each within limits.

Nothing is taken on trust and nothing is ignored: what is too large, too slow, malformed or unknown
is refused with the field, the limit and the remedy.  A client that sends a byte a second holds a
task and a few bytes for ``BODY_TIMEOUT_S`` at most.
"""

import asyncio
import re
from collections.abc import Collection, Mapping
from typing import Final, TypeVar, cast
from urllib.parse import parse_qsl, urlsplit

from starlette.types import Receive, Scope

from waypost.errors import Invalid
from waypost.servers.web.refusals import (
    BodyTooLarge,
    BodyTooSlow,
    CrossSite,
    HeadTooLarge,
    UrlTooLong,
)

URL_BYTES_MAX: Final = 8192
HEAD_BYTES_MAX: Final = 32_768
BODY_BYTES_MAX: Final = 1 << 20
BODY_TIMEOUT_S: Final = 10.0

_BROKEN_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)(ms|s)?")
_NUMBER = re.compile(r"[0-9]{1,18}")
_TYPE = TypeVar("_TYPE")


class ClientGone(Exception):
    """The client hung up: there is nobody to answer."""


def check_head(scope: Scope) -> None:
    """Refuse what is wrong with a request before its path and its body are looked at."""
    path: bytes = scope["raw_path"]
    query: bytes = scope["query_string"]
    if len(path) + len(query) > URL_BYTES_MAX:
        raise UrlTooLong(
            f"url: {len(path) + len(query)} bytes, at most {URL_BYTES_MAX} are taken", field="url"
        )
    if _BROKEN_ESCAPE.search(path) or _BROKEN_ESCAPE.search(query):
        raise Invalid(
            "url: a '%' is not followed by two hexadecimal digits: write a literal one as %25",
            field="url",
        )
    if "\ufffd" in scope["path"]:
        raise Invalid("url: the path is not UTF-8 once it is percent-decoded", field="url")
    size = sum(len(name) + len(value) for name, value in scope["headers"])
    if size > HEAD_BYTES_MAX:
        raise HeadTooLarge(
            f"headers: {size} bytes, at most {HEAD_BYTES_MAX} are taken", field="headers"
        )


def check_origin(headers: Mapping[str, str]) -> None:
    """Refuse to change anything for a page of another site.

    A registry on the loopback address needs no token, so any page in a browser on the same machine
    could otherwise write to it: browsers send such a POST without asking first, and always say
    whose page it comes from (Fetch standard, section 3.1).
    """
    origin = headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != headers.get("host"):
        raise CrossSite(
            f"origin: a page of {origin[:100]!r} may not change what is registered here",
            field="origin",
        )


async def read_body(receive: Receive, headers: Mapping[str, str]) -> bytes:
    """The whole body; raises ``ClientGone`` if it never comes to its end."""
    length = headers.get("content-length", "0")
    if _NUMBER.fullmatch(length) and int(length) > BODY_BYTES_MAX:
        raise _too_large(int(length))
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGone
                part: bytes = message.get("body", b"")
                size += len(part)
                if size > BODY_BYTES_MAX:
                    raise _too_large(size)
                parts.append(part)
                if not message.get("more_body", False):
                    return b"".join(parts)
    except TimeoutError:
        raise BodyTooSlow(
            f"body: {size} bytes came within {BODY_TIMEOUT_S:g} s, and not the rest", field="body"
        ) from None


class Parameters:
    """The query parameters of a request, each known by name."""

    __slots__ = ("_values",)

    def __init__(self, query: bytes, known: Collection[str]) -> None:
        try:
            pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, errors="strict")
        except UnicodeDecodeError:
            raise Invalid(
                "url: the query is not UTF-8 once it is percent-decoded", field="url"
            ) from None
        self._values: dict[str, list[str]] = {}
        for name, value in pairs:
            if name not in known and not (name.startswith("meta.") and "meta.*" in known):
                raise Invalid(
                    f"{name[:80]!r} is not a parameter here; known are: {listed(known)}",
                    field=name[:80],
                )
            self._values.setdefault(name, []).append(value)

    def all(self, name: str) -> list[str]:
        """Every value given under ``name``."""
        return self._values.get(name, [])

    def one(self, name: str, default: str = "") -> str:
        """The value given under ``name``, which may be given once."""
        values = self._values.get(name)
        if values is None:
            return default
        if len(values) > 1:
            raise Invalid(f"{name}: given {len(values)} times, give it once", field=name)
        return values[0]

    def choice(self, name: str, choices: Collection[_TYPE], default: _TYPE) -> _TYPE:
        """The value given under ``name``, which must be one of ``choices``."""
        value = self.one(name, cast("str", default))
        if value not in choices:
            raise Invalid(f"{name}: {value[:80]!r} is none of {listed(choices)}", field=name)
        return cast("_TYPE", value)

    def number(self, name: str, default: int = 0) -> int:
        """The whole number given under ``name``."""
        return read_number(name, self.one(name, str(default)))

    def duration_ms(self, name: str, default: int) -> int:
        """The duration given under ``name``, in milliseconds."""
        value = self.one(name)
        if name not in self._values:
            return default
        match = _DURATION.fullmatch(value)
        if match is None:
            raise Invalid(
                f"{name}: {value[:80]!r} is not a duration: write 2s, 500ms or a number of seconds",
                field=name,
            )
        return round(float(match[1]) * (1 if match[2] == "ms" else 1000))

    def pairs(self, prefix: str) -> dict[str, str]:
        """What is given as ``prefix`` and a key, by key."""
        return {
            name.removeprefix(prefix): self.one(name)
            for name in self._values
            if name.startswith(prefix)
        }


def read_number(name: str, text: str) -> int:
    """A whole number, not negative."""
    if not _NUMBER.fullmatch(text):
        raise Invalid(f"{name}: {text[:80]!r} is not a whole number of up to 18 digits", field=name)
    return int(text)


def _too_large(size: int) -> BodyTooLarge:
    return BodyTooLarge(
        f"body: {size} bytes, at most {BODY_BYTES_MAX} are taken: send several requests",
        field="body",
    )


def listed(names: Collection[object]) -> str:
    """Names for a message."""
    return ", ".join(map(str, names)) or "none"
