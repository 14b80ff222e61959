"""Replies as bytes: fitted to what the client takes, kept until they are wrong, put in order anew.

A reply is kept under the query that asked for it, in lower case and without its id, so the usual
query costs one look-up, one comparison of revisions and one concatenation.  The name in the reply
is always the one that was sent, case and all.  A reply with several records is kept in several
orders, drawn by weight and replaced one by one, so that the first place goes around.

A datagram that cannot hold every record says so (TC), and holds as many as fit.  What is merely
additional is left out without a word (RFC 2181, section 9).

Invariant: what is sent is what would be answered now.  Of a service with more than ``MANY``
instances it may be what would have been answered ``PATIENCE_S`` an instance ago, because to make
such an answer after each change would be all that this node does.

Knows no socket.
"""

import bisect
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from waypost.servers.dns.answers import Answer, Item, Known, Zone
from waypost.servers.dns.message import (
    AA,
    AAAA,
    CD,
    HEADER,
    NOERROR,
    QR,
    QUESTION_AT,
    RA,
    RD,
    REFUSED,
    TC,
    A,
    Bad,
    Question,
    read_query,
    write_bad,
    write_name,
    write_opt,
)
from waypost.servers.dns.names import DOMAINS

KEPT_MAX: Final = 8_192
KEPT_BYTES_MAX: Final = 64 << 20
ORDERS: Final = 16
"""In how many orders a reply is kept."""
_DRAWN_EVERY: Final = 8
_DRAWN_EVERY_IF_DEAR: Final = 64
"""One of so many replies is put in a new order; powers of two."""
MANY: Final = 256
"""Of more instances than that, an answer takes long to make."""
PATIENCE_S: Final = 20e-6
"""For so long an instance of many, an answer that was right is good enough."""
TCP_BYTES_MAX: Final = 65_535
_TYPE_AND_CLASS: Final = 4
_OURS: Final = tuple(write_name((domain,)) for domain in DOMAINS)
_ALIAS_DATA_AT: Final = 12
"""Behind a compressed owner, type, class, TTL and length."""


class _Kept:
    """A reply that may be sent again."""

    __slots__ = (
        "answer", "cumulative", "end", "good_until_s", "is_cheap", "limit", "mask", "orders",
        "question", "rest", "revision", "revisions", "size", "turn",
    )  # fmt: skip

    def __init__(
        self, question: Question, answer: Answer, rest: bytes, limit: int, revision: int
    ) -> None:
        self.question = question
        self.answer = answer
        self.rest = rest
        """Of the query, from type and class on: equal but for case is not enough for these."""
        self.limit = limit
        self.revision = revision
        """It was right at this one."""
        self.revisions: tuple[int | None, ...] = ()
        self.good_until_s = 0.0
        """It need not be right before then."""
        self.end = question.end
        self.orders: list[tuple[bytes, bytes]] = []
        """What stands between id and question, and what stands behind the question."""
        self.turn = 0
        items = answer.items
        holds = limit // len(items[0].record) + 1 if items else 0
        self.cumulative: list[float] = []
        if len(items) > MANY and 2 * holds < len(items):
            self.cumulative = list(itertools.accumulate(item.weight for item in items))
        self.is_cheap = len(items) <= MANY or bool(self.cumulative)
        """Whether one more order is drawn fast."""
        self.mask = (_DRAWN_EVERY if self.is_cheap else _DRAWN_EVERY_IF_DEAR) - 1
        self.size = 512 if len(items) < 2 else ORDERS * min(limit, len(items) * 80)

    @property
    def wants_order(self) -> bool:
        """Whether it is time to draw one more."""
        if len(self.answer.items) < 2:
            return not self.orders
        return not self.turn & self.mask or (self.is_cheap and len(self.orders) < ORDERS)


class Alias(msgspec.Struct, frozen=True, gc=False):
    """A reply that names somebody else's host, whose address the client wants to be told too."""

    question: Question
    record: bytes

    @property
    def target(self) -> bytes:
        """The host's name, as it is written."""
        return self.record[_ALIAS_DATA_AT:]


