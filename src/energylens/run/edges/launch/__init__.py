"""Launchers: one file each. A new one is a file here, and `--on` knows it by its name."""
