"""Scalar energies over states, and how features align with them."""
