"""Pure: a catalog and who is waiting for what becomes of the commands that it is given.

Knows the order of the log and nothing of how the order came about: any engine may feed it.
"""
