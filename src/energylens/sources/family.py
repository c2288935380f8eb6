"""A model family is data: where the canonical sites are in the modules of an architecture."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from energylens.core.errors import UnknownName
from energylens.core.registry import Registry


@dataclass(frozen=True, kw_only=True)
class Family:
    """Where an architecture keeps its canonical sites.

    Written by hand for a few architectures and discovered for all others. Ports are level-1 names
    (`module.path:in`, `module.path:out[0]`); a site that the architecture does not have is left
    out.

    Attributes:
        name: Name of the family.
        model_types: Values of `config.model_type` that it covers.
        blocks: Path of the list of blocks.
        first_block: Where the blocks begin in that list.
        block_sites: Port of each site of a block, with `{block}` for the block's path, in the order
            a forward pass reaches them.
        model_sites: Port of each site outside the blocks.
        writers: What a block adds to the residual stream: names of block sites, or ports with
            `{block}` where no canonical name says what the module does.
        writer_scale: The number that the writers' sum is multiplied by before it is added.
        parallel: Whether attention and MLP both read the stream that enters the block; such a
            block has no `resid_mid`.
        final_norm: Paths of the modules that lead, one after the other, from the last residual
            stream to the unembedding; mostly one norm.
        unembed: Path of the unembedding; None where the model has none.
        logit_scale: Logits over what the unembedding gives.
        absent: Sites that were looked for in vain, and why; `lens` stands for the way from the last
            residual stream to the logits.
    """

    name: str
    model_types: tuple[str, ...]
    blocks: str
    first_block: int = 0
    block_sites: Mapping[str, str]
    model_sites: Mapping[str, str]
    writers: tuple[str, ...] = ("attn_out", "mlp_out")
    writer_scale: float = 1.0
    parallel: bool = False
    final_norm: tuple[str, ...]
    unembed: str | None
    logit_scale: float = 1.0
    absent: Mapping[str, str] = field(default_factory=dict)

    def block(self, layer: int) -> str:
        """Path of a block.

        Example:
            >>> family_of("gpt2").block(3)
            'transformer.h.3'
        """
        return f"{self.blocks}.{self.first_block + layer}".lstrip(".")


FAMILIES: Registry[Family] = Registry("model family", "energylens.sources.families")


def register(family: Family) -> Family:
    """Make a family known under each of its model types."""
    for model_type in family.model_types:
        FAMILIES.add(model_type, family)
    return family


def family_of(model_type: str) -> Family:
    """The family of an architecture that has a table written by hand, by `config.model_type`.

    Raises:
        UnknownName: If no table covers it; the message lists those that do.

    Example:
        >>> family_of("qwen3").name
        'llama'
    """
    if model_type in FAMILIES:
        return FAMILIES[model_type]
    advice = (
        f"(written by hand are {', '.join(FAMILIES)}); of others the sites are discovered when the"
        " model is wrapped"
    )
    raise UnknownName("model family", model_type, FAMILIES, advice=advice)
