"""The page a person reads; built from records alone, without torch."""
