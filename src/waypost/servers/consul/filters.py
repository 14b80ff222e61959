"""Filter expressions: ``Service.Meta.zone == "a" and not (ServiceTags contains "old")``.

A selector names a field of what is listed; one that goes through a list holds if it holds for any
of its members.  A key that a map does not have equals nothing and contains nothing.  ``matches``
takes RE2 expressions only, whose time is linear: Python's own engine would let one request hold the
node for minutes.

Source: hashicorp/go-bexpr, its grammar and its README.
"""

import importlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from waypost.servers.consul.refusals import Refusal

Datum = Mapping[str, Any]
Test = Callable[[Datum], bool]

CHARS_MAX: Final = 4096
DEPTH_MAX: Final = 32
TERMS_MAX: Final = 256

_TOKEN: Final = re.compile(
    r"""\s*(?:
      (?P<text>"(?:[^"\\]|\\.)*"|`[^`]*`)
    | (?P<mark>==|!=|\(|\))
    | (?P<word>[A-Za-z0-9_\-+.:/*@%$]+(?:\["(?:[^"\\]|\\.)*"\][A-Za-z0-9_.]*)*)
    )""",
    re.VERBOSE,
)
_SEGMENT: Final = re.compile(r'\["((?:[^"\\]|\\.)*)"\]|([^.\[]+)')
_SELECTOR: Final = re.compile(r'[A-Za-z][A-Za-z0-9_]*(?:\.[A-Za-z0-9_\-/]+|\["(?:[^"\\]|\\.)*"\])*')
_ESCAPE: Final = re.compile(r"\\(.)")
_KEYWORDS: Final = frozenset(("and", "or", "not", "in", "is", "empty", "contains", "matches"))
_TRUE: Final = frozenset(("1", "t", "T", "TRUE", "true", "True"))
_FALSE: Final = frozenset(("0", "f", "F", "FALSE", "false", "False"))

ANY: Final = "any key"
"""In the fields that a filter knows: a map whose keys are the user's."""


def parse(expression: str, fields: Mapping[str, Any]) -> Test:
    """Compile an expression over data that have these fields; raises ``Refusal``."""
    if len(expression) > CHARS_MAX:
        raise _wrong(f"{len(expression)} characters, at most {CHARS_MAX}")
    parser = _Parser(_tokens(expression), fields)
    test = parser.either(0)
    parser.expect_end()
    return test


class _Token:
    __slots__ = ("kind", "text")

    def __init__(self, kind: str, text: str) -> None:
        self.kind = kind
        self.text = text


def _tokens(expression: str) -> list[_Token]:
    found: list[_Token] = []
    position = 0
    expression = expression.rstrip()
    while position < len(expression):
        match = _TOKEN.match(expression, position)
        if match is None:
            raise _wrong(f"cannot read {expression[position : position + 20]!r}")
        kind = match.lastgroup
        assert kind is not None
        found.append(_Token(kind, match[kind]))
        position = match.end()
    return found


