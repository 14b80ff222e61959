"""What a request's URL and headers say: flags, values, the index to wait for, the consistency.

Parameters that are not known are ignored, as Consul does; those that are known and wrong are
refused in its words.  A flag is given by its presence: ``?stale`` and ``?stale=`` are the same.
"""

import re
from typing import Final, Literal
from urllib.parse import parse_qsl

from waypost.servers.consul.durations import parse_ns
from waypost.servers.consul.refusals import Refusal

Consistency = Literal["default", "stale", "consistent"]

WAIT_S_DEFAULT: Final = 300.0
WAIT_S_MAX: Final = 600.0
INDEX_MAX: Final = 2**63 - 1

_INDEX: Final = re.compile(r"[0-9]{1,20}")
_TRUE: Final = frozenset(("1", "t", "T", "TRUE", "true", "True"))
_FALSE: Final = frozenset(("0", "f", "F", "FALSE", "false", "False"))
_NARROWING: Final = frozenset(("tag", "node-meta", "peer", "pretty"))
_CACHE_DIRECTIVES: Final = ("max-age", "stale-if-error")


class Asked:
    """The parameters of one request."""

    __slots__ = ("_values", "headers")

    def __init__(self, query: bytes, headers: dict[str, str]) -> None:
        self._values: dict[str, list[str]] = {}
        self.headers = headers
        if not query:
            return
        try:
            pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, errors="strict")
        except (UnicodeDecodeError, ValueError):
            raise Refusal(400, "Invalid query: it is not UTF-8, percent-encoded") from None
        for name, value in pairs:
            self._values.setdefault(name, []).append(value)

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def one(self, name: str, default: str = "") -> str:
        """The first value given under a name."""
        values = self._values.get(name)
        return values[0] if values else default

    def all(self, name: str) -> list[str]:
        """Every value given under a name."""
        return self._values.get(name, [])

    def is_set(self, name: str) -> bool:
        """Whether a flag is given, be it alone or as a boolean."""
        if name not in self._values:
            return False
        value = self.one(name)
        if value in _FALSE:
            return False
        if value and value not in _TRUE:
            raise Refusal(400, f"Invalid value for ?{name}")
        return True

    @property
    def is_pretty(self) -> bool:
        """Whether JSON is to be indented."""
        return "pretty" in self._values

    @property
    def is_narrowed(self) -> bool:
        """Whether less than all is asked for, or in another form, beside a filter."""
        return not self._values.keys().isdisjoint(_NARROWING)

    @property
    def datacenter(self) -> str:
        """Which one is asked for; empty for this one."""
        return self.one("datacenter") or self.one("dc")

    @property
    def index(self) -> int:
        """The index that the client has; 0 for none."""
        given = self.one("index")
        if not given:
            return 0
        if not _INDEX.fullmatch(given) or int(given) > INDEX_MAX:
            raise Refusal(400, "Invalid index")
        return int(given)

    @property
    def wait_s(self) -> float:
        """How long it would wait for a higher one."""
        given = self.one("wait")
        if not given:
            return WAIT_S_DEFAULT
        try:
            seconds = parse_ns(given) / 1e9
        except ValueError:
            raise Refusal(400, "Invalid wait time") from None
        if seconds <= 0:
            return WAIT_S_DEFAULT
        return min(seconds, WAIT_S_MAX)

    @property
    def max_stale_ms(self) -> int:
        """How old a stale answer may be; -1 for any age."""
        given = self.one("max_stale")
        if not given:
            return -1
        try:
            return parse_ns(given) // 1_000_000
        except ValueError:
            raise Refusal(400, f'Invalid max_stale value "{given[:80]}"') from None

    @property
    def is_cached(self) -> bool:
        """Whether an answer from an agent's cache would do; here that is this node's state."""
        return "cached" in self._values

    @property
    def consistency(self) -> Consistency:
        """How certain the answer has to be."""
        is_stale = "stale" in self._values
        if "consistent" in self._values:
            if is_stale:
                raise Refusal(400, "Cannot specify ?stale with ?consistent, conflicting semantics.")
            if self.is_cached:
                raise Refusal(
                    400, "Cannot specify ?cached with ?consistent, conflicting semantics."
                )
            return "consistent"
        return "stale" if is_stale or "max_stale" in self._values else "default"

    def check_cache_control(self) -> None:
        """Refuse a ``Cache-Control`` that does not say how long, as Consul does."""
        for part in self.headers.get("cache-control", "").split(","):
            name, _, value = part.strip().partition("=")
            if name.lower() in _CACHE_DIRECTIVES and not re.fullmatch(r"[0-9]{1,9}", value):
                raise Refusal(400, f"Invalid cache-control header: {name} must be whole seconds")

    @property
    def token(self) -> str:
        """The token given; nothing asks for one, so it may be any."""
        bearer = self.headers.get("authorization", "")
        return (
            self.one("token")
            or self.headers.get("x-consul-token", "")
            or (bearer[7:].strip() if bearer[:7].lower() == "bearer " else "")
        )
