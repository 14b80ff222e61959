"""What a node tells a client: the outcome of a write in one word, and what a read found."""

from waypost.catalog.state import Catalog
from waypost.commands import Outcome, Refused
from waypost.consensus.core import Index
from waypost.sim.messages import Reply, Request


def word_of(request: Request, outcome: Outcome) -> str:
    """Say what came of a command."""
    if isinstance(outcome, Refused):
        return outcome.code
    return "no" if request.kind == "cas_key" and not outcome else "ok"


def read_at(catalog: Catalog, request: Request, applied: Index) -> Reply:
    """Answer a read, of a service or of a key."""
    client, seq, attempt = request.client, request.seq, request.attempt
    if request.kind == "read_key":
        pair = catalog.keyspace.keys.find(request.subject)
        value, revision = (pair.value.decode(), pair.revision) if pair is not None else ("", 0)
        return Reply(client, seq, attempt, "done", applied, value, revision=revision)
    records = catalog.service(request.subject) or {}
    instances = tuple(
        (record.instance.id, str(record.instance.port), record.health)
        for _, record in sorted(records.items())
    )
    return Reply(client, seq, attempt, "done", applied, instances=instances)
