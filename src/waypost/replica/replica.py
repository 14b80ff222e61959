"""A catalog, and who is waiting: the path of a write from its door to its answer.

A write is offered to the open batch as bytes, encoded once, beside what they decode to.
What is offered while an earlier batch is on its way piles up and leaves as one log entry.  When the
entry comes back committed, its own node applies what it decoded already; the others decode the
same bytes.  Answers find their way by position, not by a future per command.

Always true: every offered ticket gets exactly one ``answered`` or ``failed``; entries are applied
in the order of their indexes, each once; nothing follows a transaction in its entry.
"""

from collections.abc import Iterator, Sequence
from itertools import accumulate, islice
from typing import Final, Protocol

from waypost.catalog.state import Applied, Catalog
from waypost.commands import (
    Command,
    LogBatch,
    Origin,
    Outcome,
    Transact,
    decode_batch,
    encode_batch,
)
from waypost.errors import WaypostError
from waypost.model import Revision

BATCH_BYTES_MAX: Final = 1 << 20
"""Of one entry, unless a single write is larger: what piled up beyond it leaves with the next."""


class Owner(Protocol):
    """Who offered a write, and hears what became of it."""

    def answered(self, ticket: int, revision: int, outcomes: list[Outcome]) -> None:
        """The write was committed at ``revision``; one outcome for each of its commands.

        Of a repeated write it is the revision, and are the outcomes, of the first time.
        """
        ...

    def failed(self, ticket: int, error: WaypostError) -> None:
        """The write was refused whole (``Unavailable``), or its fate is unknown (``TimedOut``)."""
        ...


Item = tuple[bytes, list[Command], Owner, int, Origin | None]
"""One offered write: its part, what that decodes to, who hears of it, under which ticket, and from
where it comes."""


class Proposal:
    """One batch, open or on its way: parallel lists, one item per offered write."""

    __slots__ = ("commands", "origins", "owners", "parts", "tickets")

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.commands: list[list[Command]] = []
        self.owners: list[Owner] = []
        self.tickets: list[int] = []
        self.origins: list[Origin | None] = []

    def items(self) -> Iterator[Item]:
        """Each write that was offered."""
        return zip(self.parts, self.commands, self.owners, self.tickets, self.origins, strict=True)

    def join(self, then: "Proposal") -> None:
        """Put those of another batch behind these."""
        for name in self.__slots__:
            getattr(self, name).extend(getattr(then, name))

    def cut(self, size_max: int, count_max: int | None = None) -> "Proposal":
        """Keep the first writes, as many as ``size_max`` bytes take and at least one; the rest."""
        rest = Proposal()
        sizes = accumulate(map(len, islice(self.parts, count_max)))
        count = max(1, sum(size <= size_max for size in sizes))
        if count >= len(self.parts):
            return rest
        for name in self.__slots__:
            items: list[object] = getattr(self, name)
            setattr(rest, name, items[count:])
            del items[count:]
        return rest

    def add(self, item: Item) -> None:
        """Put one in."""
        self.parts.append(item[0])
        self.commands.append(item[1])
        self.owners.append(item[2])
        self.tickets.append(item[3])
        self.origins.append(item[4])

    @property
    def size(self) -> tuple[int, int]:
        """Commands and bytes."""
        return sum(map(len, self.commands)), sum(map(len, self.parts))

    def answered(self, revisions: Sequence[Revision], outcomes: Sequence[list[Outcome]]) -> None:
        """Tell the owner of each write what became of it."""
        for owner, ticket, revision, came in zip(
            self.owners, self.tickets, revisions, outcomes, strict=True
        ):
            owner.answered(ticket, revision, came)

    def failed(self, error: WaypostError) -> None:
        """Tell the owner of each write that all of it failed."""
        for owner, ticket in zip(self.owners, self.tickets, strict=True):
            owner.failed(ticket, error)


