"""Parts alone: the policies, the catalog, the log."""

import subprocess
import sys
from pathlib import Path


def main() -> None:
    for script in sorted(Path(__file__).parent.glob("micro_*.py")):
        print(f"-- {script.name}", flush=True)
        subprocess.run([sys.executable, str(script)], check=True)
