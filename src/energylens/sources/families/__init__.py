"""One file per model family: a table of sites, keyed by `config.model_type`."""
