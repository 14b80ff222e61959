"""The pytest plugin: a registry of its own for each test that asks for one.

Loaded by every run of pytest wherever Waypost is installed: what is heavy is imported by the
fixture, and nothing else is done to a run.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from waypost.testing.temporary import TemporaryRegistry


@pytest.fixture
def waypost_registry(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> "Iterator[TemporaryRegistry]":
    """A registry for this test alone, at ``$WAYPOST``, on a clock that the test moves.

    What clients keep for a later start goes to a temporary directory instead of ``~/.cache``.
    """
    from waypost.testing import registry

    with registry() as temporary:
        monkeypatch.setenv("WAYPOST", temporary.address)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("waypost-cache")))
        yield temporary
