"""Evidence: statistics that an author attaches to a contribution, and that methods weigh it by.

    contribution ─┬─ tensors                     w                 [out, in]
                  └─ evidence  <kind>/<tensor>   fisher.diag/w     [out, in]
                                                 gram/w            [in · (in + 1) / 2]

Evidence stands in the same manifest as the weights that it describes, so it is bound to them by the
contribution's digest and goes when they go. Its kinds are a fixed vocabulary (`kinds`): every replica checks
the same rules on the same bytes (`checks`), and leaves out a contribution whose evidence breaks them.

Authors compute evidence with `fisher`, `gram`, `moments` and `snip`, which need the model and its data, and
write it down with `save`, bound to the weights that it describes. Only statistics leave their machine; what
these can tell about the data stands with each of them.
"""

from .checks import check_content, check_form
from .kinds import KINDS, WEIGHTS, Kind, Layout

__all__ = ["KINDS", "WEIGHTS", "Kind", "Layout", "check_content", "check_form"]
