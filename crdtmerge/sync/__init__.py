"""How replicas come to agree and complete each other: the protocol as machines, without a wire or a clock.

    peer ─┬─ intake       operations that arrive: verified, kept, or waiting
          ├─ gossip       what is new here is pushed at once
          ├─ exchange     what differs is found and levelled, periodically ── reconcile ─ ranges ─ index
          ├─ shelves      what members say of themselves ─┬─ book, records          where they are
          │                                               └─ attested, attestation  what they computed
          ├─ contacts     whom to talk to
          ├─ transfer     what is missing is fetched ── jobs ─ wants, room, sources, meta
          ├─ answers      what others ask for is given ── server
          ├─ invite       who may come in
          └─ port         outputs and calls of all of them

A driver tells a `Peer` what happened and carries out what it answers (`events`, `messages`). The node
over gRPC is one driver, the simulator another. Nothing here reads a clock, draws randomness or does I/O.
"""
