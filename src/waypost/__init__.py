"""Waypost: a service registry and discovery system.

    async with waypost.connect() as registry:              # or ``with``, for blocking code
        async with registry.register("orders", port=8080):     # a provider
            ...
        orders = registry.service("orders")                     # a consumer: a live local view
        async with orders.call() as instance:
            ...

``ServiceRegistry``, ``ServiceProvider`` and ``ServiceConsumer`` are the same in the plainest form.

Every name is imported when it is first used, so that ``import waypost`` costs next to nothing
wherever it stands.  Their types are in ``__init__.pyi``.
"""

from importlib import import_module

_HOMES = {
    "connect": "waypost.client.connect",
    "Answer": "waypost.client.answers",
    "Registration": "waypost.client.provider",
    "Registry": "waypost.client.registry",
    "Service": "waypost.client.service",
    "ServiceList": "waypost.client.answers",
    "Watch": "waypost.client.watching",
    "BlockingRegistration": "waypost.client.blocking",
    "BlockingRegistry": "waypost.client.blocking",
    "BlockingService": "waypost.client.blocking_views",
    "BlockingWatch": "waypost.client.blocking_views",
    "ServiceConsumer": "waypost.simple",
    "ServiceProvider": "waypost.simple",
    "ServiceRegistry": "waypost.simple",
    "Change": "waypost.model",
    "Check": "waypost.client.check",
    "Health": "waypost.model",
    "Instance": "waypost.model",
    "Record": "waypost.model",
    "CorruptData": "waypost.errors",
    "Invalid": "waypost.errors",
    "NoInstance": "waypost.errors",
    "Overloaded": "waypost.errors",
    "ProtocolViolation": "waypost.errors",
    "ReadOnly": "waypost.errors",
    "Rejected": "waypost.errors",
    "Superseded": "waypost.errors",
    "TimedOut": "waypost.errors",
    "TooOld": "waypost.errors",
    "TooStale": "waypost.errors",
    "Unavailable": "waypost.errors",
    "UnknownInstance": "waypost.errors",
    "UnknownService": "waypost.errors",
    "UnknownSession": "waypost.errors",
    "WaypostError": "waypost.errors",
}


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        value: object = version("waypost")
    elif name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
    else:
        raise AttributeError(f"module 'waypost' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES, "__version__"})