class Replies:
    """The replies of one node."""

    def __init__(
        self,
        known: Known,
        zone: Zone,
        draw: Callable[[], float],
        now_s: Callable[[], float],
        *,
        forwards: bool = False,
    ) -> None:
        """``draw`` gives numbers from 0 up to but not including 1."""
        self._now_s = now_s
        self._known = known
        self._zone = zone
        self._service_revision = known.service_revision
        self._draw = draw
        self._recursion = RA if forwards else 0
        self._forwards = forwards
        self._kept: tuple[dict[bytes, _Kept], dict[bytes, _Kept]] = ({}, {})
        self._kept_bytes = 0

    def reply(self, data: bytes, over_tcp: bool = False) -> bytes | Question | Alias | None:
        """Reply to a query; None to say nothing, the question if it is for somebody else.

        An alias is yet to be followed, and then ``told``.
        """
        kept = self._kept[over_tcp].get(data[2:].lower())
        if kept is None or not (kept.revision == self._known.revision or self._holds(kept)):
            return self._reply_anew(data, over_tcp)
        if kept.answer.is_negative and not self._zone.may_deny:
            return self._reply_anew(data, over_tcp)
        if data[kept.end - _TYPE_AND_CLASS :] != kept.rest:
            return self._reply_anew(data, over_tcp)
        return self._next(data, kept)

    def refuse(self, data: bytes, question: Question, code: int = REFUSED) -> bytes:
        """The reply that answers nothing."""
        return self._render(data, question, Answer(code, is_ours=False))

    def _next(self, data: bytes, kept: _Kept) -> bytes:
        """Send what is kept, in its next order."""
        kept.turn += 1
        if kept.wants_order:
            self._draw_order(kept)
        orders = kept.orders
        head, tail = orders[kept.turn % len(orders)]
        return data[:2] + head + data[QUESTION_AT : kept.end] + tail

    def told(self, data: bytes, alias: Alias, records: Sequence[bytes], *, over_tcp: bool) -> bytes:
        """The reply with an alias, and what is known of its target."""
        items = tuple(map(Item, (alias.record, *records)))
        return self._render(data, alias.question, Answer(NOERROR, items), over_tcp=over_tcp)

    def _holds(self, kept: _Kept) -> bool:
        """Whether it is right at the present revision too, or good enough."""
        answer = kept.answer
        if answer.depends_on_all:
            return False
        if kept.revisions != tuple(map(self._service_revision, answer.services)):
            return self._now_s() < kept.good_until_s
        kept.revision = self._known.revision
        return True

    def _reply_anew(self, data: bytes, over_tcp: bool) -> bytes | Question | Alias | None:
        question = read_query(data)
        if question is None:
            return None
        if isinstance(question, Bad):
            return write_bad(data, question)
        answer = self._zone.answer(question)
        if answer is None:
            return question
        if not answer.is_ours:
            return self._render(data, question, answer)
        if answer.takes_one and self._forwards and question.kind in (A, AAAA):
            alias = Alias(question, put_in_order(answer.items, self._draw)[0].record)
            if question.wants_recursion and not alias.target.endswith(_OURS):
                return alias
        limit = TCP_BYTES_MAX if over_tcp else question.payload
        rest = data[question.end - _TYPE_AND_CLASS :]
        kept = _Kept(question, answer, rest, limit, self._known.revision)
        kept.revisions = tuple(map(self._service_revision, answer.services))
        if answer.considered > MANY:
            kept.good_until_s = self._now_s() + answer.considered * PATIENCE_S
        self._draw_order(kept)
        self._keep(data[2:].lower(), kept, over_tcp)
        return self._next(data, kept)

    def _keep(self, key: bytes, kept: _Kept, over_tcp: bool) -> None:
        before = self._kept[over_tcp].pop(key, None)
        if before is not None:
            self._kept_bytes -= before.size
        if sum(map(len, self._kept)) >= KEPT_MAX or self._kept_bytes + kept.size > KEPT_BYTES_MAX:
            for each in self._kept:
                each.clear()
            self._kept_bytes = 0
        self._kept[over_tcp][key] = kept
        self._kept_bytes += kept.size

    def _draw_order(self, kept: _Kept) -> None:
        """Put the reply in one more order, or in another one than the oldest."""
        items = drawn = kept.answer.items
        if kept.cumulative:
            count = kept.limit // len(items[0].record) + 1
            drawn = draw_first(items, kept.cumulative, count, self._draw)
        elif len(items) > 1:
            drawn = put_in_order(items, self._draw)
        made = self._fit(kept.question, kept.answer, drawn, kept.limit)
        if len(kept.orders) < ORDERS:
            kept.orders.append(made)
        else:
            kept.orders[kept.turn // (kept.mask + 1) % ORDERS] = made

    def _render(
        self, data: bytes, question: Question, answer: Answer, *, over_tcp: bool = False
    ) -> bytes:
        limit = TCP_BYTES_MAX if over_tcp else question.payload
        head, tail = self._fit(question, answer, answer.items, limit)
        return data[:2] + head + data[QUESTION_AT : question.end] + tail

    def _fit(
        self, question: Question, answer: Answer, items: Sequence[Item], limit: int
    ) -> tuple[bytes, bytes]:
        """Write as much of an answer as ``limit`` bytes hold."""
        opt = write_opt(0) if question.has_edns else b""
        room = limit - question.end - len(opt)
        if answer.takes_one:
            items = items[:1]
        records: list[bytes] = []
        for item in items:
            room -= len(item.record)
            if room < 0:
                break
            records.append(item.record)
        flags = QR | question.flags & (RD | CD) | self._recursion | answer.code
        if answer.is_ours:
            flags |= AA
        extras: dict[bytes, None] = {}
        if len(records) < (1 if answer.takes_one else len(answer.items)):
            flags |= TC
        else:
            for item in items:
                if item.extra and item.extra not in extras:
                    room -= len(item.extra)
                    if room < 0:
                        break
                    extras[item.extra] = None
        authority = answer.authority if len(answer.authority) <= room else b""
        counts = (1, len(records), bool(authority), len(extras) + bool(opt))
        head = HEADER.pack(0, flags, *counts)[2:]
        return head, b"".join([*records, authority, *extras, opt])


def put_in_order(items: Sequence[Item], draw: Callable[[], float]) -> tuple[Item, ...]:
    """Shuffle by weight: who comes first is drawn by the shares, then who comes second, and so on.

    Each draws a waiting time, shorter for the heavier: the order of those is that order (Efraimidis
    and Spirakis, "Weighted random sampling with a reservoir", 2006).
    """
    waiting = [(-math.log(1.0 - draw()) / item.weight, at) for at, item in enumerate(items)]
    waiting.sort()
    return tuple(items[at] for _, at in waiting)


def draw_first(
    items: Sequence[Item], cumulative: Sequence[float], count: int, draw: Callable[[], float]
) -> tuple[Item, ...]:
    """Draw those that come first of very many: as many as ``count``, or a few less.

    Whoever is drawn again is passed over, which makes it the same order as ``put_in_order``.
    """
    drawn: dict[int, None] = {}
    last = len(items) - 1
    for _ in range(2 * count):
        drawn[min(bisect.bisect(cumulative, draw() * cumulative[-1]), last)] = None
        if len(drawn) == count:
            break
    return tuple(items[at] for at in drawn)
