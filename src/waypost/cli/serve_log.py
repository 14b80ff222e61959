"""A registry's log: one line per event, on stderr.

A registry never waits for whoever reads its log: a line that a full pipe cannot take is dropped,
and the next one that it can take says how many were.
"""

import logging
import os
import select
import time
from contextlib import suppress
from typing import Final

_LEVELS: Final = (logging.ERROR, logging.WARNING, logging.INFO, logging.DEBUG)
_USUAL: Final = 2
_STDERR: Final = 2
_LINE_BYTES_MAX: Final = 4000
"""Less than PIPE_BUF: so much a pipe that is ready for writing takes without blocking."""


class OneLine(logging.Formatter):
    """Time in UTC, level, logger, message; what spans lines is joined, so that grep finds all."""

    converter = staticmethod(time.gmtime)

    def __init__(self) -> None:
        super().__init__("%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s: %(message)s")
        self.datefmt = "%Y-%m-%dT%H:%M:%S"

    def format(self, record: logging.LogRecord) -> str:
        """Make the line."""
        return super().format(record).replace("\n", " | ")


class Unhindered(logging.Handler):
    """Writes to stderr if that can be done at once."""

    def __init__(self) -> None:
        super().__init__()
        self._dropped = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, or count it as dropped."""
        line = self.format(record)
        if self._dropped:
            line = f"{line} | {self._dropped} lines before this one were dropped"
        self._dropped = 0 if write_now(line) else self._dropped + 1


def write_now(line: str) -> bool:
    """Write a line to stderr; returns False if it would have to wait, or nobody is there."""
    data = line.encode(errors="replace")[:_LINE_BYTES_MAX] + b"\n"
    with suppress(OSError):
        if select.select([], [_STDERR], [], 0)[1]:
            os.write(_STDERR, data)
            return True
    return False


def log_to_stderr(louder: int) -> None:
    """Log events of the usual level and above; ``louder`` shifts the level, in either direction."""
    handler = Unhindered()
    handler.setFormatter(OneLine())
    logging.getLogger().addHandler(handler)
    level = _LEVELS[max(0, min(len(_LEVELS) - 1, _USUAL + louder))]
    logging.getLogger("waypost").setLevel(level)
