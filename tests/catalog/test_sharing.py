from tests.catalog.feed import instance

from waypost.catalog.sharing import Pool


def test_what_is_known_is_bounded() -> None:
    pool = Pool()
    for number in range(50_000):
        pool.share(
            instance(
                port=number,
                zone=f"zone-{number}",
                tags=(f"tag-{number}",),
                meta={"key": f"value-{number}"},
            ),
            "orders",
            "i-1",
            1,
        )
        if number % 1_000 == 0:
            pool.trim()

    for table in (pool._texts, pool._tags, pool._numbers, pool._metas):
        assert 0 < len(table) < 20_000


def test_a_shared_instance_is_equal_to_the_one_that_was_given() -> None:
    pool = Pool()
    given = instance(port=1, weight=1.0, zone="1", version="1", tags=("1",), meta={"1": "1"})

    for _ in range(2):
        assert pool.share(given, given.service, given.id, given.incarnation) == given


def test_metadata_in_another_order_is_still_equal() -> None:
    pool = Pool()
    one = instance(meta={"a": "1", "b": "2"})
    other = instance(meta={"b": "2", "a": "1"})

    assert pool.share(one, "orders", "i-1", 0) == pool.share(other, "orders", "i-1", 0)
