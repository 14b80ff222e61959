"""Doors: each translates a protocol into the verbs of ``node.registry``, and decides nothing."""
