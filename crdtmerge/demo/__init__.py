"""The demonstration: peers fine-tune on real digits, gossip over mTLS, split, heal and agree byte for byte.

Nothing is canned: `train` trains, `federation` starts real processes, `faults` cuts the real connections
between them, and `story` tells what happened, or says which promise was broken.

    data ──► train ─────────┐
    faults ──► federation ──┴──► story ──► report
                                   └─────► again: the same merge by a stranger

`faults` and `federation` serve the end-to-end tests too; `data` and `train` the tests of merge quality.
"""
