"""A replica: what an application holds to take part in a federation.

    operations ──► view (who is in, what counts, which recipe) ──► resolve ──► the merged model
        ▲                                                             ▲
        └────────────── store (one folder, or memory) ────────────────┘

A replica signs operations, keeps them and the content they speak of, and computes the merged model from
them. It talks to nobody: `Replica.join` takes over what another replica in this process knows, and a
running node does the same over the network for a replica's folder. Several processes may have the same
folder open; `refresh` takes up what the others committed.

Whatever a method returned from is durable.
"""

from .replica import Replica
from .resolved import Resolved

__all__ = ["Replica", "Resolved"]
