"""One file per file format of dictionaries."""
