"""Short names of sites and features, and where a site lies in depth."""

import re
from collections.abc import Sequence

from energylens.core.sites import layer_of, parse_port

_BLOCK = re.compile(r"blocks\.(\d+)\.(.+)")
# Share of a block that lies below a site of it; what is not named lies above all of it.
_BELOW: dict[str, float] = {"resid_pre": 0.0, "attn.z": 0.25, "attn_out": 0.25, "resid_mid": 0.5}


def site_label(site: str) -> str:
    """The layer alone where the residual stream leaves it, else the layer and what it is; of a
    module's output the end of its path.

    Example:
        >>> site_label("blocks.15.resid_post"), site_label("blocks.0.resid_pre")
        ('15', '0 pre')
        >>> site_label("vit.layers.3:out"), site_label("hidden1:out")
        ('layers.3', 'hidden1')
    """
    found = _BLOCK.fullmatch(site)
    if not found:
        port = parse_port(site)
        return ".".join(port.path.split(".")[-2:]) if port and port.side == "out" else site
    layer, what = found.groups()
    return layer if what == "resid_post" else f"{layer} {what.removeprefix('resid_')}"


def feature_name(site: str, feature: float | int) -> str:
    """A feature as people speak of it.

    Example:
        >>> feature_name("blocks.15.resid_post", 2904.0), feature_name("blocks.0.resid_pre", 7)
        ('L15·2904', 'L0pre·7')
        >>> feature_name("blocks.1.resid_post+blocks.3.resid_post", 7)
        'L1+L3·7'
    """
    labels = (site_label(one).replace(" ", "") for one in site.split("+"))
    told = "+".join(f"{'L' if label[:1].isdigit() else ''}{label}" for label in labels)
    return f"{told}·{int(feature)}"


def depths(sites: Sequence[str]) -> dict[str, float]:
    """Where each site lies in depth; where none lies in a block, they follow one another.

    Example:
        >>> depths(["blocks.0.resid_pre", "blocks.2.resid_post"])
        {'blocks.0.resid_pre': 0.0, 'blocks.2.resid_post': 3.0}
        >>> depths(["conv1:out", "conv2:out", "conv1:out"])
        {'conv1:out': 0.0, 'conv2:out': 1.0}
    """
    once = dict.fromkeys(sites)
    if all(layer_of(site) is None for site in once):
        return {site: float(number) for number, site in enumerate(once)}
    return {site: depth(site) for site in once}


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
