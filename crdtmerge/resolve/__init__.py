"""From a set of contributions and a recipe to one merged model, byte for byte the same everywhere.

    plan      everything that can fail for reasons of its inputs fails here
    stream    tiles flow through surveys and the strategy, within a memory budget
    sinks     into memory, or into a folder that appears whole and durable
    verify    a published folder, read back byte by byte

Nothing here knows peers, operations or time. The result is a function of the plan; the budget, the number
of threads and the machine have no influence on any bit.
"""

from .admission import Progress, check_schema, check_values, cosine_to_base
from .merging import Contribution, Evidence, Model, admit, merge, publish, reader_within, take
from .payload import Payload, read_payload, take_coefficients
from .plan import Plan, plan
from .published import check_payload, floating
from .result import Result
from .sinks import FileSink, MemorySink
from .stream import BUDGET_BYTES, execute, passes
from .verify import CORRECTIONS, MODEL, RECORD, read_record, verify_result

__all__ = [
    "BUDGET_BYTES",
    "CORRECTIONS",
    "MODEL",
    "RECORD",
    "Contribution",
    "Evidence",
    "FileSink",
    "MemorySink",
    "Model",
    "Payload",
    "Plan",
    "Progress",
    "Result",
    "admit",
    "check_payload",
    "check_schema",
    "check_values",
    "cosine_to_base",
    "execute",
    "floating",
    "merge",
    "passes",
    "plan",
    "publish",
    "read_payload",
    "read_record",
    "reader_within",
    "take",
    "take_coefficients",
    "verify_result",
]
