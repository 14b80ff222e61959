"""The catalog: the one deterministic state machine, which every replica feeds the same log.

Reading order: ``state`` (what each command does), ``services`` and ``sessions`` (what it does it
to), ``eviction`` (how fast a service may lose instances), ``history`` (what a watch is told),
``queries`` (what a consumer asks), ``snapshots`` (the whole of it as bytes).  Beside services stand
keys: ``keyspace`` (what each command does to them), ``keys`` and ``holders`` (what it does it to).
``transacting`` does operations on all of these together, or none of them.

Always true: the same entries give the same state, the same outcomes and the same bytes, in every
process.  Nothing here reads a clock, draws a number, iterates a set or asks for a hash.
"""
