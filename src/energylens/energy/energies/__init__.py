"""One file per energy."""
