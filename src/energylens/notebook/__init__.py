"""The main job, step by step, for a notebook or a script of one's own.

Each function is a thin wiring of the rooms; studies do the same with every control, and keep what
they did.
"""
