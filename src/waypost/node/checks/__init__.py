"""Active health checks: who probes what, how, and when an opinion changes.

Reading order: ``runner`` (when, and what comes of it), ``shares`` (which node), ``judging`` (two in
a row), ``probing`` (one probe), ``http`` and ``grpc`` (what an answer says, as bytes), ``allowed``
(where probes may go).
"""
