"""HTTP/2 as a client speaks it, without I/O, and what gRPC's unary calls put on top.

``ClientConnection`` takes the bytes of a server and gives events and bytes to send. Sockets, timers
and the choice of a connection are in ``load`` and ``client``, which share this package.
"""
