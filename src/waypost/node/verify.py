"""Dial-back: can the registry reach what a provider advertises?

The commonest mistake of a new deployment is an address that only its own host can reach
(127.0.1.1 from /etc/hosts, a container's inner address).  Asking costs one connection; only
addresses that are registered are dialled, and only a bounded number at a time.
"""

import asyncio
import contextlib
import os
from typing import Final

from waypost.wire import Verified

DIAL_TIMEOUT_S: Final = 1.0
_DIALS_AT_ONCE_MAX: Final = 64


class Dialer:
    """Connects, and says what went wrong."""

    def __init__(self) -> None:
        self._slots = asyncio.Semaphore(_DIALS_AT_ONCE_MAX)

    async def dial(self, host: str, port: int, seen_as: str) -> Verified:
        """Try to connect to ``host:port``; ``seen_as`` is where the provider calls from."""
        hint = (
            f"; the provider calls from {seen_as}: did you mean that address?"
            if seen_as and seen_as != host
            else "; is it listening, and does no firewall stand between?"
        )
        try:
            async with self._slots, asyncio.timeout(DIAL_TIMEOUT_S):
                _, writer = await asyncio.open_connection(host, port)
        except TimeoutError:
            return Verified(False, f"{host}:{port} did not answer within 1 s{hint}", seen_as)
        except OSError as error:
            # Event loops word it in ways of their own; the number is the same.
            number = error.errno or 0
            why = os.strerror(number) if number > 0 else error.strerror or str(error)
            return Verified(False, f"{host}:{port}: {why.lower()}{hint}", seen_as)
        except UnicodeError as error:  # a label that IDNA does not take (RFC 5891, section 4.4)
            return Verified(False, f"{host}:{port} is not a host name: {error}{hint}", seen_as)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return Verified(True, "", seen_as)
