import pytest

from waypost.servers.xds.names import name_of, service_of


@pytest.mark.parametrize(
    ("asked", "service"),
    [
        ("orders", "orders"),
        ("orders:8080", "orders"),
        ("Orders", "orders"),
        ("orders.team-a", "team-a/orders"),
        ("team-a/orders", "team-a/orders"),
        ("orders.team-a:443", "team-a/orders"),
    ],
)
def test_a_target_names_a_service(asked: str, service: str) -> None:
    assert service_of(asked) == service


@pytest.mark.parametrize(
    "asked",
    ["", "*", "a.b.c", "orders:http", "-orders", "xdstp://a/b/c", "a/b/c", "orders.", "o" * 64],
)
def test_what_can_be_no_service_is_none(asked: str) -> None:
    assert service_of(asked) == ""


@pytest.mark.parametrize("service", ["orders", "team-a/orders"])
def test_the_name_of_a_service_leads_back_to_it(service: str) -> None:
    assert "/" not in name_of(service)
    assert service_of(name_of(service)) == service
