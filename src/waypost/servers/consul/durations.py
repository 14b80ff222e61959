"""Durations as Go writes and reads them: ``10s``, ``1m30s``, ``100ms``, or whole nanoseconds.

Source: Go's ``time.ParseDuration`` and ``Duration.String``.
"""

import re
from typing import Final

_PART: Final = re.compile(r"([0-9]{1,12}(?:\.[0-9]{0,12})?|\.[0-9]{1,12})(ns|us|µs|μs|ms|s|m|h)")
_WHOLE: Final = re.compile(rf"-?(?:{_PART.pattern})+")
_NS: Final = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "μs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}


def parse_ns(text: str) -> int:
    """Nanoseconds; raises ``ValueError``, in Go's words."""
    if text in ("0", "+0", "-0"):
        return 0
    if len(text) > 64 or not _WHOLE.fullmatch(text):
        reason = "missing unit in duration" if _is_number(text) else "invalid duration"
        raise ValueError(f'time: {reason} "{text[:80]}"')
    total = sum(round(float(number) * _NS[unit]) for number, unit in _PART.findall(text))
    return -total if text.startswith("-") else total


def read_ns(value: str | int | float | None) -> int:
    """What a JSON body gives as a duration: text, or nanoseconds; nothing is 0."""
    if value is None or value == "":
        return 0
    return parse_ns(value) if isinstance(value, str) else int(value)


def shown(ns: int) -> str:
    """As Go would print it."""
    if ns == 0:
        return "0s"
    if ns < 0:
        return "-" + shown(-ns)
    if ns < 10**9:
        for unit in ("ms", "µs", "ns"):
            if ns >= _NS[unit]:
                return _decimal(ns, _NS[unit]) + unit
    hours, rest = divmod(ns, _NS["h"])
    minutes, rest = divmod(rest, _NS["m"])
    text = f"{_decimal(rest, 10**9)}s"
    if hours or minutes:
        text = f"{minutes}m{text}"
    return f"{hours}h{text}" if hours else text


def _decimal(ns: int, unit: int) -> str:
    whole, part = divmod(ns, unit)
    if not part:
        return str(whole)
    digits = len(str(unit)) - 1
    return f"{whole}.{part:0{digits}d}".rstrip("0")


def _is_number(text: str) -> bool:
    return bool(re.fullmatch(r"-?[0-9.]+", text))
