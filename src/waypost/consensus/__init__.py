"""Agreement on one log: which entry stands at which index, for good.

Read ``core`` first (the contract), then ``entry`` (what the log is made of), then ``solo`` (the
smallest core that keeps the contract).  Then ``messages``, and ``raft`` or ``paxos`` beside their
papers; what they share, from the disk up: ``log``, ``journal`` (the writes, and the gate),
``progress``, ``reads``, ``follower``, ``leader``, ``roles`` (who leads), ``replicated`` (the
surface), and ``healing`` for disks that lost something.  The payload of an entry is opaque here.
"""

from waypost.consensus.core import (
    FOREVER,
    KIND_BATCH,
    KIND_NOOP,
    KIND_SEAL,
    NO_BALLOT,
    NO_SNAP,
    Ballot,
    Boot,
    Core,
    Done,
    Entry,
    Hard,
    Index,
    Message,
    Nid,
    Ns,
    Ready,
    Seq,
    Snap,
    Status,
    Token,
    Write,
)

__all__ = [
    "FOREVER",
    "KIND_BATCH",
    "KIND_NOOP",
    "KIND_SEAL",
    "NO_BALLOT",
    "NO_SNAP",
    "Ballot",
    "Boot",
    "Core",
    "Done",
    "Entry",
    "Hard",
    "Index",
    "Message",
    "Nid",
    "Ns",
    "Ready",
    "Seq",
    "Snap",
    "Status",
    "Token",
    "Write",
]
