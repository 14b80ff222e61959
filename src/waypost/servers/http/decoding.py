"""From the bytes of a body to its struct, or to an error that names the field.

msgspec says what it expected and where; here that becomes our own form: the field first, what is
wrong with it, and for a name that is not known the names that are.
"""

import re
from typing import Any, TypeVar, get_args

import msgspec

from waypost.errors import Invalid
from waypost.servers.http.bodies import Batch, BatchItem
from waypost.servers.web.requests import listed

_STRUCT = TypeVar("_STRUCT", bound=msgspec.Struct)
_MISSING = re.compile(r"Object missing required field `(.*)`")
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_ITEM = re.compile(r"items\[(\d+)\]")


def decode(body: bytes, kind: type[_STRUCT]) -> _STRUCT:
    """Read a body as ``kind``; raises ``Invalid`` naming the field that is wrong."""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise _named(str(error), body, kind) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Invalid(f"body: not JSON: {error}", field="body") from None
    except RecursionError:
        raise Invalid("body: nested too deeply for anything that is taken", field="body") from None


def _named(message: str, body: bytes, kind: type[msgspec.Struct]) -> Invalid:
    text, _, path = message.partition(" - at `$")
    path = path.rstrip("`").lstrip(".")
    if (match := _MISSING.fullmatch(text)) is not None:
        field = f"{path}.{match[1]}".lstrip(".")
        return Invalid(f"{field}: is required", field=field)
    if (match := _UNKNOWN.fullmatch(text)) is not None:
        field = f"{path}.{match[1][:80]}".lstrip(".")
        known = listed(_fields_at(path, body, kind))
        return Invalid(f"{field}: is not a field here; known are: {known}", field=field)
    field = path or "body"
    return Invalid(f"{field}: {text[0].lower()}{text[1:]}", field=field)


def _fields_at(path: str, body: bytes, kind: type[msgspec.Struct]) -> list[str]:
    item = _ITEM.fullmatch(path)
    if kind is Batch and item is not None:
        raw: dict[str, Any] = msgspec.json.decode(body)
        op: str = raw["items"][int(item[1])]["op"]
        kinds: tuple[type[msgspec.Struct], ...] = get_args(BatchItem)
        kind = next(each for each in kinds if each.__struct_config__.tag == op)
        return ["op", *(field.encode_name for field in msgspec.structs.fields(kind))]
    return [field.encode_name for field in msgspec.structs.fields(kind)]
