"""One file per dictionary architecture."""