class _Parser:
    """Recursive descent, over a bounded number of tokens and a bounded depth."""

    def __init__(self, tokens: list[_Token], fields: Mapping[str, Any]) -> None:
        self._tokens = tokens
        self._fields = fields
        self._position = 0
        self._terms = 0

    def either(self, depth: int) -> Test:
        """One or more terms, joined by ``or``."""
        tests = [self._both(depth)]
        while self._take_word("or"):
            tests.append(self._both(depth))
        return tests[0] if len(tests) == 1 else lambda datum: any(test(datum) for test in tests)

    def expect_end(self) -> None:
        """Refuse whatever follows."""
        if self._position < len(self._tokens):
            raise _wrong(f"{self._tokens[self._position].text[:40]!r} is not expected there")

    def _both(self, depth: int) -> Test:
        tests = [self._one(depth)]
        while self._take_word("and"):
            tests.append(self._one(depth))
        return tests[0] if len(tests) == 1 else lambda datum: all(test(datum) for test in tests)

    def _one(self, depth: int) -> Test:
        if depth > DEPTH_MAX:
            raise _wrong(f"nested deeper than {DEPTH_MAX}")
        if self._take_word("not"):
            return _negated(self._one(depth + 1))
        if self._take_mark("("):
            test = self.either(depth + 1)
            if not self._take_mark(")"):
                raise _wrong("a ')' is missing")
            return test
        self._terms += 1
        if self._terms > TERMS_MAX:
            raise _wrong(f"more than {TERMS_MAX} terms")
        return self._term()

    def _term(self) -> Test:
        first = self._next()
        if self._take_word("in"):
            return _has(self._selector(self._next()), _value(first))
        if self._take_word("not"):
            if self._take_word("in"):
                return _negated(_has(self._selector(self._next()), _value(first)))
            path = self._selector(first)
            if self._take_word("contains"):
                return _negated(_has(path, _value(self._next())))
            if self._take_word("matches"):
                return _negated(_matches(path, _value(self._next())))
            raise _wrong("after 'not' comes 'in', 'contains' or 'matches'")
        path = self._selector(first)
        if self._take_mark("=="):
            return _equals(path, _value(self._next()))
        if self._take_mark("!="):
            return _negated(_equals(path, _value(self._next())))
        if self._take_word("contains"):
            return _has(path, _value(self._next()))
        if self._take_word("matches"):
            return _matches(path, _value(self._next()))
        if self._take_word("is"):
            is_negated = self._take_word("not")
            if not self._take_word("empty"):
                raise _wrong("after 'is' comes 'empty' or 'not empty'")
            return _negated(_empty(path)) if is_negated else _empty(path)
        raise _wrong(f"{first.text[:40]!r} is followed by no operator")

    def _selector(self, token: _Token) -> tuple[str, ...]:
        if token.kind != "word" or not _SELECTOR.fullmatch(token.text):
            raise _wrong(f"{token.text[:40]!r} is not a selector")
        path = tuple(
            _unescaped(quoted) if quoted else plain
            for quoted, plain in _SEGMENT.findall(token.text)
        )
        fields: Any = self._fields
        for segment in path:
            if fields is ANY:
                break
            if fields is None or segment not in fields:
                raise _wrong(f'Selector "{token.text[:80]}" is not valid')
            fields = fields[segment]
        return path

    def _next(self) -> _Token:
        if self._position == len(self._tokens):
            raise _wrong("it ends too early")
        self._position += 1
        return self._tokens[self._position - 1]

    def _take(self, kind: str, text: str) -> bool:
        if self._position < len(self._tokens):
            token = self._tokens[self._position]
            if token.kind == kind and token.text == text:
                self._position += 1
                return True
        return False

    def _take_word(self, word: str) -> bool:
        return self._take("word", word)

    def _take_mark(self, mark: str) -> bool:
        return self._take("mark", mark)


def _value(token: _Token) -> str:
    if token.kind == "text":
        inner = token.text[1:-1]
        return _unescaped(inner) if token.text[0] == '"' else inner
    if token.kind == "word" and token.text not in _KEYWORDS:
        return token.text
    raise _wrong(f"{token.text[:40]!r} is not a value")


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(r"\1", text)


def _found(datum: Any, path: tuple[str, ...]) -> list[Any]:
    """All values at a path: one, or one for each member of the lists on the way."""
    values = [datum]
    for segment in path:
        reached: list[Any] = []
        for value in values:
            members: Sequence[Any] = value if type(value) in (list, tuple) else (value,)
            reached += [
                each[segment] for each in members if isinstance(each, Mapping) and segment in each
            ]
        values = reached
    return values


def _negated(test: Test) -> Test:
    return lambda datum: not test(datum)


def _equals(path: tuple[str, ...], wanted: str) -> Test:
    return lambda datum: any(_is(value, wanted) for value in _found(datum, path))


def _is(value: Any, wanted: str) -> bool:
    if isinstance(value, bool):
        if wanted not in _TRUE and wanted not in _FALSE:
            raise _wrong(f"{wanted[:40]!r} is not a boolean")
        return value is (wanted in _TRUE)
    if isinstance(value, int | float):
        try:
            return value == float(wanted)
        except ValueError:
            raise _wrong(f"{wanted[:40]!r} is not a number") from None
    return bool(value == wanted)


def _has(path: tuple[str, ...], wanted: str) -> Test:
    """A substring of a text, a member of a list, or a key of a map."""
    return lambda datum: any(
        value is not None and not isinstance(value, int | float) and wanted in value
        for value in _found(datum, path)
    )


def _empty(path: tuple[str, ...]) -> Test:
    return lambda datum: (
        not any(
            value if not isinstance(value, int | float) else True for value in _found(datum, path)
        )
    )


def _matches(path: tuple[str, ...], pattern: str) -> Test:
    try:
        re2: Any = importlib.import_module("re2")
    except ImportError:
        raise Refusal(
            400,
            "filter: 'matches' needs the RE2 library on the server: pip install 'waypost[consul]'; "
            "'==', 'in' and 'contains' do without",
        ) from None
    options = re2.Options()
    options.log_errors = False
    options.max_mem = 1 << 20
    try:
        search = re2.compile(pattern, options).search
    except re2.error as error:
        raise _wrong(f"{pattern[:80]!r} is no expression of RE2: {error}") from None
    return lambda datum: any(
        isinstance(value, str) and search(value) is not None for value in _found(datum, path)
    )


def _wrong(why: str) -> Refusal:
    return Refusal(400, f"Failed to create boolean expression evaluator: {why}")
