import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.client.addresses import ADDRESSES_MAX, Address, parse_addresses
from waypost.errors import Invalid


@pytest.mark.parametrize(
    ("text", "addresses"),
    [
        ("127.0.0.1:8301", [Address("127.0.0.1", 8301)]),
        ("registry.internal", [Address("registry.internal", 8300)]),
        ("waypost://10.0.0.1:1,10.0.0.2:2", [Address("10.0.0.1", 1), Address("10.0.0.2", 2)]),
        ("waypost://a, b:9 ", [Address("a", 8300), Address("b", 9)]),
        ("waypost://a:1/", [Address("a", 1)]),
        ("[::1]", [Address("::1", 8300)]),
        ("[2001:db8::1]:65535", [Address("2001:db8::1", 65535)]),
        ("[fe80::1%eth0]:1", [Address("fe80::1%eth0", 1)]),
    ],
)
def test_an_address_means_what_it_says(text: str, addresses: list[Address]) -> None:
    assert parse_addresses(text) == tuple(addresses)


def test_an_address_that_is_given_twice_counts_once() -> None:
    assert parse_addresses("a:1,b:1,a:1") == (Address("a", 1), Address("b", 1))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "names no host"),
        ("waypost://", "names no host"),
        ("http://localhost:8500", "native port"),
        ("redis://localhost", "not the native protocol"),
        ("a:0", "not a port"),
        ("a:65536", "not a port"),
        ("a:", "not a port"),
        ("a:9x", "not a port"),
        ("a:٣", "not a port"),
        ("a:99999999999999999999", "not a port"),
        ("a,,b", "empty place"),
        ("a,", "empty place"),
        ("user@host:1", "user name"),
        ("a:1/path", "path"),
        ("a:1?x", "query"),
        ("a:1#x", "fragment"),
        ("::1", r"write \[::1\]:8300"),
        ("[::1", "must be"),
        ("[::1]8300", "must be"),
        ("[::1]:", "not a port"),
        ("[not-v6]:1", "neither a host name"),
        ("ho st:1", "neither a host name"),
        (",".join(f"h{n}" for n in range(ADDRESSES_MAX + 1)), "at most 64"),
    ],
)
def test_an_address_that_is_none_is_refused_with_a_remedy(text: str, complaint: str) -> None:
    with pytest.raises(Invalid, match=complaint) as caught:
        parse_addresses(text)

    assert caught.value.field == "address"


@given(st.text(max_size=40))
def test_no_text_raises_anything_but_invalid(text: str) -> None:
    try:
        addresses = parse_addresses(text)
    except Invalid:
        return

    assert all(1 <= address.port <= 65_535 for address in addresses)


@given(
    st.lists(
        st.builds(
            Address,
            st.from_regex(r"[a-z0-9.]{1,20}", fullmatch=True) | st.just("2001:db8::7"),
            st.integers(1, 65_535),
        ),
        min_size=1,
        max_size=8,
        unique=True,
    )
)
def test_an_address_is_written_as_it_is_read(addresses: list[Address]) -> None:
    assert parse_addresses("waypost://" + ",".join(map(str, addresses))) == tuple(addresses)
