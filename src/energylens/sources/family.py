"""A model family is data: where the canonical sites are in the modules of an architecture."""

from collections.abc import Mapping
from dataclasses import dataclass

from energylens.core.errors import UnknownName
from energylens.core.registry import Registry


@dataclass(frozen=True, kw_only=True)
class Family:
    """Where an architecture keeps its canonical sites.

    Ports are level-1 names (`module.path:in`, `module.path:out[0]`); a site that the architecture
    does not have is left out.

    Attributes:
        name: Name of the family.
        model_types: Values of `config.model_type` that it covers.
        blocks: Path of the list of blocks.
        block_sites: Port of each site of a block, with `{block}` for the block's path, in the order
            a forward pass reaches them.
        model_sites: Port of each site outside the blocks.
        writers: Block sites whose sum is what the block adds to the residual stream.
        parallel: Whether attention and MLP both read the stream that enters the block; such a
            block has no `resid_mid`.
        final_norm: Path of the norm before the unembedding.
        unembed: Path of the unembedding.
    """

    name: str
    model_types: tuple[str, ...]
    blocks: str
    block_sites: Mapping[str, str]
    model_sites: Mapping[str, str]
    writers: tuple[str, ...] = ("attn_out", "mlp_out")
    parallel: bool = False
    final_norm: str
    unembed: str


FAMILIES: Registry[Family] = Registry("model family", "energylens.sources.families")


def register(family: Family) -> Family:
    """Make a family known under each of its model types."""
    for model_type in family.model_types:
        FAMILIES.add(model_type, family)
    return family


def family_of(model_type: str) -> Family:
    """The family of an architecture, by `config.model_type`.

    Raises:
        UnknownName: If no family covers it; the message lists those that are known.

    Example:
        >>> family_of("qwen3").name
        'llama'
    """
    if model_type in FAMILIES:
        return FAMILIES[model_type]
    advice = (
        f"(known are {', '.join(FAMILIES)}); sites named by their module, as in"
        " `module.path:out`, work on any model"
    )
    raise UnknownName("model family", model_type, FAMILIES, advice=advice)
