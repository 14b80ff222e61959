"""The runner of the pages runs what it should, and a page that does not work fails."""

from pathlib import Path

import pytest
from tests.docs import runner


def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> str:
    monkeypatch.setattr(runner, "ROOT", tmp_path)
    (tmp_path / "page.md").write_text(text)
    return "page.md"


def test_blocks_run_in_order_in_one_directory_with_a_registry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = page(
        tmp_path,
        monkeypatch,
        """
```console
$ waypost register db --host 10.0.0.5 --port 5432 --ttl 0
$ curl -sf "http://$WAYPOST_HTTP/api/v1/services/db" > found
this is what it prints
```
```python
assert "10.0.0.5" in open("found").read()
```
```python no-run
1 / 0
```
```sh
false
```
```python test
def test_it(waypost_registry):
    assert waypost_registry.instances("db") == []
```
""",
    )

    runner.run_page(name, tmp_path)


@pytest.mark.parametrize(
    ("block", "told"),
    [
        ("```console\n$ true\n$ false\n```\n", "page.md:3 ended with 1"),
        ("```python\n1 / 0\n```\n", "ZeroDivisionError"),
        ("```python test\ndef test_it(): assert 1 == 2\n```\n", "assert 1 == 2"),
        ("```python\nimport warnings; warnings.warn('old')\n```\n", "UserWarning: old"),
        ("```python norun\n```\n", "page.md:3: 'norun'?"),
    ],
)
def test_a_block_that_does_not_work_fails_with_page_and_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: str, told: str
) -> None:
    name = page(tmp_path, monkeypatch, f"# A page\n\n{block}")

    with pytest.raises(AssertionError) as failed:
        runner.run_page(name, tmp_path)

    assert "page.md:3" in str(failed.value)
    assert told in str(failed.value)
