"""Evidence: statistics that an author attaches to a contribution, and that methods weigh it by.

    contribution ─┬─ tensors                     w                 [out, in]
                  └─ evidence  <kind>/<tensor>   fisher.diag/w     [out, in]
                                                 gram/w            [in · (in + 1) / 2]

Evidence stands in the same manifest as the weights that it describes, so it is bound to them by the
contribution's digest and goes when they go. Its kinds are a fixed vocabulary (`kinds`): every replica checks
the same rules on the same bytes, and leaves out a contribution whose evidence breaks them.
"""

from .kinds import KINDS, Kind, Layout

__all__ = ["KINDS", "Kind", "Layout"]
