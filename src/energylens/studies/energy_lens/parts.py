"""Names of a run's parts: one a kind of work and site."""

import re


def part_of(kind: str, site: str) -> str:
    """The part that holds some work on a site; what a file's name cannot hold becomes a dash.

    Example:
        >>> part_of("proof", "blocks.3.resid_post"), part_of("proof", "vit.layers.0:out")
        ('proof.blocks.3.resid_post', 'proof.vit.layers.0-out')
    """
    return f"{kind}.{file_name(site)}"


def file_name(site: str) -> str:
    """A site as a file or folder is named after it."""
    return re.sub(r"[^A-Za-z0-9_.]+", "-", site).strip("-.")
