"""The DNS door: what every resolver, proxy and libc can ask, over UDP and TCP.

Reading order: ``message`` (questions read, records written), ``names`` (what a name asks for),
``answers`` (what the catalog says to that), ``replies`` (fitted, kept, put in order), ``following``
(what others say of an alias): all of these without a socket.  Then ``datagrams``, ``connection``,
``forwarding`` (names of others, if we are told to), and ``server``, which holds them together.
"""
