"""The examples of docs/balancing.md run as they stand."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "balancing.md"
EXAMPLES = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_an_example_runs_as_it_stands(example: str) -> None:
    exec(compile(example, str(PAGE), "exec"), {})


def test_the_page_has_examples() -> None:
    assert len(EXAMPLES) == 2
