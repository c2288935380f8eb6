"""Models and data: the only importer of transformers."""
