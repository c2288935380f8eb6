"""All inference: nulls, intervals, multiplicity. Rooms call it; none writes its own p-value."""
