"""``import waypost`` is fast, and what it promises is there."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import waypost

HEAVY = ("httpx2", "starlette", "granian", "asyncio", "msgspec", "rich", "click", "uvloop")


def test_importing_the_package_imports_nothing_heavy() -> None:
    program = f"import sys, waypost; print([m for m in {HEAVY!r} if m in sys.modules])"

    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "[]\n"


@pytest.mark.parametrize("name", ["connect", "ServiceRegistry", "ServiceConsumer"])
def test_the_client_needs_no_part_of_the_server(name: str) -> None:
    program = f"""if True:
        import sys, waypost
        waypost.{name}
        server = ("waypost.node", "waypost.servers", "waypost.storage", "waypost.standalone")
        print([m for m in sys.modules if m.startswith(server)])
        print([m for m in {HEAVY!r} if m in sys.modules and m not in ("asyncio", "msgspec")])
    """

    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "[]\n[]\n"


def test_the_types_name_exactly_what_there_is() -> None:
    stub = ast.parse(Path(waypost.__file__).with_suffix(".pyi").read_text())
    told = {
        (alias.asname, node.module)
        for node in stub.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }

    assert told == set(waypost._HOMES.items())
    for name in waypost._HOMES:
        assert getattr(waypost, name).__name__ == name or name == "Health"


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        _ = waypost.Nonsense  # type: ignore[attr-defined]
    assert {"connect", "ServiceRegistry", "__version__"} <= set(dir(waypost))
