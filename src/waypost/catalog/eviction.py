"""How fast a service may lose instances whose leases ran out.

When one instance misses its lease, it is dead.  When half of a big service does so at once, the
likelier cause is between them and us, and to remove them would turn our trouble into everybody's.
Eureka meets this with self-preservation: above a threshold it stops evicting altogether, for as
long as the trouble lasts, and keeps truly dead instances for hours (Netflix/eureka#1247, #1267).
Envoy's panic threshold meets it at the other end: a consumer that sees too few healthy hosts
ignores health.

Here the *rate* is bounded, per service, by a token bucket.  A full bucket holds 30 % of the most
instances that the service has had since the bucket was last full, and five at least, so that a
small service is never held back; an empty one is full after 30 seconds of cluster time.  What
exceeds it stays as suspect, resolved when nothing better is left, and goes by and by: there is no
threshold to be stuck at, and what is truly dead is gone within two minutes, all of a service too.

Integers only, because every replica must come to the same answer.  Knows no clock: time is the
stamp of the entry that is being applied.
"""

import msgspec

EVICTIONS_MIN = 5
"""A full bucket holds at least this many evictions."""
EVICTIONS_PERCENT = 30
"""A full bucket holds this share of a service's instances."""
WINDOW_MS = 30_000
"""An empty bucket is full again after this much cluster time."""


class Bucket(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What one service may still lose; a service that has no bucket has a full one.

    Invariant: ``0 <= level < capacity * WINDOW_MS``.  An eviction costs ``WINDOW_MS``, and each
    millisecond brings ``capacity``.
    """

    capacity: int
    level: int
    at_ms: int


def draw(
    bucket: Bucket | None, instances: int, wanted: int, now_ms: int
) -> tuple[int, Bucket | None]:
    """Tell how many of the ``wanted`` evictions may happen now, and what is left in the bucket.

    ``instances`` counts those of the service, the wanted ones included.
    """
    assert 0 <= wanted <= instances
    capacity = max(EVICTIONS_MIN, -(-instances * EVICTIONS_PERCENT // 100))
    level = capacity * WINDOW_MS
    if bucket is not None:
        assert now_ms >= bucket.at_ms
        # A service that shrinks keeps its rate, or what is left of it would go ever more slowly.
        draining = max(capacity, bucket.capacity)
        refilled = bucket.level + draining * (now_ms - bucket.at_ms)
        if refilled < draining * WINDOW_MS:
            capacity, level = draining, refilled
    granted = min(wanted, level // WINDOW_MS)
    if granted == 0:
        return 0, bucket
    return granted, Bucket(capacity, level - granted * WINDOW_MS, now_ms)
