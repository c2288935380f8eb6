"""Counts in words."""


def several(count: int, noun: str, plural: str = "") -> str:
    """A count with its noun.

    Example:
        >>> several(1, "feature"), several(3790, "feature"), several(0, "discovery", "discoveries")
        ('1 feature', '3,790 features', 'no discoveries')
    """
    many = plural or noun + "s"
    if count == 0:
        return f"no {many}"
    return f"{count:,} {noun if count == 1 else many}"
