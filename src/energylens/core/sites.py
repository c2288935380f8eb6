"""Names of places in a model.

Level 1, valid on any `nn.Module`:  `module.path:in`, `module.path:out`, `module.path:out[0]`.
Level 2, canonical on transformers: `blocks.3.resid_post`, `blocks.3.attn.z`, `embed`, `logits`.
The strings that published dictionaries carry (`blocks.3.hook_resid_post`, `("resid_post", 3)`)
are aliases of level 2.
"""

import re
from fnmatch import fnmatchcase
from typing import NamedTuple

from energylens.core.errors import BadInput

BLOCK_SITES: dict[str, str] = {
    "resid_pre": "residual stream entering the block",
    "resid_mid": "residual stream between attention and MLP",
    "resid_post": "residual stream leaving the block",
    "attn_out": "what attention adds to the residual stream",
    "mlp_out": "what the MLP adds to the residual stream",
    "attn.z": "head outputs before the output projection, heads side by side",
    "mlp.post": "MLP hidden activations before the down projection",
}
MODEL_SITES: dict[str, str] = {
    "embed": "token embeddings, with learned positions where the model adds them",
    "ln_final.normalized": "final residual stream after the final norm",
    "logits": "unnormalised scores of the next token",
}
_ALIASES: dict[str, str] = {
    "hook_resid_pre": "resid_pre",
    "hook_resid_mid": "resid_mid",
    "hook_resid_post": "resid_post",
    "hook_attn_out": "attn_out",
    "hook_mlp_out": "mlp_out",
    "attn.hook_z": "attn.z",
    "mlp.hook_post": "mlp.post",
    "hook_in": "resid_pre",
    "hook_out": "resid_post",
    "attn.hook_out": "attn_out",
    "mlp.hook_out": "mlp_out",
    "attn.o.hook_in": "attn.z",
    "mlp.out.hook_in": "mlp.post",
}
_MODEL_ALIASES = {
    "hook_embed": "embed",
    "ln_final.hook_normalized": "ln_final.normalized",
    "unembed.hook_in": "ln_final.normalized",
}
_BLOCK = re.compile(r"^blocks\.(-?\d+|\*)\.(.+)$")
_PORT = re.compile(r"^(?P<path>.*):(?P<port>in|out)(?:\[(?P<index>\d+)\])?$")


class Port(NamedTuple):
    """One tensor of one module: `path:in` or `path:out[index]`."""

    path: str
    side: str
    item: int | None = None

    def __str__(self) -> str:
        return f"{self.path}:{self.side}" + ("" if self.item is None else f"[{self.item}]")


def parse_port(text: str) -> Port | None:
    """Read a level-1 name; None if it is not one.

    Example:
        >>> parse_port("model.layers.3.self_attn:out[0]")
        Port(path='model.layers.3.self_attn', side='out', item=0)
    """
    found = _PORT.match(text)
    if not found:
        return None
    index = found["index"]
    return Port(found["path"], found["port"], None if index is None else int(index))


def canonical(site: str | tuple[str, int]) -> str:
    """The canonical form of a site name or of one of its aliases.

    Example:
        >>> canonical("blocks.3.hook_resid_post"), canonical(("resid_post", 3))
        ('blocks.3.resid_post', 'blocks.3.resid_post')
    """
    if isinstance(site, tuple):
        name, layer = site
        return canonical(f"blocks.{layer}.{name}")
    if site in _MODEL_ALIASES:
        return _MODEL_ALIASES[site]
    if found := _BLOCK.match(site):
        layer_text, name = found.groups()
        return f"blocks.{layer_text}.{_ALIASES.get(name, name)}"
    return site


def layer_of(site: str) -> int | None:
    """The block a canonical site belongs to; None outside the blocks.

    Example:
        >>> layer_of("blocks.3.resid_post"), layer_of("embed")
        (3, None)
    """
    found = _BLOCK.match(site)
    return int(found.group(1)) if found and found.group(1) != "*" else None


def expand(pattern: str, known: list[str]) -> list[str]:
    """The known sites that a wildcard names, in the order given.

    Raises:
        BadInput: If the pattern matches nothing.

    Example:
        >>> expand("blocks.*.resid_post", ["embed", "blocks.0.resid_post", "blocks.1.resid_post"])
        ['blocks.0.resid_post', 'blocks.1.resid_post']
    """
    found = [name for name in known if fnmatchcase(name, canonical(pattern))]
    if not found:
        raise BadInput(f"no site matches {pattern!r}: known are {', '.join(known[:6])}, …")
    return found
