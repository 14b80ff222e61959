"""``waypost demo``: what Waypost promises, happening.

Nothing is staged: a real registry, real providers in processes of their own, real calls over HTTP,
real SIGKILLs; every claim is checked and every number measured while it runs.  Reading order:
``story`` (what happens, and what is claimed of it), ``cast`` (the processes), ``provider`` (the
program of a provider), ``traffic`` (the consumer) and ``stage`` (what is shown).
"""

import sys

import click

from waypost.cli import exits


@click.command()
def demo() -> int:
    """See it work: providers and the registry are killed, and the calls go on.

    Takes about twenty seconds, free ports and a temporary directory, and leaves nothing behind.

    \b
    Exit codes: 0 every claim was checked and held, 5 one did not.
    """
    import asyncio
    import logging
    import tempfile

    from waypost.cli.demo.cast import Cast, Failure
    from waypost.cli.demo.stage import Stage
    from waypost.cli.demo.story import tell

    logging.getLogger("waypost").addHandler(logging.NullHandler())  # the story tells it all
    stage = Stage()
    with tempfile.TemporaryDirectory(prefix="waypost-demo-") as directory:
        cast = Cast(directory)
        try:
            asyncio.run(tell(stage, cast, directory))
        except Failure as failure:
            print(f"waypost: the demo stopped: {failure}", file=sys.stderr)
            for line in cast.last_words():
                print(f"    {line}", file=sys.stderr)
            return exits.NOT_AS_WANTED
        except asyncio.CancelledError:
            return exits.INTERRUPTED
        finally:
            cast.end()
    return exits.NOT_AS_WANTED if stage.broken else exits.OK
