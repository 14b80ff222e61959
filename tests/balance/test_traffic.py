"""What the policies do to a service under load: the promises that no single pick can show."""

import pytest
from tests.balance.simulation import Instance, World

INSTANCES = 20
CALLS_PER_S = 400.0  # with 20 instances of 2 workers and 70 ms of work: 70 % of what they can do
SEEDS = pytest.mark.parametrize("seed", [1, 2, 3])


def world(policy: str, seed: int, *, consumers: int) -> World:
    instances = {f"i{i:02}": Instance(work_ns=70e6, workers=2) for i in range(INSTANCES)}
    return World(policy, instances, consumers=consumers, seed=seed)


@SEEDS
@pytest.mark.parametrize("consumers", [1, 10])
def test_one_that_fails_fast_gets_less_than_its_fair_share(seed: int, consumers: int) -> None:
    service = world("least_response_time", seed, consumers=consumers)
    service.instances["i07"].is_failing = True

    service.run(15, calls_per_s=CALLS_PER_S)

    # A consumer needs two failures to know; the fair share would be 5 % of 6,000 calls.
    failures = sum(not call.ok for call in service.calls)
    assert failures <= 4 * consumers + 10
    assert service.shares()["i07"] < 0.5 / INSTANCES


@SEEDS
def test_the_world_does_show_what_fails_fast_to_a_policy_that_does_not_look(seed: int) -> None:
    service = world("round_robin", seed, consumers=10)
    service.instances["i07"].is_failing = True

    service.run(15, calls_per_s=CALLS_PER_S)

    assert service.shares()["i07"] == pytest.approx(1 / INSTANCES, rel=0.02)


@SEEDS
@pytest.mark.parametrize("consumers", [1, 10])
def test_a_slow_one_gets_less(seed: int, consumers: int) -> None:
    service = world("least_response_time", seed, consumers=consumers)
    service.instances["i07"].work_ns *= 4

    service.run(15, calls_per_s=CALLS_PER_S)

    shares = service.shares(since_s=5)
    assert 0 < shares["i07"] < 0.4 / INSTANCES


@SEEDS
def test_one_that_has_recovered_is_found_again(seed: int) -> None:
    service = world("least_response_time", seed, consumers=2)
    service.instances["i07"].is_failing = True
    service.run(10, calls_per_s=CALLS_PER_S)
    service.instances["i07"].is_failing = False

    service.run(75, calls_per_s=CALLS_PER_S)

    # 5 s of penalty against 0.2 s: after 10 s * ln(25) = 32 s it is worth a try.
    assert service.shares(since_s=60)["i07"] == pytest.approx(1 / INSTANCES, rel=0.35)


@SEEDS
@pytest.mark.parametrize("consumers", [1, 10])
def test_a_newcomer_is_neither_flooded_nor_avoided(seed: int, consumers: int) -> None:
    service = world("least_response_time", seed, consumers=consumers)
    service.run(10, calls_per_s=CALLS_PER_S)

    service.join("new", Instance(work_ns=70e6, workers=2))
    service.run(5, calls_per_s=CALLS_PER_S)

    fair = 1 / (INSTANCES + 1)
    assert 0.5 * fair < service.shares(since_s=10)["new"] < 1.6 * fair


@SEEDS
def test_faster_ones_get_more_and_everybody_waits_less(seed: int) -> None:
    medians: dict[str, float] = {}
    for policy in ("round_robin", "least_response_time"):
        service = world(policy, seed, consumers=5)
        for i, instance in enumerate(service.instances.values()):
            instance.work_ns *= 1.5 if i % 2 else 0.5

        service.run(15, calls_per_s=CALLS_PER_S)

        shares = list(service.shares(since_s=5).values())
        medians[policy] = sorted(c.elapsed_ns for c in service.calls)[len(service.calls) // 2]
        if policy == "least_response_time":
            assert sum(shares[0::2]) > 0.6

    assert medians["least_response_time"] < 0.8 * medians["round_robin"]


@SEEDS
def test_failures_that_befall_everybody_unbalance_nobody(seed: int) -> None:
    service = world("least_response_time", seed, consumers=1)
    for instance in service.instances.values():
        instance.failure_rate = 0.005

    service.run(30, calls_per_s=CALLS_PER_S)

    shares = service.shares(since_s=5)
    assert max(shares.values()) < 1.5 / INSTANCES
    assert min(shares.values()) > 0.3 / INSTANCES
