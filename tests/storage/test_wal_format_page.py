"""What the page on the format says is so: its examples run, and its offsets are the code's."""

import re
import struct
from pathlib import Path

import pytest

from waypost.consensus import Ballot, Hard, Snap
from waypost.storage import heads

PAGE = (Path(__file__).parents[2] / "docs" / "wal-format.md").read_text()
ROW = re.compile(r"^\| (\d+) \| (\d+) \| ([\w.]+) \|", re.MULTILINE)
EXAMPLES = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_the_examples_run(number: int) -> None:
    exec(compile(EXAMPLES[number], f"wal-format.md example {number}", "exec"), {})


def test_the_page_has_examples() -> None:
    assert len(EXAMPLES) == 3


def test_the_offsets_of_the_segment_head_are_those_of_the_code() -> None:
    data = heads.encode_head(
        heads.SegmentHead(
            cluster=0xC1,
            node=0xA2,
            number=0xB3,
            segment=0xB4,
            first=0xB5,
            chain=0xB6,
            hard=Hard(Ballot(1, 2, 3), Ballot(4, 5, 6), 0xB7, True),
            snap=Snap(0xB8, Ballot(7, 8, 9), 1, 0xB9),
            previous=0xBA,
            previous_end=0xBB,
            durable_end=0xBC,
        )
    )
    expected = {
        "version": 2,
        "cluster": 0xC1,
        "number": 0xB3,
        "segment": 0xB4,
        "node": 0xA2,
        "first": 0xB5,
        "chain": 0xB6,
        "commit": 0xB7,
        "suspect": 1,
        "snap.index": 0xB8,
        "snap.kind": 1,
        "snap.chain": 0xB9,
        "previous": 0xBA,
        "previous_end": 0xBB,
        "durable_end": 0xBC,
    }
    table = PAGE.split("## A segment")[1].split("## A batch")[0]
    rows = {name: (int(offset), int(size)) for offset, size, name in ROW.findall(table)}

    for name, value in expected.items():
        offset, size = rows[name]
        assert int.from_bytes(data[offset : offset + size], "little") == value, name
    for name, ballot in (
        ("promised", (1, 2, 3)),
        ("accepted", (4, 5, 6)),
        ("snap.ballot", (7, 8, 9)),
    ):
        assert struct.unpack_from("<QQI", data, rows[name][0]) == ballot
