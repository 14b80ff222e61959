"""Run where the network and ``/etc/resolv.conf`` are its own: what libc's resolver makes of us."""

import socket
import sys
from pathlib import Path

from tests.doors.dns.programs import HOSTS
from tests.doors.life import SERVICE, Told, live_through, usable
from tests.doors.over_http import eventually
from tests.doors.port_53 import inside

NAME = f"{SERVICE}.service.waypost"


def found() -> set[str]:
    """By getaddrinfo, which asks for both families at once."""
    try:
        return {str(each[4][0]) for each in socket.getaddrinfo(NAME, 80, type=socket.SOCK_STREAM)}
    except socket.gaierror as error:
        if error.errno not in (socket.EAI_NONAME, socket.EAI_NODATA):
            raise
        return set()


def sees(*hosts: str) -> None:
    """Wait until it finds these alone."""
    eventually(lambda: found() == set(hosts), lambda: f"{hosts}, not {found()}")


def main(directory: Path) -> None:
    with inside(directory) as cluster:
        sees()

        def are_found(told: Told) -> None:
            sees(*(HOSTS[each] for each in usable(told)))

        places = {each: {"host": host} for each, host in HOSTS.items()}
        live_through(cluster.api, places, are_found, cluster.kill_the_leader)

        left = [HOSTS[each] for each in ("ill", "drained", "gone", "late")]
        cluster.api.register(SERVICE, "six", host="::1")
        sees(*left, "::1")
        many = [f"10.0.0.{number}" for number in range(60)]
        for host in many:
            cluster.api.register(SERVICE, host, host=host)
        sees(*left, "::1", *many)  # by TCP
    print("found, followed, and gone")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
