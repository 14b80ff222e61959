"""Runs the shipped code with one function changed, in this process and nowhere on disk.

A mutant names a module, a piece of its source and what to put in its place.  The module is compiled
from the changed source when it is imported, so this must be set up before anything imports it; a
piece that does not stand there exactly once is an error: the code has moved on, and so must the
mutant.
"""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType
from typing import Any

from .catalogue import Mutant


class _Loader(SourceFileLoader):
    def __init__(self, name: str, path: str, mutant: Mutant) -> None:
        super().__init__(name, path)
        self._mutant = mutant

    def path_stats(self, path: str | bytes) -> Any:
        raise OSError("no cached bytecode of a mutant")

    def get_data(self, path: str) -> bytes:
        return mutated(super().get_data(path).decode(), self._mutant).encode()


class _Finder(MetaPathFinder):
    def __init__(self, mutant: Mutant) -> None:
        self._mutant = mutant

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self._mutant.module:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        assert spec is not None
        assert spec.origin is not None
        spec.loader = _Loader(fullname, spec.origin, self._mutant)
        return spec


def mutated(source: str, mutant: Mutant) -> str:
    """The source with the change made."""
    count = source.count(mutant.find)
    if count != 1:
        raise LookupError(
            f"{mutant.name}: its piece of {mutant.module} stands there {count} times: the code has "
            "moved on, find the place again"
        )
    return source.replace(mutant.find, mutant.put)


def install(mutant: Mutant) -> None:
    """Let the mutant be what is imported from here on."""
    assert mutant.module not in sys.modules, f"{mutant.module} is imported already"
    sys.meta_path.insert(0, _Finder(mutant))


def check_in_use(mutant: Mutant) -> None:
    """Raise if the module was never imported, or by somebody who reads the source unchanged."""
    module = sys.modules.get(mutant.module)
    if module is None or not isinstance(module.__loader__, _Loader):
        raise LookupError(
            f"{mutant.name}: {mutant.module} did not run as changed, so this killer tells nothing "
            "of it: name one that imports it in its own process"
        )
