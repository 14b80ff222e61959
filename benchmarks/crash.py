"""What the crash tests measure, with their figures shown."""

import subprocess
import sys

TESTS = (
    "tests/processes/test_liveness.py",
    "tests/processes/test_fanout.py",
    "tests/processes/test_durability.py",
)


def main() -> None:
    subprocess.run([sys.executable, "-m", "pytest", "-q", "-s", *TESTS], check=True)
