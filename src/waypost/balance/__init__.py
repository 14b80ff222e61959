"""Choosing one instance of a service for each call, and learning from how the call went.

Reading order: ``endpoint`` (one instance as this consumer sees it), ``policy`` (what every policy
must do), the four policies, ``latency`` (how fast each instance seems to be) and ``pool``, which
puts them together and is all that a client needs.

Pure: the clock and the source of chance are handed to the pool, so a simulation runs this code.
"""

from waypost.balance.endpoint import Endpoint
from waypost.balance.pool import DEFAULT_POLICY, POLICIES, Pool

__all__ = ["DEFAULT_POLICY", "POLICIES", "Endpoint", "Pool"]
