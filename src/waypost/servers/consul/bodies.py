"""JSON bodies read as Go would: names in any case, snake case too, null for "not given".

A body's form is a msgspec struct whose fields are the folded names (lower case, no underscores);
``ALIASES`` holds the few further names.  Unknown fields are ignored, wrong types refused.
"""

from typing import Any, Final, TypeVar, get_args, get_origin

import msgspec

from waypost.servers.consul.refusals import Refusal

_T = TypeVar("_T")
UINT64_MAX: Final = 2**64 - 1
ALIASES: Final = {"args": "scriptargs"}


def decode(content: bytes, form: type[_T]) -> _T:
    """Read a body; nothing at all is an empty object."""
    if not content.strip():
        raise Refusal(400, "Request decode failed: EOF")
    try:
        raw = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refusal(400, f"Request decode failed: {error}") from None
    try:
        return msgspec.convert(folded(raw, form), form)
    except msgspec.ValidationError as error:
        raise Refusal(400, f"Request decode failed: json: {error}") from None


# Every ``Any`` here is a value of JSON, of which the forms say more than a type checker knows.
def folded(raw: Any, form: Any) -> Any:
    """The same value with the names that the structs of ``form`` have, and without nulls."""
    kind: Any = type(raw)  # pyright: ignore[reportUnknownVariableType]
    if get_origin(form) is list and kind is list:
        (inner,) = get_args(form)
        return [folded(each, inner) for each in raw if each is not None]
    if get_origin(form) is dict and kind is dict:
        inner = get_args(form)[1]
        return {name: folded(value, inner) for name, value in raw.items() if value is not None}
    if kind is not dict:
        return raw
    struct: Any = next((each for each in (form, *get_args(form)) if _is_struct(each)), None)
    if struct is None:
        return raw
    hints = {field.name: field.type for field in msgspec.structs.fields(struct)}
    found: dict[str, Any] = {}
    for name, value in raw.items():
        field = name.lower().replace("_", "")
        field = ALIASES.get(field, field)
        if field in hints and value is not None:
            found[field] = folded(value, hints[field])
    return found


def _is_struct(form: Any) -> bool:
    return isinstance(form, type) and issubclass(form, msgspec.Struct)
