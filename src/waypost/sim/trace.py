"""What happened in a run: a hash of all of it, and as much of it in words as somebody will read.

The hash is over every delivery, start, end and answer with its time, so that two runs with the same
hash were the same run.
"""

from hashlib import blake2b

import msgspec

from waypost.consensus.core import Ns

_encoder = msgspec.msgpack.Encoder()


class Line(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One thing that happened."""

    at: Ns
    what: str
    is_detail: bool
    """One of the many messages; left out of a story."""


class Trace:
    """See the module."""

    def __init__(self, *, details: bool) -> None:
        self.lines: list[Line] = []
        self.steps = 0
        self._details = details
        self._hash = blake2b(digest_size=8)

    def step(self, at: Ns, where: int, what: object) -> None:
        """Something happened at a machine or a client."""
        self.steps += 1
        self._hash.update(_encoder.encode((at, where, what)))
        if self._details:
            self.lines.append(Line(at, f"  {where} <- {what}", True))

    def tell(self, at: Ns, what: str) -> None:
        """Something worth telling happened."""
        self._hash.update(what.encode())
        self.lines.append(Line(at, what, False))

    @property
    def digest(self) -> str:
        """The hash so far."""
        return self._hash.hexdigest()


def text(lines: list[Line]) -> str:
    """The lines, for people."""
    return "\n".join(f"{line.at / 1e6:10.3f} ms  {line.what}" for line in lines)
