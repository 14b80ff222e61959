"""One election, as the candidate sees it: who promised what, each voter once.

Always true: only answers to this very ballot are kept, one for each voter, so neither a duplicate
nor an answer to an earlier attempt is ever counted.
"""

from waypost.consensus.entry import Ballot, Index, Nid
from waypost.consensus.messages import Promise


class Campaign:
    """An attempt to lead ``ballot``; ``is_pre``: only asking whether it would succeed."""

    __slots__ = ("ballot", "commit", "is_pre", "promises")

    def __init__(self, ballot: Ballot, commit: Index, *, is_pre: bool) -> None:
        self.ballot = ballot
        self.commit = commit
        """Of the candidate when it asked: suffixes begin after it."""
        self.is_pre = is_pre
        self.promises: dict[Nid, Promise] = {}

    def take(self, src: Nid, promise: Promise) -> bool:
        """Keep a promise; False if it belongs to another attempt or refuses."""
        if promise.ballot != self.ballot or promise.pre != self.is_pre or not promise.ok:
            return False
        self.promises.setdefault(src, promise)
        return True
