"""What a leader knows of one peer's log, and what is on its way there.

Three states (after etcd-io/raft ``tracker``): *probing*, one append at a time until the logs are
known to meet; *streaming*, appends leave before earlier ones are acknowledged, as many as the
window has bytes; *snapshot*, while a snapshot makes its way outside of the core.

Always true: ``match < next``; ``match`` only grows, but for a peer that lost its disk and says so;
what is on its way was not yet taken into the peer's log.
"""

from collections import deque

from waypost.consensus.entry import Index, Nid, Ns


class Progress:
    """One peer, in one leadership."""

    __slots__ = (
        "acked_round",
        "echo",
        "heard",
        "is_due",
        "is_paused",
        "is_probing",
        "match",
        "next",
        "nid",
        "resume",
        "sent_commit",
        "snapshot",
        "window",
        "window_bytes",
    )

    def __init__(self, nid: Nid, next_: Index, now: Ns) -> None:
        self.nid = nid
        self.match: Index = 0
        """Durable there, and equal to this log, up to here."""
        self.next: Index = next_
        """The first entry to send."""
        self.is_probing = True
        self.is_paused = False
        """A probe is on its way: the next heartbeat is the next one."""
        self.is_due = True
        """Something must be sent, be it empty."""
        self.snapshot: Index = 0
        """Of the snapshot on its way; 0 without one."""
        self.resume: Ns = 0
        """When to probe again if nothing is heard of the snapshot."""
        self.window: deque[tuple[Index, int]] = deque()  # on their way: last entry, bytes
        self.window_bytes = 0
        self.sent_commit: Index = 0
        self.acked_round = 0
        self.heard: Ns = now
        """When the last ack of this ballot came."""
        self.echo: Ns = 0
        """Its newest ``Ack.sent``."""

    def probe(self, next_: Index) -> None:
        """Ask where the logs meet, from ``next_`` backwards."""
        self.next = max(next_, self.match + 1)
        self.is_probing = True
        self.is_paused = False
        self.snapshot = 0
        self._empty_window()

    def await_snapshot(self, index: Index) -> None:
        """Send no entries until the snapshot is there."""
        self.snapshot = index
        self.resume = 0
        self._empty_window()

    def _empty_window(self) -> None:
        self.window.clear()
        self.window_bytes = 0

    def sent(self, last: Index, size: int) -> None:
        """Entries up to ``last`` are on their way."""
        self.next = last + 1
        self.window.append((last, size))
        self.window_bytes += size

    def matched(self, match: Index, held: Index) -> None:
        """The peer holds the log up to ``held``, and up to ``match`` durably."""
        self.match = max(self.match, match)
        window = self.window
        while window and window[0][0] <= held:
            self.window_bytes -= window.popleft()[1]
        if self.is_probing:
            self.is_probing = self.is_paused = False
            self.next = max(match, held) + 1
        elif match >= self.next:
            self.next = match + 1

    def forget(self) -> None:
        """The peer may have lost what it acknowledged."""
        self.match = 0
        self.acked_round = 0
        self.probe(self.next)
