import random

from hypothesis import given
from hypothesis import strategies as st

from waypost.catalog.keys import GRAVES_MAX, PAIR_BYTES, Keys, Pair


def pair(key: str, revision: int, holder: str = "", value: bytes = b"v") -> Pair:
    return Pair(key, value, 0, 0, holder, revision, revision)


def listed(keys: Keys, prefix: str = "") -> list[str]:
    return [each.key for each in keys.under(prefix)]


def test_keys_are_listed_in_the_order_of_their_bytes() -> None:
    keys = Keys()
    given_keys = ["b", "a/b", "a", "é", "a/", "\U0001f600", "\uffff", "B", "a/b/c", ""]
    for number, key in enumerate(given_keys, 1):
        keys.put(pair(key, number))

    assert listed(keys) == sorted(given_keys, key=str.encode)
    assert listed(keys, "a/") == ["a/", "a/b", "a/b/c"]
    assert listed(keys, "c") == []


def test_thousands_of_keys_in_pieces_are_found_listed_and_removed() -> None:
    keys, draw, naive = Keys(), random.Random(3), dict[str, Pair]()
    for revision in range(1, 9_000):
        key = f"{draw.randrange(40):02}/{draw.randrange(400)}"
        naive[key] = pair(key, revision)
        keys.put(naive[key])
    assert len(keys._pieces) > 4
    assert listed(keys) == sorted(naive)
    assert all(keys.find(key) is each for key, each in naive.items())

    for prefix in ("07/", "1", "39/399", "no", "0", "2", "3"):
        expected = [key for key in sorted(naive) if key.startswith(prefix)]
        assert listed(keys, prefix) == expected
        assert keys.drop_under(prefix, 9_000) == expected
        for key in expected:
            del naive[key]
        assert listed(keys) == sorted(naive)
        assert len(keys) == len(naive)

    assert keys.size == sum(len(key) + 1 + PAIR_BYTES for key in naive)
    assert all(keys._pieces)


def test_what_is_read_is_not_changed_by_what_comes_after() -> None:
    keys = Keys()
    for number in range(3_000):
        keys.put(pair(f"{number:04}", number + 1))
    keys.is_read = True
    pieces = keys.pieces()
    before = [each for piece in pieces for each in piece]

    keys.drop_under("1", 4_000)
    keys.drop("0005", 4_001)
    keys.put(pair("0006", 4_002))
    for number in range(2_000):
        keys.put(pair(f"0007{number}", 4_003))

    assert [each for piece in pieces for each in piece] == before


def test_forgotten_graves_hold_the_revision_of_every_prefix_up() -> None:
    keys = Keys()
    keys.put(pair("kept", 1))
    for number in range(GRAVES_MAX + 1):
        keys.put(pair(f"gone/{number}", 2 + 2 * number))
        keys.drop(f"gone/{number}", 3 + 2 * number)

    assert keys.forgotten == 3 + 2 * (GRAVES_MAX // 64 - 1)
    assert keys.revision_under("kept") == keys.forgotten
    assert keys.revision_under("gone/0") == keys.revision  # its grave is among the forgotten
    assert len(keys.graves()) <= GRAVES_MAX


KEY_NAMES = ["a", "a/", "a/x", "a/x/1", "a/x/2", "a/y", "b", "b/x", "ab"]
KEYS = st.sampled_from(KEY_NAMES)
PREFIXES = ["", "a", "a/", "a/x", "a/x/", "a/x/1", "b", "b/", "zz", "ab"]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), KEYS),
        st.tuples(st.just("drop"), KEYS),
        st.tuples(st.just("tree"), st.sampled_from(PREFIXES)),
    ),
    max_size=40,
)


@given(STEPS)
def test_the_revision_of_a_prefix_never_goes_back_and_misses_no_change(
    steps: list[tuple[str, str]],
) -> None:
    keys = Keys()
    there = set[str]()
    shown = dict.fromkeys(PREFIXES, ((), 0))

    for revision, (verb, key) in enumerate(steps, 1):
        if verb == "put":
            keys.put(pair(key, revision))
        elif verb == "drop":
            keys.drop(key, revision)
        else:
            keys.drop_under(key, revision)

        for prefix in PREFIXES:
            content, latest = tuple(keys.under(prefix)), keys.revision_under(prefix)
            content_before, latest_before = shown[prefix]
            assert latest >= latest_before
            if content != content_before:
                assert latest == revision
                assert keys.has_changed_under(prefix, revision - 1)
            assert not keys.has_changed_under(prefix, latest)
            shown[prefix] = content, latest
        for name in KEY_NAMES:
            if name in there and keys.find(name) is None:
                assert keys.is_removed_since(name, revision - 1)
            assert not keys.is_removed_since(name, revision)
        there = {pair.key for pair in keys.under("")}
