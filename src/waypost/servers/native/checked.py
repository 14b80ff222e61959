"""What is known of the checks of a service: the answer to CHECKS."""

from waypost.checks import SEVERITIES
from waypost.node.registry import Registry
from waypost.wire import CHECKS_PER_ANSWER_MAX, Checked


def checked_of(registry: Registry, service: str) -> Checked:
    """Collect the checks of a service's instances and of the nodes they are on, the worst first."""
    records = registry.catalog.service(service) or {}
    states = [state for key in sorted(records) for state in registry.checks(service, key)]
    nodes = sorted({record.instance.node for record in records.values()} - {""})
    states += [state for node in nodes for state in registry.node_checks(node)]
    states.sort(key=lambda state: -SEVERITIES[state.status])
    return Checked(registry.revision, states[:CHECKS_PER_ANSWER_MAX], len(states))
