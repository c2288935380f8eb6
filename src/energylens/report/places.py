"""Short names of sites and features, and where a site lies in depth."""

import re

from energylens.core.sites import layer_of

_BLOCK = re.compile(r"blocks\.(\d+)\.(.+)")
# Share of a block that lies below a site of it; what is not named lies above all of it.
_BELOW: dict[str, float] = {"resid_pre": 0.0, "attn.z": 0.25, "attn_out": 0.25, "resid_mid": 0.5}


def site_label(site: str) -> str:
    """The layer alone where the residual stream leaves it, else the layer and what it is.

    Example:
        >>> site_label("blocks.15.resid_post"), site_label("blocks.0.resid_pre")
        ('15', '0 pre')
    """
    found = _BLOCK.fullmatch(site)
    if not found:
        return site
    layer, what = found.groups()
    return layer if what == "resid_post" else f"{layer} {what.removeprefix('resid_')}"


def feature_name(site: str, feature: float | int) -> str:
    """A feature as people speak of it.

    Example:
        >>> feature_name("blocks.15.resid_post", 2904.0), feature_name("blocks.0.resid_pre", 7)
        ('L15·2904', 'L0pre·7')
    """
    label = site_label(site).replace(" ", "")
    return f"{'L' if label[:1].isdigit() else ''}{label}·{int(feature)}"


def depth(site: str) -> float:
    """Blocks below a site, so that what enters a block and what leaves it are told apart.

    Example:
        >>> depth("blocks.0.resid_pre"), depth("blocks.0.resid_post"), depth("embed")
        (0.0, 1.0, 0.0)
    """
    layer = layer_of(site)
    if layer is None:
        return 0.0
    found = _BLOCK.fullmatch(site)
    return layer + _BELOW.get(found[2] if found else "", 1.0)
