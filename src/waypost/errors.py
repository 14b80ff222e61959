"""Every error that Waypost raises, named by what the caller can do about it.

    WaypostError
    ├── Invalid            the request is wrong: names the field, the limit and the remedy
    ├── Rejected           the request is valid, and the catalog refuses it; retrying will not help
    │   ├── UnknownService     no instance of that service is registered
    │   ├── UnknownInstance    the service has no instance with that id
    │   ├── UnknownCheck       the instance, or the node, has no check with that id
    │   ├── UnknownNode        no node of that name is registered
    │   ├── UnknownSession     the session ended; open a new one and register again
    │   ├── UnknownHolder      the holder of keys ended; open a new one and acquire again
    │   ├── Superseded         a newer incarnation holds this id; the older one must stand down
    │   └── TooOld             a repeated write of which nothing is known any more
    ├── NoInstance         a pick found nothing that may be picked: says why
    ├── Unavailable        the registry could not answer now; retrying may help
    │   ├── Overloaded         it sheds load; retry after the time that it names
    │   ├── ReadOnly           its disk is full or failing: reads go on, writes are refused
    │   ├── TooStale           the asked-for bound on staleness could not be met
    │   └── TimedOut           outcome unknown: the change may still be applied
    ├── ProtocolViolation  the other side does not speak the protocol; the connection is closed
    ├── CorruptData        files on disk are damaged beyond what a single node may repair
    └── StorageFailed      the disk refused a write: the process must end, and its restart recovers

Each carries a machine-readable ``code`` (stable, kebab-case), and says whether the same request
may be sent again (``retryable``).  ``assert`` is for our own mistakes and stays on in production.
"""

from typing import ClassVar


class WaypostError(Exception):
    """The root of the tree; catch it to catch everything that Waypost raises."""

    code: ClassVar[str] = "error"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Invalid(WaypostError):
    """A request that cannot be understood, with the field, the limit and the remedy."""

    code = "invalid"

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class Rejected(WaypostError):
    """A valid request that the catalog refuses."""

    code = "rejected"


class UnknownService(Rejected):
    """No instance of that service is registered."""

    code = "unknown-service"


class UnknownInstance(Rejected):
    """The service has no instance with that id."""

    code = "unknown-instance"


class UnknownCheck(Rejected):
    """The instance, or the node, has no check with that id."""

    code = "unknown-check"


class UnknownNode(Rejected):
    """No node of that name is registered, and none has checks."""

    code = "unknown-node"


class UnknownSession(Rejected):
    """The session ended or never was: open a new one and register again."""

    code = "unknown-session"


class UnknownHolder(Rejected):
    """The holder of keys ended or never was: open a new one, and acquire again."""

    code = "unknown-holder"


class Superseded(Rejected):
    """A newer incarnation holds this id."""

    code = "superseded"


class TooOld(Rejected):
    """A repeated write whose outcome is no longer kept: ask for the state, do not repeat it."""

    code = "too-old"


class NoInstance(WaypostError):
    """Nothing may be picked: none registered, none healthy, or all drained."""

    code = "no-instance"


class Unavailable(WaypostError):
    """The registry could not answer now."""

    code = "unavailable"
    retryable = True


class Overloaded(Unavailable):
    """The registry sheds load; ``retry_after`` is in seconds."""

    code = "overloaded"

    def __init__(self, message: str, *, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ReadOnly(Unavailable):
    """Writes are refused, reads go on: the disk is full or failing."""

    code = "read-only"


class TooStale(Unavailable):
    """The answer at hand is older than the bound that the caller asked for."""

    code = "too-stale"


class TimedOut(Unavailable):
    """The outcome is unknown: the change may still be applied."""

    code = "timed-out"


class ProtocolViolation(WaypostError):
    """The other side broke the protocol; the connection is closed."""

    code = "protocol-violation"


class CorruptData(WaypostError):
    """What is on disk cannot be read: damaged, or newer than this; the message says how on."""

    code = "corrupt-data"


class StorageFailed(WaypostError):
    """The disk refused a write or a sync; what it holds now is known only after a restart."""

    code = "storage-failed"


ERRORS_BY_CODE: dict[str, type[WaypostError]] = {
    error.code: error
    for error in (
        Invalid,
        Rejected,
        UnknownService,
        UnknownInstance,
        UnknownCheck,
        UnknownNode,
        UnknownSession,
        UnknownHolder,
        Superseded,
        TooOld,
        NoInstance,
        Unavailable,
        Overloaded,
        ReadOnly,
        TooStale,
        TimedOut,
        ProtocolViolation,
    )
}
"""Those that travel: a code on the wire and the error that it stands for."""
