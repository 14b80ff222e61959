"""Bytes on disk: the write-ahead log and the snapshots of one node.

Everything here blocks and belongs on a thread of its own.  ``disk`` is the few verbs that the rest
needs, ``simdisk`` the same verbs with a power switch, ``records`` the byte layout, ``recovery``
what to believe of it after a crash, ``wal`` the log, ``snapshots`` the files that make the log
short.  The layout is told for readers in other languages in ``docs/wal-format.md``.
"""
