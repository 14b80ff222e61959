"""The xDS door: proxyless gRPC clients and Envoy discover services here, by push.

Three parts that do not know each other's insides: records become resources (``names``,
``endpoints``, ``resources``, ``shelf``); the protocol of one stream, without any I/O
(``subscription``, ``stream``, ``sotw``, ``delta``); and gRPC
(``messages``, ``streams``, ``server``).
"""
