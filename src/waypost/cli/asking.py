"""How a command asks a registry, and how it says that it failed.

A failure is one line that names what was asked, the registry, and what to do next.
"""

import os
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from waypost.cli.exits import PIPE_CLOSED, exit_code_of
from waypost.errors import Invalid, Overloaded, WaypostError

if TYPE_CHECKING:
    from waypost.client.registry import Registry


def ask(server: str, what: str, as_json: bool, use: Callable[["Registry"], Awaitable[int]]) -> int:
    """Connect, do ``use``, and return its exit code, or that of the error that it raised.

    ``what`` completes the sentence "cannot ...".
    """
    import asyncio

    from waypost.client.connect import connect

    async def run() -> int:
        async with connect(server) as registry:
            return await use(registry)

    try:
        return asyncio.run(run())
    except WaypostError as error:
        return failed(error, what, server, as_json)
    except BrokenPipeError:
        # Whoever read the output has had enough; what is still to be flushed goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED


def failed(error: WaypostError, what: str, server: str, as_json: bool) -> int:
    """Say on stderr what failed; returns the exit code."""
    if as_json:
        import json

        told: dict[str, object] = {
            "code": error.code,
            "message": error.message,
            "retryable": error.retryable,
            "what": what,
            "server": server,
        }
        if isinstance(error, Invalid):
            told["field"] = error.field
        if isinstance(error, Overloaded):
            told["retry_after"] = error.retry_after
        print(json.dumps({"error": told}), file=sys.stderr)
    else:
        print(f"waypost: cannot {what} at {server}: {error.message}", file=sys.stderr)
    return exit_code_of(error)


def warn(message: str) -> None:
    """Say on stderr what somebody should know."""
    print(f"waypost: {message}", file=sys.stderr, flush=True)


def tell_warnings() -> None:
    """Let the client's log tell on stderr what somebody should look at."""
    import logging

    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("waypost: %(message)s"))
    logging.getLogger("waypost").addHandler(handler)


def tell_events() -> None:
    """From now on, tell too when the connection is lost and when it is back."""
    import logging

    logging.getLogger("waypost").setLevel(logging.INFO)
