"""What a majority is, and how far it has come."""

from collections.abc import Iterable


def majority(members: int) -> int:
    """The smallest number of members of which any two groups have one in common."""
    return members // 2 + 1


def reached(values: Iterable[int], quorum: int) -> int:
    """The highest value that ``quorum`` of ``values`` have reached or passed."""
    return sorted(values, reverse=True)[quorum - 1]
