"""A node: asyncio lives from here up.

One task's worth of code owns the replica; what blocks (disk) is on threads of its own, and the
doors call the verbs of ``registry``.  Reading order: ``registry`` (the verbs), ``node`` (what
drives what), ``engine`` (the log), ``sessions`` (liveness), ``watches`` (fan-out).
"""
