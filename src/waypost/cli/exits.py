"""What the exit code of a command says: a script can act on it without reading the words.

    0    done, or found
    1    no such service, or no such instance
    2    the service is known, and none of its instances may be used
    3    no answer: the registry cannot be reached, or cannot answer now, and nothing is cached
    4    the registry refused, and would refuse again
    5    not as wanted: not every consumer confirmed a drain; a claim of the demo did not hold; the
         doctor found something that must be mended
    64   the command line is wrong
    65   the data on disk cannot be read: it is damaged, or of a newer version
    70   the disk failed, or the registry broke a rule of its own: the process ended at once, and
         its restart recovers
    71   the address cannot be listened on
    130  interrupted from the keyboard
    141  whoever read the output has gone

From 64 on they are those of BSD's sysexits(3), so that a mistake on the command line (64) is never
taken for an answer (1 and 2).  ``waypost register -- CMD`` exits as CMD did.
"""

from typing import Final

from waypost.errors import (
    CorruptData,
    Invalid,
    NoInstance,
    StorageFailed,
    Unavailable,
    UnknownInstance,
    UnknownService,
    WaypostError,
)

OK: Final = 0
UNKNOWN: Final = 1
NONE_HEALTHY: Final = 2
NO_ANSWER: Final = 3
REFUSED: Final = 4
NOT_AS_WANTED: Final = 5
USAGE: Final = 64
DAMAGED: Final = 65
DISK_FAILED: Final = 70
BROKEN: Final = 70
CANNOT_LISTEN: Final = 71
INTERRUPTED: Final = 130
PIPE_CLOSED: Final = 141


def exit_code_of(error: WaypostError) -> int:
    """The exit code of a command that failed with this error."""
    match error:
        case UnknownService() | UnknownInstance():
            return UNKNOWN
        case NoInstance():
            return NONE_HEALTHY
        case Unavailable():
            return NO_ANSWER
        case Invalid():
            return USAGE
        case CorruptData():
            return DAMAGED
        case StorageFailed():
            return DISK_FAILED
        case _:
            return REFUSED
