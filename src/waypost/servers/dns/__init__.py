"""The DNS door: what every resolver, proxy and libc can ask, over UDP and TCP.

Reading order: ``message`` (questions read, records written), ``names`` (what a name asks for),
``answers`` (what the catalog says to that), ``replies`` (fitted, kept, put in order), ``server``
(datagrams and connections), ``forwarding`` (names of others, if asked to).  Everything but the
last two is without a socket.
"""
