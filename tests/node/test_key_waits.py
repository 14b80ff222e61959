from waypost.catalog.keyspace import Touched
from waypost.node.key_waits import KeyWaits


class Woken:
    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> None:
        self.times += 1


def touched(*keys: str, holders: bool = False, events: bool = False) -> Touched:
    return Touched(dict.fromkeys(keys), holders, events)


def test_a_change_wakes_who_waits_for_it_and_nobody_else() -> None:
    waits = KeyWaits()
    key, other, prefix, longer, every, holders, events = (Woken() for _ in range(7))
    waits.on_key("a/b", key)
    waits.on_key("a", other)
    waits.on_prefix("a/", prefix)
    waits.on_prefix("a/b/c", longer)
    waits.on_prefix("", every)
    waits.on_holders(holders)
    waits.on_events(events)

    waits.publish(touched("a/b"))
    waits.publish(touched("z"))
    waits.publish(touched(holders=True))
    waits.publish(touched(events=True))

    woken = (key, other, prefix, longer, every, holders, events)
    assert [each.times for each in woken] == [1, 0, 1, 0, 2, 1, 1]


def test_one_entry_wakes_somebody_once_though_many_keys_changed() -> None:
    waits = KeyWaits()
    prefix = Woken()
    waits.on_prefix("a/", prefix)

    waits.publish(touched(*(f"a/{number}" for number in range(100))))

    assert prefix.times == 1


def test_who_waits_no_more_is_not_woken_and_leaves_nothing_behind() -> None:
    waits = KeyWaits()
    one, two = Woken(), Woken()
    removals = [waits.on_prefix("a/", one), waits.on_prefix("a/", two), waits.on_key("a/b", one)]
    removals += [waits.on_holders(one), waits.on_events(one)]

    removals[0]()
    removals[0]()  # twice does nothing
    waits.publish(touched("a/x"))
    assert (one.times, two.times) == (0, 1)
    for remove in removals:
        remove()
    waits.publish(touched("a/b", holders=True, events=True))

    assert (one.times, two.times) == (0, 1)
    left = (waits._by_key, waits._by_prefix, waits._by_topic, waits._lengths)
    assert left == ({}, {}, {}, {})


def test_who_goes_while_he_is_woken_disturbs_nobody() -> None:
    waits = KeyWaits()
    other = Woken()

    def leave() -> None:
        remove()

    remove = waits.on_key("a", leave)
    waits.on_key("a", other)

    waits.publish(touched("a"))
    waits.wake_all()

    assert other.times == 2


def test_a_catalog_that_was_replaced_wakes_everybody() -> None:
    waits = KeyWaits()
    key, prefix, holders = Woken(), Woken(), Woken()
    waits.on_key("a", key)
    waits.on_prefix("b", prefix)
    waits.on_holders(holders)

    waits.wake_all()

    assert (key.times, prefix.times, holders.times) == (1, 1, 1)
