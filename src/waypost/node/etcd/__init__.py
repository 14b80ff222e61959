"""The log on an etcd that the user runs already.

Reading order: ``layout`` (the keys, and what makes the order), ``log`` (append, watch, barrier),
``opening`` (who makes the layout, and what a node reads at its start), ``snapshots``, ``members``
(who lives, and who expires the sessions of who does not), ``engine`` (all of it as an ``Engine``).
Below them: ``client`` (connections and failover), ``rpc`` and ``protobuf`` (bytes).
"""
