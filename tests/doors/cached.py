"""Programs that no package of the system has: fetched once, and kept for all runs.

A place is named by what is in it, so another version is another place; it appears only when it is
whole, and one process makes it while the others wait.
"""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path


def cached(pins: Sequence[str], make: Callable[[Path], None]) -> Path:
    """The directory that ``make`` has filled with exactly these."""
    home = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "waypost-tests"
    home.mkdir(parents=True, exist_ok=True)
    place = home / hashlib.sha256("\n".join(pins).encode()).hexdigest()[:16]
    with (home / f"{place.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.exists():
            half = place.with_suffix(".half")
            shutil.rmtree(half, ignore_errors=True)
            half.mkdir()
            make(half)
            half.rename(place)
    return place
