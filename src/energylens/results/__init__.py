"""Frozen records of what was found; no disk, no model."""
