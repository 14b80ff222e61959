"""How fast each instance seems to be: a peak EWMA of its response times that fades with time.

The estimate ``c`` of an instance, when a call finishes ``d`` after the one before it:

- has faded to ``c * exp(-d / TAU)``;
- gives way to the sample, if that is greater (the peak rule: bad news counts at once);
- or else has the sample averaged in, with the weight ``1 - exp(-d / TAU)``.

What an instance has not shown for a while fades, so one that was slow or failed is tried again
after about ``TAU * ln(its estimate / that of the others)``.

A failure is a sample of at least ``PENALTY_NS``: an instance that fails fast must not look fast.
The peak rule holds for a failure only if it follows another one.  A single one is averaged in:
where one call in a thousand fails at every instance, each single failure would otherwise put its
instance out of sight for half a minute, and who is left be decided by whose turn it was to fail.

An instance that enters the pool has no sample: it is taken to be as the median of the others, so
that it is neither flooded nor avoided, until its first sample replaces the guess.

Fading costs nothing when estimates are compared: as all fade by the same factor, it is enough to
compare ``cost = c * exp(t / TAU)`` with the ``t`` of their samples.  It is counted from an origin
that moves on before the exponential grows too large.  And it stands still while nothing is heard
of any instance: a night without calls makes nobody faster.

Source: the peak EWMA balancers of Finagle and linkerd (10 s; compared with the faded estimate, as
linkerd does) and linkerd's penalty for failures (5 s); Cormode, Shkapenyuk, Srivastava, Xu:
Forward Decay (ICDE 2009).  The rule for a single failure is ours.
"""

from collections.abc import Callable
from math import exp

from waypost.balance.endpoint import Endpoint

TAU_NS = 10_000_000_000
"""How fast the past is forgotten: half of it within 6.9 s."""
PENALTY_NS = 5_000_000_000
"""What a failure counts at least."""
ORIGIN_AGE_MAX_NS = 300 * TAU_NS
"""exp(300) is 1e130: far from the end of a float, whatever it is multiplied by."""
COST_MIN = 1e-300
"""Of an instance not heard of for hours, so that its open calls still count for something."""


class Latency:
    """The estimates of one pool.

    Invariant: the costs of its endpoints are in one unit, that of ``_origin_ns``.
    """

    __slots__ = ("_clock", "_endpoints", "_first_samples", "_heard_ns", "_now_ns", "_origin_ns")

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._endpoints: tuple[Endpoint, ...] = ()
        self._first_samples = 0
        """How many endpoints had their first sample since the set of them changed."""
        self._heard_ns = clock()
        self._now_ns = 0
        """The time by which estimates fade: what the clock counts, but ``TAU_NS`` of a silence."""
        self._origin_ns = 0

    def replace(self, endpoints: tuple[Endpoint, ...]) -> None:
        """Compare these from now on; what enters, or enters again, has to show itself anew.

        An instance that was out for its health would otherwise come back with an estimate that has
        faded to nothing, and with it attract every call that it is drawn for.
        """
        before = set(self._endpoints)
        for endpoint in endpoints:
            if endpoint not in before:
                endpoint.sampled_at_ns = None
        self._endpoints = endpoints
        self._first_samples = 0
        self._guess()

    def observe(self, endpoint: Endpoint, elapsed_ns: int, ok: bool) -> None:
        """Learn from a call that took so long, and succeeded or failed."""
        assert elapsed_ns >= 0, "a call cannot finish before it starts"
        now_ns = self._advance()
        unit = exp((now_ns - self._origin_ns) / TAU_NS)
        faded = endpoint.cost / unit
        sample = float(max(elapsed_ns, 1 if ok else PENALTY_NS))
        sampled_at_ns = endpoint.sampled_at_ns
        if sampled_at_ns is None or (sample > faded and (ok or endpoint.has_failed)):
            estimate = sample
        else:
            estimate = faded + sample * (1 - exp((sampled_at_ns - now_ns) / TAU_NS))
        endpoint.ewma_ns = estimate
        endpoint.cost = estimate * unit
        endpoint.has_failed = not ok
        endpoint.sampled_at_ns = now_ns
        if sampled_at_ns is None:
            self._first_samples += 1
            # At the first, second, fourth, eighth: n log n in all while a pool of n gets to know.
            if self._first_samples & (self._first_samples - 1) == 0:
                self._guess()

    def _advance(self) -> int:
        heard_ns = self._clock()
        self._now_ns += min(heard_ns - self._heard_ns, TAU_NS)
        self._heard_ns = heard_ns
        if self._now_ns - self._origin_ns > ORIGIN_AGE_MAX_NS:
            self._move_origin()
        return self._now_ns

    def _move_origin(self) -> None:
        shrink = exp((self._origin_ns - self._now_ns) / TAU_NS)
        for endpoint in self._endpoints:
            endpoint.cost = max(endpoint.cost * shrink, COST_MIN)
        self._origin_ns = self._now_ns

    def _guess(self) -> None:
        """Take those without a sample to be as the median of those with one."""
        known = sorted(e.cost for e in self._endpoints if e.sampled_at_ns is not None)
        median = known[(len(known) - 1) // 2] if known else 1.0
        for endpoint in self._endpoints:
            if endpoint.sampled_at_ns is None:
                endpoint.cost = median
