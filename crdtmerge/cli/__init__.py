"""The command line: every command works on a folder, prints for people or as JSON, and says what to do.

Exit codes:
    0  done
    1  an unexpected error: a bug, with its traceback
    2  you: wrong usage, missing permission, a model that does not fit
    3  a peer or a file from outside was refused, or a check failed
    4  something has not arrived yet: sync and try again
    5  the disk failed, or stored bytes are corrupt
    6  two honest results differ, or a simulation broke a promise: please report it
  130  interrupted
"""

from .main import main

__all__ = ["main"]
