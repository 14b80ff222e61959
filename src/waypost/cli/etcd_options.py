"""``--etcd`` and what belongs to it: where the user's etcd is, and how to get in."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from waypost.node.etcd.settings import EtcdSettings

_FILE = click.Path(exists=True, dir_okay=False)
_OPTIONS = (
    click.option(
        "--etcd",
        "endpoints",
        metavar="URL[,URL]",
        help="Keep everything in this etcd; any number of nodes without a disk may do so.",
    ),
    click.option(
        "--etcd-prefix",
        "prefix",
        default="/waypost",
        show_default=True,
        help="Below which everything is; two registries need two.",
    ),
    click.option("--etcd-ca", "ca", type=_FILE, help="Who signs etcd's certificate."),
    click.option("--etcd-cert", "cert", type=_FILE, help="This node's certificate for etcd."),
    click.option("--etcd-key", "key", type=_FILE, help="The key of that certificate."),
    click.option("--etcd-user", "user", help="The user of etcd to be."),
    click.option(
        "--etcd-password-file",
        "password_file",
        type=_FILE,
        help="A file whose first line is that user's password.",
    ),
)


def etcd_options(command: Callable[..., int]) -> Callable[..., int]:
    """Add the options; the command gets ``etcd``: what they say, or None.

    Without endpoints it is how a member of a cluster gets into an etcd, if the cluster goes there.
    """

    @functools.wraps(command)
    def with_etcd(
        *,
        endpoints: str | None,
        prefix: str,
        ca: str | None,
        cert: str | None,
        key: str | None,
        user: str | None,
        password_file: str | None,
        **others: Any,
    ) -> int:
        settings = None
        is_member = bool(others.get("data_dir"))
        if ca or cert or key or user or password_file:
            if not endpoints and not is_member:
                raise click.UsageError(
                    "these options are about an etcd: add --etcd URL, or --data-dir for a member "
                    "of a cluster that may go there"
                )
            if user and not password_file:
                raise click.UsageError("--etcd-user has a password: add --etcd-password-file")
        if endpoints or is_member:
            lines = Path(password_file).read_text().splitlines() if password_file else []
            settings = EtcdSettings(
                endpoints=tuple(endpoints.split(",")) if endpoints else (),
                prefix=prefix,
                ca=ca or "",
                cert=cert or "",
                key=key or "",
                user=user or "",
                password=lines[0] if lines else "",
            )
        return command(etcd=settings, **others)

    for option in reversed(_OPTIONS):
        with_etcd = option(with_etcd)
    return with_etcd
