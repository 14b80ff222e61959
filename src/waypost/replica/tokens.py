"""Every token that a driver, or another node, waits for: each gets exactly one answer.

A core answers the tokens that it was given; what it can answer no more because its epoch is over
is answered here, or taken along into the next epoch.  Batches that come while a Seal is on its way
are held: they are neither in this epoch's log nor refused.
"""

from waypost.consensus.core import Core, Done, Index, Nid, Ns, Token
from waypost.replica.outbox import Outbox
from waypost.replica.peer_messages import IndexAt

HELD_BYTES_MAX = 16 << 20
OPEN: Token = -1
"""Of an epoch's first entry, which is empty: its commit is the release of everything before."""
_FOREIGN: Token = 1 << 62
"""From here on: reads for other nodes, which have no core."""


class Tokens:
    """See the module."""

    def __init__(self, me: Nid, lineage: int, outbox: Outbox) -> None:
        self._me = me
        self._lineage = lineage
        self._outbox = outbox
        self._proposed: dict[Token, None] = {}
        self._reading: dict[Token, None] = {}
        self._confirmed: list[tuple[Token, Index]] = []  # at indexes that are not handed out yet
        self._foreign: dict[Token, tuple[Nid, int]] = {}
        self._last_foreign = _FOREIGN
        self._seal: Token | None = None
        self._held: list[tuple[bytes, Token]] = []
        self._held_bytes = 0

    @property
    def is_sealing(self) -> bool:
        """Whether a Seal of ours is on its way."""
        return self._seal is not None

    @property
    def has_confirmed(self) -> bool:
        """Whether reads wait for their index to be handed out."""
        return bool(self._confirmed)

    def append(self, core: Core | None, now: Ns, payload: bytes, token: Token, hint: Nid) -> None:
        """Propose a batch, hold it, or refuse it."""
        if core is None:
            self._outbox.done.append(Done(token, "refused", 0, hint))
        elif self._seal is None:
            self._proposed[token] = None
            core.propose(now, payload, token)
        elif self._held_bytes + len(payload) > HELD_BYTES_MAX:
            self._outbox.done.append(Done(token, "refused", 0, self._me))
        else:
            self._held.append((payload, token))
            self._held_bytes += len(payload)

    def seal(self, core: Core, now: Ns, payload: bytes, token: Token) -> None:
        """Propose the Seal; from here on batches are held."""
        self._seal = token
        self._proposed[token] = None
        core.seal(now, payload, token)

    def read(self, core: Core, now: Ns, token: Token) -> None:
        """Let the core confirm a read."""
        self._reading[token] = None
        core.read(now, token)

    def read_for(self, core: Core | None, now: Ns, nid: Nid, number: int) -> None:
        """Let the core confirm a read of a node that has none."""
        if core is None or core.status.role != "leader":
            self._outbox.say(nid, IndexAt(self._lineage, number, 0))
            return
        self._last_foreign = token = self._last_foreign + 1
        self._foreign[token] = (nid, number)
        self.read(core, now, token)

    # Answers

    def answered(self, core: Core, now: Ns, done: tuple[Done, ...]) -> tuple[Done, ...]:
        """The answers that are the driver's to hear."""
        if len(done) == 1 and done[0].token != OPEN and self._seal is None:
            del self._proposed[done[0].token]
            return done
        ours: list[Done] = []
        is_lost = False
        for each in done:
            if each.token != OPEN:
                del self._proposed[each.token]
                is_lost = is_lost or (each.token == self._seal and each.what != "committed")
                ours.append(each)
        if is_lost:
            self._go_on(core, now, 0)
        return tuple(ours)

    def confirmed(self, reads: tuple[tuple[Token, Index], ...]) -> None:
        """A core confirmed reads."""
        for token, index in reads:
            del self._reading[token]
            if token in self._foreign:
                nid, number = self._foreign.pop(token)
                self._outbox.say(nid, IndexAt(self._lineage, number, index))
            else:
                self._confirmed.append((token, index))

    def confirmed_elsewhere(self, token: Token, index: Index) -> None:
        """The leader confirmed a read of ours."""
        self._confirmed.append((token, index))

    def failed(self, reads: tuple[Token, ...]) -> tuple[Token, ...]:
        """A core gave reads up: those that are the driver's to hear."""
        ours: list[Token] = []
        for token in reads:
            del self._reading[token]
            if token in self._foreign:
                nid, number = self._foreign.pop(token)
                self._outbox.say(nid, IndexAt(self._lineage, number, 0))
            else:
                ours.append(token)
        return tuple(ours)

    def take_reads(self, handed: Index) -> tuple[tuple[Token, Index], ...]:
        """The reads whose index has been handed out."""
        if not self._confirmed:
            return ()
        reads = tuple([read for read in self._confirmed if read[1] <= handed])
        if reads:
            self._confirmed = [read for read in self._confirmed if read[1] > handed]
        return reads

    # The border of an epoch

    def cross(self, core: Core | None, now: Ns, hint: Nid) -> None:
        """An epoch is over, and the next one has this core, or none yet."""
        self._outbox.done += [Done(token, "unknown") for token in self._proposed]
        self._proposed.clear()
        if core is None:
            self._outbox.reads_failed += self.failed(tuple(self._reading))
        else:
            for token in self._reading:
                core.read(now, token)
        self._go_on(core, now, hint)

    def _go_on(self, core: Core | None, now: Ns, hint: Nid) -> None:
        """No Seal is on its way any more: what waited for it goes where it would have gone."""
        held, self._held = self._held, []
        self._held_bytes = 0
        self._seal = None
        for payload, token in held:
            self.append(core, now, payload, token, hint)
