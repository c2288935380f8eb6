"""Processes that share one computation, one file an engine."""
