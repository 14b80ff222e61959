"""Doors: each translates a protocol into the verbs of ``waypost.node.registry``, and decides nothing."""
