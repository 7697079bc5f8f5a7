"""``python -m crdtmerge.cli`` is the command ``crdtmerge``."""

from .main import main

main()
