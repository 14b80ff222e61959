"""The client library: one body of decisions, driven by asyncio and by a thread.

Decisions, which know no clock, no chance, no network and no files: ``addresses`` (where a
registry is), ``failover`` (which address next, and when), ``retry`` (whether to ask again),
``registrations`` (what this process wants registered, and what must be said to get there) and
``view`` (what is known of a service, and what to tell whom when it changes).

Drivers: ``connection`` (one TCP connection), ``link`` (one of them, always), ``watching`` (views
kept current), ``provider`` (registrations kept registered), ``lastknown`` (what was last known, on
disk), ``service`` (a live view to pick from), ``registry`` (the verbs) and ``blocking`` (the same
verbs for threads).
"""
