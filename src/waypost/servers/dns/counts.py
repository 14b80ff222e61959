"""What the DNS door counts: its replies by code and by how they went, and what it did not answer.

A reply is counted as it leaves, by two bytes of its header, whoever made it: that is one increment
of one number, and what the numbers mean is worked out when somebody asks for them.  The code is
that of the header, so a BADVERS, whose upper bits stand in EDNS, counts as its lower bits do.
"""

from typing import Final

from waypost.node.metrics import Metric
from waypost.servers.dns.message import FORMERR, NOERROR, NOTIMP, NXDOMAIN, REFUSED, SERVFAIL

_NAMES: Final = {
    NOERROR: "NOERROR",
    FORMERR: "FORMERR",
    SERVFAIL: "SERVFAIL",
    NXDOMAIN: "NXDOMAIN",
    NOTIMP: "NOTIMP",
    REFUSED: "REFUSED",
}
"""Those that this door gives itself; others come from those that it asks."""
_CODES: Final = 16


class Replied:
    """The replies that went one way: by UDP, or by TCP."""

    __slots__ = ("_counted",)

    def __init__(self) -> None:
        self._counted = [0] * (2 * _CODES)
        """By code; those that were cut stand behind those that were whole."""

    def count(self, reply: bytes) -> None:
        """Count one, as it leaves."""
        self._counted[reply[3] & 0x0F | (reply[2] & 0x02) << 3] += 1

    @property
    def truncated(self) -> int:
        """How many were cut."""
        return sum(self._counted[_CODES:])

    def by_code(self) -> dict[str, int]:
        """How many had which code."""
        counted = self._counted
        sums = {code: counted[code] + counted[_CODES + code] for code in range(_CODES)}
        return {
            _NAMES.get(code, str(code)): count
            for code, count in sums.items()
            if count or code in _NAMES
        }


class Counts:
    """Of one door."""

    def __init__(self) -> None:
        self.by_udp = Replied()
        self.by_tcp = Replied()
        self.forwarded = 0
        self.ignored = 0

    def metrics(self) -> list[Metric]:
        """What is counted."""
        ways = {"udp": self.by_udp, "tcp": self.by_tcp}
        replies: list[tuple[dict[str, str], float]] = [
            ({"transport": way, "code": code}, float(count))
            for way, replied in ways.items()
            for code, count in replied.by_code().items()
        ]
        return [
            Metric("waypost_dns_replies_total", "counter", "DNS replies sent.", replies),
            _counter("truncated", "Those that did not fit, and said so.", self.by_udp.truncated),
            _counter("forwarded", "Queries put to other servers.", self.forwarded),
            _counter("ignored", "Messages that were no query, and got no reply.", self.ignored),
        ]


def _counter(name: str, help_: str, count: int) -> Metric:
    return Metric(f"waypost_dns_{name}_total", "counter", help_, [({}, float(count))])
