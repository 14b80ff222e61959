"""The XML of Eureka: nested fields as elements, and back.

Elements and attributes are those of the fields (``@name`` an attribute, ``$`` the text), a list is
its element repeated.  The keys of a ``metadata`` may be anything, and are written as XStream, the
serializer of Eureka's servers and Java clients, writes names that XML does not know: ``_`` as
``__``, ``$`` as ``_-``, and any other as ``_.`` and four hexadecimal digits.

What comes in is read by expat, with what makes XML dangerous refused: no document type, so there
are no entities to expand or to fetch; and its depth and number of elements are limited.

Source: XStream's ``XmlFriendlyNameCoder``; XML 1.0 (fifth edition), sections 2.2, 2.3 and 2.11.
"""

import re
from typing import Final
from xml.parsers import expat

from waypost.errors import Invalid
from waypost.servers.eureka.info import CLASS, EMPTY_MAP, Fields

DEPTH_MAX: Final = 8
ELEMENTS_MAX: Final = 1_024
METADATA: Final = "metadata"
_WITH_ATTRIBUTES: Final = ("port", "securePort", "dataCenterInfo")

_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_SPECIAL = re.compile('[&<>"\r\t\n]')
_IN_TEXT: Final = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": "&#13;"}
_IN_ATTRIBUTE: Final = {**_IN_TEXT, '"': "&quot;", "\t": "&#9;", "\n": "&#10;"}
_PLAIN_NAME = re.compile(r"[A-Za-z][A-Za-z0-9.-]*")
_CODED = re.compile(r"__|_-|_\.([0-9A-Fa-f]{4})")


# Out


def element(name: str, value: object) -> str:
    """One element, or one for each of a list."""
    if isinstance(value, list):
        items: list[object] = value  # pyright: ignore[reportUnknownVariableType]
        return "".join(element(name, item) for item in items)
    if not isinstance(value, dict):
        return f"<{name}>{_escaped(str(value), _IN_TEXT)}</{name}>"
    fields: Fields = value  # pyright: ignore[reportUnknownVariableType]
    if name == METADATA:
        return _metadata(fields)
    attributes, content = "", ""
    for key, inner in fields.items():
        if key.startswith("@"):
            attributes += f' {key[1:]}="{_escaped(str(inner), _IN_ATTRIBUTE)}"'
        elif key == "$":
            content += _escaped(str(inner), _IN_TEXT)
        else:
            content += element(key, inner)
    return f"<{name}{attributes}>{content}</{name}>"


def _metadata(pairs: Fields) -> str:
    if pairs == {CLASS: EMPTY_MAP}:
        return f'<metadata class="{EMPTY_MAP}"/>'
    shown = "".join(element(encode_name(key), str(value)) for key, value in pairs.items())
    return f"<metadata>{shown}</metadata>"


def _escaped(text: str, codes: dict[str, str]) -> str:
    text = _NOT_IN_XML.sub("\ufffd", text)
    return _SPECIAL.sub(lambda found: codes.get(found[0], found[0]), text)


def encode_name(key: str) -> str:
    """A key as the name of an element."""
    if _PLAIN_NAME.fullmatch(key):
        return key
    coded: list[str] = []
    for place, char in enumerate(key):
        if char == "_":
            coded.append("__")
        elif char == "$":
            coded.append("_-")
        elif char.isascii() and (char.isalpha() or (place and (char.isdigit() or char in ".-"))):
            coded.append(char)
        else:
            units = char.encode("utf-16-be", "surrogatepass")
            coded += [f"_.{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2)]
    return "".join(coded)


def decode_name(name: str) -> str:
    """The key of an element's name."""
    if "_" not in name:
        return name
    decoded = _CODED.sub(_char, name)
    # Characters beyond the first plane come as two halves.
    return decoded.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _char(code: re.Match[str]) -> str:
    match code[0]:
        case "__":
            return "_"
        case "_-":
            return "$"
        case _:
            return chr(int(code[1], 16))


# In


class _Open:
    """An element whose end has not come."""

    __slots__ = ("attributes", "fields", "name", "text")

    def __init__(self, name: str, attributes: Fields) -> None:
        self.name = name
        self.attributes = attributes
        self.fields: Fields = {}
        self.text = ""


class _Reader:
    """What expat tells, made into fields."""

    def __init__(self) -> None:
        self._open: list[_Open] = []
        self._elements = 0
        self.root = ""
        self.found: Fields = {}

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self._elements += 1
        if self._elements > ELEMENTS_MAX or len(self._open) >= DEPTH_MAX:
            raise Invalid(
                f"body: at most {ELEMENTS_MAX} elements are taken, and at most {DEPTH_MAX} within "
                "each other",
                field="body",
            )
        kept: Fields = {}
        if self._open and self._open[-1].name == METADATA:
            name = decode_name(name)
        elif name in _WITH_ATTRIBUTES:
            kept = {f"@{key}": value for key, value in attributes.items()}
        self._open.append(_Open(name, kept))

    def text(self, text: str) -> None:
        self._open[-1].text += text

    def end(self, name: str) -> None:
        done = self._open.pop()
        value: object = {**done.attributes, **done.fields}
        if not done.fields:
            value = {**done.attributes, "$": done.text} if done.attributes else done.text
        if self._open:
            self._open[-1].fields[done.name] = value
        else:
            self.root, self.found = name, done.fields


def parse(body: bytes) -> tuple[str, Fields]:
    """The name of a document's root, and its fields."""
    reader = _Reader()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    parser.StartDoctypeDeclHandler = _refuse
    parser.EntityDeclHandler = _refuse
    parser.ExternalEntityRefHandler = _refuse
    try:
        parser.Parse(body, True)
    except expat.ExpatError as error:
        raise Invalid(f"body: not XML: {error}", field="body") from None
    except (ValueError, LookupError) as error:  # an encoding that is not one
        raise Invalid(f"body: not XML that can be read: {error}", field="body") from None
    return reader.root, reader.found


def _refuse(*_: object) -> int:
    raise Invalid(
        "body: a document type is not taken: send the element <instance> alone", field="body"
    )
