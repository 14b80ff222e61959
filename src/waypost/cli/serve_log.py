"""A registry's log: one line per event, on stderr."""

import logging
import time
from typing import Final

_LEVELS: Final = (logging.ERROR, logging.WARNING, logging.INFO, logging.DEBUG)
_USUAL: Final = 2


class OneLine(logging.Formatter):
    """Time in UTC, level, logger, message; what spans lines is joined, so that grep finds all."""

    converter = staticmethod(time.gmtime)

    def __init__(self) -> None:
        super().__init__("%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s: %(message)s")
        self.datefmt = "%Y-%m-%dT%H:%M:%S"

    def format(self, record: logging.LogRecord) -> str:
        """Make the line."""
        return super().format(record).replace("\n", " | ")


def log_to_stderr(louder: int) -> None:
    """Log events of the usual level and above; ``louder`` shifts the level, in either direction."""
    handler = logging.StreamHandler()
    handler.setFormatter(OneLine())
    logging.getLogger().addHandler(handler)
    level = _LEVELS[max(0, min(len(_LEVELS) - 1, _USUAL + louder))]
    logging.getLogger("waypost").setLevel(level)
