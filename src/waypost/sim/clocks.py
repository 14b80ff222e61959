"""The clock of one machine: its own idea of time, which never runs backwards.

A clock is fast or slow by a fixed rate; it may jump forward, and it may stand still and go on where
it stood, as the monotonic clock of a suspended guest does.  Nothing in Waypost compares two clocks,
so their offsets should not matter; they are there to prove it.
"""

from waypost.consensus.core import FOREVER, Ns

_MILLION = 1_000_000


class Clock:
    """Local time as a function of the world's.

    Invariant: ``read`` never decreases; at ``when(local)`` it shows ``local`` or more.
    """

    __slots__ = ("_pieces", "_rate")

    def __init__(self, offset: Ns, drift_ppm: int) -> None:
        assert drift_ppm > -_MILLION, "a clock that runs backwards"
        self._rate = _MILLION + drift_ppm
        # From that moment of the world on: what it shows then, and how fast it runs.
        self._pieces: list[tuple[Ns, Ns, int]] = [(0, offset, self._rate)]

    def read(self, now: Ns) -> Ns:
        """Local time at the world's ``now``."""
        at, local, rate = self._pieces[-1]
        return local + (now - at) * rate // _MILLION

    def when(self, local: Ns) -> Ns:
        """The earliest moment of the world, not before the last fault, that shows ``local``."""
        return _when(self._pieces[-1], local)

    def showed(self, local: Ns) -> Ns:
        """The earliest moment of the world that ever showed ``local`` or more."""
        found = self.when(local)
        for piece, following in zip(self._pieces[-2::-1], self._pieces[:0:-1], strict=True):
            if local > following[1]:
                break
            found = min(_when(piece, local), following[0])
        return found

    def jump(self, now: Ns, by: Ns) -> None:
        """Move it forward."""
        assert by >= 0, "a monotonic clock never goes back"
        self._pieces.append((now, self.read(now) + by, self._pieces[-1][2]))

    def stop(self, now: Ns) -> None:
        """Let it stand still."""
        self._pieces.append((now, self.read(now), 0))

    def go(self, now: Ns) -> None:
        """Let it go on where it stood."""
        self._pieces.append((now, self.read(now), self._rate))


def _when(piece: tuple[Ns, Ns, int], local: Ns) -> Ns:
    at, shown, rate = piece
    ahead = local - shown
    if ahead <= 0:
        return at
    return FOREVER if rate == 0 or local >= FOREVER else at - (-ahead * _MILLION // rate)
