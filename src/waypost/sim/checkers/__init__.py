"""Checkers of what clients saw: pure functions from a history to a verdict.

``history`` says what a history is, ``models`` what a registry may answer.  ``witness`` checks
hundreds of thousands of operations by the log indexes that came with the answers; ``wgl`` trusts
no index and is the referee; ``sessions`` and ``watches`` check what is promised to one client.
``minimise`` makes a failing history small, and ``timeline`` draws it.
"""
