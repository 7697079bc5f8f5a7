"""The merge strategies that ship with crdtmerge; importing this registers them."""
