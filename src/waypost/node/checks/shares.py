"""Which node looks after a check: the living members share all checks, without a word.

Rendezvous hashing (Thaler and Ravishankar, "Using name-based mappings to increase hit rates",
1998): every node gives each check a score for each member, and the highest has it.  When a member
goes, only its checks move, evenly over the others; when it is back, only those come back.

Nodes may disagree about who lives for a moment; then a check is probed twice or by nobody for that
long, and neither does harm: what is proposed twice changes nothing the second time.
"""

from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Final

_MASK: Final = 2**64 - 1


def seed_of(*names: str) -> int:
    """A check's own number, the same at every node."""
    text = "\0".join(names).encode()
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "big")


@lru_cache(maxsize=1_024)
def _factor(member: str) -> int:
    return seed_of("member", member) | 1


def owner_of(seed: int, members: Sequence[str]) -> str:
    """The member that looks after it; empty if there is none."""
    # The high bits of the product depend on all bits of the seed (Dietzfelbinger et al., 1997).
    return max(members, key=lambda member: (seed * _factor(member) & _MASK, member), default="")