class Replica:
    """The catalog and the writes that wait for it."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self.waiting_commands = 0
        """Commands offered and not yet answered: what admission bounds."""
        self.waiting_bytes = 0
        self._open = Proposal()
        self._sealed: dict[int, tuple[Proposal, LogBatch]] = {}
        self._last_token = 0

    @property
    def has_open_batch(self) -> bool:
        """Whether there is anything to seal."""
        return bool(self._open.parts)

    def offer(
        self,
        part: bytes,
        commands: list[Command],
        owner: Owner,
        ticket: int,
        origin: Origin | None = None,
    ) -> None:
        """Put a write into the open batch: ``part`` decodes to ``commands``.

        With an origin it has an effect once, however often it is offered, here and elsewhere.
        """
        batch = self._open
        batch.parts.append(part)
        batch.commands.append(commands)
        batch.owners.append(owner)
        batch.tickets.append(ticket)
        batch.origins.append(origin)
        self.waiting_commands += len(commands)
        self.waiting_bytes += len(part)

    def seal(self, stamp_ms: int) -> tuple[int, bytes]:
        """Close the open batch: its token, and the payload of the log entry that it asks for.

        Of a very large one a part stays open; so does what follows a transaction.
        """
        batch = self._open
        assert batch.parts, "nothing to seal"
        self._open = batch.cut(BATCH_BYTES_MAX, _up_to_a_transaction(batch.commands))
        self._last_token += 1
        origins = batch.origins if any(batch.origins) else []
        self._sealed[self._last_token] = (batch, LogBatch(stamp_ms, batch.commands, origins))
        return self._last_token, encode_batch(stamp_ms, batch.parts, origins)

    def committed(self, index: int, payload: bytes | memoryview, token: int) -> Applied:
        """Apply the entry at ``index``, and answer those who wait if it is one of ours.

        ``token`` is 0 for an entry that came from elsewhere, or from before a restart.
        """
        if token == 0:
            return self.catalog.apply(index, decode_batch(payload))
        proposal, batch = self._sealed.pop(token)
        applied = self.catalog.apply(index, batch)
        self._settle(proposal)
        revisions = [index] * len(proposal.parts)
        for number, revision in applied.repeated.items():
            revisions[number] = revision
        proposal.answered(revisions, applied.outcomes)
        return applied

    def take_back(self, token: int) -> Proposal:
        """Give back the batch ``token``, which is certainly not in the log: nobody is told."""
        proposal, _ = self._sealed.pop(token)
        self._settle(proposal)
        return proposal

    def take_open(self) -> Proposal:
        """Give back what waits and was not sealed yet."""
        proposal, self._open = self._open, Proposal()
        self._settle(proposal)
        return proposal

    def refused(self, token: int, error: WaypostError) -> None:
        """Tell those who wait for the batch ``token`` that it failed."""
        proposal, _ = self._sealed.pop(token)
        self._fail(proposal, error)

    def refuse_all(self, error: WaypostError) -> None:
        """Fail everything that waits, open and sealed: the node is going."""
        waiting: Sequence[Proposal] = [p for p, _ in self._sealed.values()] + [self._open]
        self._sealed.clear()
        self._open = Proposal()
        for proposal in waiting:
            self._fail(proposal, error)

    def _fail(self, proposal: Proposal, error: WaypostError) -> None:
        self._settle(proposal)
        proposal.failed(error)

    def _settle(self, proposal: Proposal) -> None:
        commands, size = proposal.size
        self.waiting_commands -= commands
        self.waiting_bytes -= size
        assert self.waiting_commands >= 0
        assert self.waiting_bytes >= 0


def _up_to_a_transaction(parts: list[list[Command]]) -> int | None:
    """How many parts there are up to the first transaction; None if there is none.

    It tells revisions of what it set, to be compared with later.  A revision is that of an entry:
    were the same set once more in that entry, the comparison would hold for another value.
    """
    kinds = [type(part[0]) if part else None for part in parts]
    return kinds.index(Transact) + 1 if Transact in kinds else None
