"""Placeholder opening."""
