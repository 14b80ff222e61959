"""Members walk at random over epochs and engines; see ``walk`` for what is looked at."""

import pytest
from tests.replica.walk import Walk


@pytest.mark.parametrize("block", range(4))
def test_members_agree_on_one_log_whatever_happens(block: int) -> None:
    epochs = 0
    for seed in range(block * 25, block * 25 + 25):
        walk = Walk(seed)
        walk.run(400)
        epochs += walk.epochs
    assert epochs > 50, "a walk that changes nothing shows nothing"
