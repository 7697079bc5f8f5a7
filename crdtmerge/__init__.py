"""Peer-to-peer merging of fine-tuned models: every replica computes the same model, byte for byte."""
