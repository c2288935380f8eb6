"""Trackers: one file each, with a function `start(run_dir, options)` that opens it."""
