"""Protobuf modules, made from proto/ by tools/protos.py; never edited."""
