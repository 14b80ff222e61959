"""Run where the network and ``/etc/resolv.conf`` are its own: what libc's resolver makes of us."""

import socket

from tests.doors.dns.programs import ALL, SERVICE, Registry
from tests.doors.over_http import eventually


def found(name: str) -> set[str]:
    """By getaddrinfo, which asks for both families at once."""
    try:
        return {str(each[4][0]) for each in socket.getaddrinfo(name, 80, type=socket.SOCK_STREAM)}
    except socket.gaierror as error:
        if error.errno not in (socket.EAI_NONAME, socket.EAI_NODATA):
            raise
        return set()


def main() -> None:
    name = f"{SERVICE}.service.waypost"
    with Registry(dns_port=53) as registry:
        assert found(name) == set()
        for number, host in enumerate(ALL):
            registry.register(f"i{number}", host)
        assert found(name) == set(ALL)
        registry.say("i1", "critical")
        assert found(name) == {ALL[0]}
        registry.say("i1", "passing")
        registry.register("six", "::1")
        assert found(name) == {*ALL, "::1"}
        for number in range(60):
            registry.register(f"many{number}", f"10.0.0.{number}")
        assert len(found(name)) == 63  # by TCP
        registry.say("i0", "draining")
        eventually(lambda: len(found(name)) == 62)
    print("found, followed, and gone")


if __name__ == "__main__":
    main()
