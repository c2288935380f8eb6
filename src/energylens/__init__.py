"""Energylens: energy, features, curvature, dynamics and circuits of neural networks."""

__version__ = "0.1.0"
