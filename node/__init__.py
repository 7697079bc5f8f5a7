"""The node: the only place with sockets, a clock, threads and signals.

    serve ──► driver ──► machine (crdtmerge.sync) and disk (crdtmerge.store), in one thread of their own
                │
      server ───┤ calls of others, each checked for membership (guard)
      client ───┘ our calls, each to the exact certificate of a signed record

`crdtmerge.node.serve` runs a home until it is told to stop, `crdtmerge.node.join` turns an invitation into
a home. What is said between nodes is decided by the machines alone; here it is only carried.
"""

import os

# Under gRPC lies a library that reports every refused handshake on stderr, past Python's logging.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
