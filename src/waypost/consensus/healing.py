"""A member whose disk lost something: entries that rotted, or it cannot tell what.

*Faulty*: the entry was durable here and cannot be read.  It is fetched from any member that has it,
by the identity that its own header or the next entry's ``prev`` gives it (Alagappan et al.,
"Protocol-Aware Recovery for Consensus-Based Storage", FAST 2018).  Until then it is neither denied
nor acknowledged, and the member does not stand for election.

*Suspect*: acknowledged entries or promises may be missing, so the member is ``recovering`` and its
answers count for nothing.  It asks *every* other member for the highest ballot promised there: a
promise that was forgotten here was given to a candidate, and that candidate has promised its own
ballot.  Then it takes part in nothing lower; and when a leader of such a ballot has brought it
everything that it held when it was asked, and committed it, nothing is missing any more.
"""

from waypost.consensus.core import FOREVER
from waypost.consensus.entry import Ballot, Index, Nid, Ns, parse
from waypost.consensus.follower import Follower
from waypost.consensus.messages import Hello, HelloAck, Repair, Repaired
from waypost.consensus.site import Site

_REPAIRS_AT_ONCE = 64


class Healing:
    """What one member does about its disk."""

    __slots__ = ("_answers", "_nonce", "_site", "_target", "at")

    def __init__(self, site: Site) -> None:
        self._site = site
        self._nonce = int(site.draw() * (1 << 52))
        self._answers: dict[Nid, Ballot] = {}
        self._target: tuple[Ballot, Index] | None = None  # of a leader, to be reached in its ballot
        self.at: Ns = site.now if self._is_needed else FOREVER
        """When to ask next."""

    @property
    def _is_needed(self) -> bool:
        return self._site.journal.suspect or bool(self._site.log.faulty)

    @property
    def forgotten(self) -> Ballot | None:
        """The highest ballot that was promised anywhere, once everybody has told."""
        if len(self._answers) < len(self._site.others):
            return None
        return max(self._answers.values(), default=self._site.journal.promised)

    def tick(self) -> None:
        """Ask for what is missing."""
        site = self._site
        if not self._is_needed:
            self.at = FOREVER
        if site.now < self.at:
            return
        self.at = site.now + site.settings.election
        promised = site.journal.promised
        if site.journal.suspect:
            for nid in site.others:
                site.send(nid, Hello(promised, self._nonce))
        if site.log.faulty:
            # The last ones, as an entry without a header is known by the one after it; and the
            # first, from where a leader sends on.
            faulty = site.log.faulty
            indexes = (faulty[0], *faulty[1:][-_REPAIRS_AT_ONCE:])
            for nid in site.others:
                site.send(nid, Repair(promised, indexes))

    def on_hello_ack(self, src: Nid, message: HelloAck) -> None:
        """A member told what it has promised."""
        if message.nonce != self._nonce or not self._site.journal.suspect:
            return
        self._answers[src] = max(message.ballot, self._answers.get(src, message.ballot))
        if message.leads and (self._target is None or message.ballot > self._target[0]):
            self._target = (message.ballot, message.last)

    def has_caught_up(self, follower: Follower) -> bool:
        """Whether this disk holds all that it may ever have acknowledged."""
        site, target = self._site, self._target
        if target is None or self.forgotten is None or site.log.faulty or site.repaired_from:
            return False
        ballot, last = target
        return (
            follower.ballot == ballot
            and follower.is_synchronised
            and min(follower.match, site.commit) >= last
        )

    def on_repair(self, src: Nid, message: Repair) -> None:
        """Somebody lost entries: send those that are here."""
        site = self._site
        log = site.log
        frames: list[bytes] = []
        size = 0
        for index in message.indexes:
            if log.base < index <= log.last and index not in log.faulty:
                frame = log.at(index).frame
                size += len(frame)
                if frames and size > site.settings.append_bytes_max:
                    break
                frames.append(frame)
        if frames:
            site.send(src, Repaired(site.journal.promised, tuple(frames)))

    def on_repaired(self, message: Repaired) -> None:
        """Put back what is proved to be what was lost."""
        site = self._site
        is_healed = False
        for entry in reversed([parse(frame) for frame in message.frames]):
            if site.log.repair(entry):
                site.repaired(entry.index)
                is_healed = True
        if is_healed:
            site.write_repairs()
            self.at = site.now  # the next ones
