"""What goes back: a status, a body, headers.

Numbers are JSON numbers, lists are never null, and an index is never 0: clients take that for
"nothing changed", or refuse it.
"""

from typing import Any, Final

import msgspec

JSON: Final = b"application/json"
PLAIN: Final = b"text/plain; charset=utf-8"

Header = tuple[bytes, bytes]
encode_json: Final = msgspec.json.Encoder().encode


class Reply(msgspec.Struct):
    """One answer."""

    body: bytes = b""
    status: int = 200
    content_type: bytes = b""
    headers: list[Header] = []


def json_reply(value: Any, *, is_pretty: bool = False) -> Reply:
    """A value as JSON."""
    body = encode_json(value)
    if is_pretty:
        body = msgspec.json.format(body, indent=4) + b"\n"
    return Reply(body, 200, JSON)
