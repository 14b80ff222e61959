"""How long a replicated core waits, and how much it keeps: the numbers that a deployment may turn.

Always true: ``heartbeat`` is at most a third of ``election``, so that a lost heartbeat or two elect
nobody.
"""

import msgspec

from waypost.consensus.entry import Ns

_MS: Ns = 1_000_000


class Settings(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The same at every member of an epoch."""

    election: Ns = 150 * _MS
    """T: who heard no leader for a time drawn from T to 2 T stands for election."""
    heartbeat: Ns = 30 * _MS
    leases: bool = False
    """Whether a leader may serve reads by its clock; needs clocks that drift less than 5 %."""
    append_bytes_max: int = 256 << 10
    """Of the entries in one message, unless a single entry is larger."""
    window_bytes: int = 4 << 20
    """On their way to one peer and not acknowledged as durable."""
    uncommitted_bytes_max: int = 16 << 20
    """Of payloads that this leader proposed; beyond it proposals are refused."""
    suffix_bytes_max: int = 16 << 20
    """Paxos: a voter with more than this to send lets the candidate wait for another leader."""
    trailing_entries: int = 10_000
    """Kept in memory behind a snapshot, so that a slow follower needs none."""
    trailing_bytes: int = 64 << 20
    reads_max: int = 10_000
    """Tokens of reads that wait for their index; beyond it reads fail."""

    def __post_init__(self) -> None:
        assert 0 < 3 * self.heartbeat <= self.election, "a heartbeat is at most a third of T"


LAN = Settings()
CLOUD = Settings(election=300 * _MS, heartbeat=60 * _MS)
