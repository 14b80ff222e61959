from random import Random

import msgspec

from waypost.sim.network import Network
from waypost.sim.plan import MS, Setting, draw_plan


class Arrivals:
    def __init__(self) -> None:
        self.all: list[tuple[int, int, int, object]] = []

    def __call__(self, at: int, source: int, target: int, parcel: object) -> None:
        self.all.append((at, source, target, parcel))

    @property
    def parcels(self) -> list[object]:
        return [parcel for *_, parcel in sorted(self.all, key=lambda row: row[0])]


def quiet(**changes: object) -> Setting:
    setting = draw_plan(0, "raft").setting
    plain: dict[str, object] = {"loss_ppm": 0, "repeat_ppm": 0, "tail_ppm": 0, "in_order": False}
    return msgspec.structs.replace(setting, delay_min=MS, delay_max=9 * MS, **(plain | changes))


def network(**changes: object) -> tuple[Network, Arrivals]:
    arrivals = Arrivals()
    return Network(quiet(**changes), Random(7), arrivals), arrivals


def test_a_message_arrives_once_and_within_the_delays() -> None:
    net, arrivals = network()
    for number in range(50):
        net.send(100, 0, 1, number)
    assert sorted(arrivals.parcels) == list(range(50))  # type: ignore[type-var]
    assert all(100 + MS <= at <= 100 + 9 * MS for at, *_ in arrivals.all)
    assert arrivals.parcels != list(range(50)), "some overtake others"


def test_on_an_ordered_link_nothing_is_overtaken() -> None:
    net, arrivals = network(in_order=True, tail_ppm=500_000)
    for number in range(50):
        net.send(number, 0, 1, number)
    assert arrivals.parcels == list(range(50))


def test_losses_and_repetitions_come_as_often_as_drawn() -> None:
    net, arrivals = network(loss_ppm=100_000, repeat_ppm=200_000)
    for number in range(2_000):
        net.send(0, 0, 1, number)
    assert 150 < net.lost < 250
    assert 280 < net.repeated < 440
    assert len(arrivals.all) == 2_000 - net.lost + net.repeated


def test_a_cut_link_carries_nothing_until_every_cut_is_joined() -> None:
    net, arrivals = network()
    first, second = net.cut_links([(0, 1)]), net.cut_links([(0, 1), (1, 0)])
    net.send(0, 0, 1, "lost")
    first(0)
    net.send(0, 0, 1, "lost too")
    assert net.is_cut(0, 1)
    second(0)
    net.send(0, 0, 1, "there")
    assert arrivals.parcels == ["there"]
    assert net.cut == 2


def test_a_cut_in_one_direction_leaves_the_other() -> None:
    net, arrivals = network()
    net.cut_links([(0, 1)])
    net.send(0, 1, 0, "back")
    assert arrivals.parcels == ["back"]


def test_a_clog_holds_messages_back_and_loses_none() -> None:
    net, arrivals = network(in_order=True)
    release = net.clog((0, 1))
    for number in range(5):
        net.send(number, 0, 1, number)
    assert arrivals.all == []
    release(1_000 * MS)
    assert arrivals.parcels == [0, 1, 2, 3, 4]
    assert all(at > 1_000 * MS for at, *_ in arrivals.all)


def test_a_slow_link_is_slow_for_as_long_as_it_lasts() -> None:
    net, arrivals = network()
    quicken = net.slow_down((0, 1), 500 * MS)
    net.send(0, 0, 1, "late")
    quicken(0)
    net.send(0, 0, 1, "soon")
    assert arrivals.parcels == ["soon", "late"]


def test_a_calm_network_loses_nothing_by_chance() -> None:
    net, arrivals = network(loss_ppm=900_000, repeat_ppm=900_000)
    net.calm()
    for number in range(100):
        net.send(0, 0, 1, number)
    assert len(arrivals.all) == 100
