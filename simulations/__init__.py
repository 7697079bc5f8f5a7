"""The same protocol in virtual time: the machines of `crdtmerge.sync` on a network that misbehaves by seed.

    swarm ── hosts (a disk, a machine) ── network (delay, loss, duplicates, partitions) ── clock

A run is a function of its seed: a failure is replayed by the one line that names it.
"""
