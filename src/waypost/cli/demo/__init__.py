"""``waypost demo``: what Waypost promises, happening.

Nothing is staged: real registries, real providers in processes of their own, real calls over HTTP,
real SIGKILLs; every claim is checked and every number measured while it runs.  Reading order:
``story``, ``cluster_story`` and ``doors_story`` (what happens, and what is claimed of it), ``cast``
(the processes), ``provider`` (the program of a provider), ``traffic`` (the consumer), ``ledger``
(the writer), ``door_provider``, ``door_clients`` and ``sightings`` (who speaks at the doors, and
what they see), and ``stage`` (what is shown).
"""

import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import click

from waypost.cli import exits
from waypost.errors import WaypostError

if TYPE_CHECKING:
    from waypost.cli.demo.cast import Cast
    from waypost.cli.demo.stage import Stage


@click.group(invoke_without_command=True)
@click.pass_context
def demo(context: click.Context) -> int:
    """See it work: providers and the registry are killed, and the calls go on.

    Takes about twenty seconds, free ports and a temporary directory, and leaves nothing behind.

    \b
    Exit codes: 0 every claim was checked and held, 5 one did not.
    """
    if context.invoked_subcommand is not None:
        return exits.OK
    from waypost.cli.demo.story import tell

    return _play(tell)


@demo.command("cluster")
def cluster() -> int:
    """Three nodes: the leader is killed, Raft becomes Paxos and Raft again, a disk is lost.

    Takes less than a minute, free ports and a temporary directory, and leaves nothing behind.

    \b
    Exit codes: 0 every claim was checked and held, 5 one did not.
    """
    from waypost.cli.demo.cluster_story import tell_of_a_cluster

    return _play(tell_of_a_cluster)


@demo.command("doors")
def doors() -> int:
    """One service through every door: native, HTTP, DNS, Consul, Eureka, Prometheus and gRPC.

    Real clients register it and look on while an instance gets ill, is drained and is killed.
    Takes less than a minute, free ports and a temporary directory, and leaves nothing behind.

    \b
    Exit codes: 0 every claim was checked and held, 5 one did not, 64 a client is not installed.
    """
    from waypost.cli.demo.doors_story import missing_clients, tell_of_doors

    if missing := missing_clients():
        raise click.UsageError(
            f"not all clients are installed here: pip install {missing} (or, in a clone, "
            "make demo-doors)"
        )
    return _play(tell_of_doors)


def _play(tell: "Callable[[Stage, Cast, str], Awaitable[None]]") -> int:
    import asyncio
    import logging
    import signal
    import tempfile

    from waypost.cli.demo.cast import Cast, Failure
    from waypost.cli.demo.stage import Stage

    logging.getLogger("waypost").addHandler(logging.NullHandler())  # the story tells it all
    stage = Stage()

    async def play() -> None:
        task = asyncio.current_task()
        assert task is not None
        for number in (signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        await tell(stage, cast, directory)

    with tempfile.TemporaryDirectory(prefix="waypost-demo-") as directory:
        cast = Cast(directory)
        try:
            asyncio.run(play())
        except (Failure, WaypostError) as failure:
            print(f"waypost: the demo stopped: {failure}", file=sys.stderr)
            for line in cast.last_words():
                print(f"    {line}", file=sys.stderr)
            return exits.NOT_AS_WANTED
        except asyncio.CancelledError:
            return exits.INTERRUPTED
        finally:
            cast.end()
    return exits.NOT_AS_WANTED if stage.broken else exits.OK
