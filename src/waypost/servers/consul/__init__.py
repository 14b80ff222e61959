"""The Consul HTTP API (``/v1/…``): what Consul's clients ask and are told, over the same verbs.

    door ── one request: route, read, answer, refuse
     ├── operations, asked, bodies, durations     what a request says
     ├── replies, refusals                        what goes back, in Consul's words
     ├── blocking, topics, tables                 who waits for an index, and what wakes them
     └── status, agent, catalog, health, …        the endpoints

Behaviour is that of Consul 1.16: its documentation of the HTTP API, and its source (MPL 2.0).
"""
