"""A registry for a test: in memory, on a thread of its own, on a clock that the test moves.

``waypost.testing.plugin`` gives it to pytest as the fixture ``waypost_registry``; ``registry`` to
everything else, for blocking code and for asyncio.  See docs/testing.md.

Imported by every run of pytest wherever Waypost is installed, so nothing is imported here.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from waypost.testing.temporary import Opening

__all__ = ["registry"]


def registry() -> "Opening":
    """Start a registry: ``with`` gives a ``TemporaryRegistry``, ``async with`` one to await."""
    from waypost.testing.temporary import Opening

    return Opening()
