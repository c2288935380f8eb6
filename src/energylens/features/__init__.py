"""Sparse dictionaries of activations: train, judge, save."""
