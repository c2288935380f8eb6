"""Sets of examples, one file a set: they register themselves."""
