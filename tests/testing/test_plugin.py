"""The plugin as pytest finds it: there when it is asked for, and otherwise not noticed."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run_pytest(directory: Path, test: str, *arguments: str) -> str:
    (directory / "test_it.py").write_text(test)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
        cwd=directory,
        env={**os.environ, "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_run_that_does_not_use_it_imports_nothing_of_the_registry(tmp_path: Path) -> None:
    printed = run_pytest(
        tmp_path,
        """
import sys

def test_it():
    ours = {name for name in sys.modules if name.split(".")[0] == "waypost"}
    assert ours == {"waypost", "waypost.testing", "waypost.testing.plugin"}
    assert not {"uvloop", "msgspec", "granian"} & set(sys.modules)
""",
    )

    assert "1 passed" in printed
    assert "warning" not in printed


def test_each_test_has_a_registry_of_its_own_that_the_environment_names(tmp_path: Path) -> None:
    printed = run_pytest(
        tmp_path,
        """
import os
import waypost

seen = set()

def check(registry):
    assert os.environ["WAYPOST"] == registry.address
    with waypost.connect() as client:
        assert client.services().services == ()
        client.register("orders", port=80, ttl=0)
        seen.add(client.status().cluster)

def test_one(waypost_registry):
    check(waypost_registry)

def test_another(waypost_registry):
    check(waypost_registry)
    assert len(seen) == 2

def test_afterwards():
    assert "WAYPOST" not in os.environ
""",
        "-W",
        "error",
    )

    assert "3 passed" in printed


def test_the_fixture_says_what_it_is(tmp_path: Path) -> None:
    printed = run_pytest(tmp_path, "def test_it(): pass", "--fixtures")

    assert "waypost_registry" in printed
    assert "A registry for this test alone" in printed
