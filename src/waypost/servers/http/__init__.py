"""The HTTP door: JSON, server-sent events, metrics and a page for people.

Reading order: ``operations`` (what an operation is), ``routes`` (the table of them), ``handlers``
(what each does), ``bodies`` (what goes over the wire), ``app`` (from a request to an operation),
``server`` (from a port to a request).  ``docs/http.md`` tells it to users.
"""
