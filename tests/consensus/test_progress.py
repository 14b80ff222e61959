"""What a leader knows of one peer."""

from waypost.consensus.progress import Progress


def test_an_older_ack_takes_nothing_back() -> None:
    peer = Progress(2, 1, 0)
    peer.matched(5, 5)

    peer.matched(3, 3)

    assert peer.match == 5


def test_only_a_lost_disk_takes_a_match_back() -> None:
    peer = Progress(2, 1, 0)
    peer.matched(5, 5)

    peer.forget()

    assert peer.match == 0
    assert peer.is_probing
