"""Where a dictionary of any kind stands: which sites it reads, and where its decoder rows lie."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from energylens.core.errors import BadInput
from energylens.core.sites import canonical
from energylens.features.baselines import least_squares_map, random_baseline
from energylens.features.chance import random_dictionary_like
from energylens.features.code import SparseCode
from energylens.features.cross_layer import CrossLayerTranscoder
from energylens.features.crosscoder import Crosscoder
from energylens.features.dictionary import Dictionary
from energylens.features.evaluate import fvu
from energylens.features.formats.recognise import Loaded
from energylens.features.seat import BESIDE, STREAM, seat_of_crosscoder, seat_of_layers
from energylens.studies.browse_dictionary import BrowseDictionary

ADDED = ("attn_out", "mlp_out")
"""Sites that are added to the stream; what is written to several of them adds up there."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Placed:
    """A dictionary of rows that lie side by side, with the sites that these are of.

    Attributes:
        kind: What it is called.
        dictionary: Its features.
        reads: Sites whose rows it is given.
        writes: Sites that its decoder rows lie at; those that it reads, unless it is a transcoder.
        widths: Values that lie at each of the sites that are written.
        unit: Of each of these values: the spread of its site, of a crosscoder.
        layers: The whole transcoder, of which this is one layer, and what it reads by layer.
    """

    kind: str
    dictionary: Dictionary
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    widths: tuple[int, ...]
    unit: Float[Tensor, " d_out"]
    layers: tuple[CrossLayerTranscoder, Mapping[int, str]] | None = None

    @property
    def site(self) -> str:
        """What is read, as a name."""
        return BESIDE.join(self.reads)

    @property
    def target(self) -> str:
        """What is written, as a name."""
        return BESIDE.join(self.writes)

    @property
    def sites(self) -> list[str]:
        """What must be seen to tell how well it reconstructs."""
        further = [] if self.layers is None else self.layers[1].values()
        return list(dict.fromkeys([*self.reads, *self.writes, *further]))

    def encode(self, rows: Mapping[str, Float[Tensor, "sample _"]]) -> SparseCode:
        """The code of the rows of the sites that are read."""
        return self.dictionary.encode(_beside(rows, self.reads))

    @property
    def directions(self) -> Float[Tensor, "feature d_out"]:
        """Decoder rows, each value in its unit."""
        return self.dictionary.W_dec / self.unit

    @property
    def site_norms(self) -> Float[Tensor, "feature site"]:
        """Length of what each feature writes to each site, in the units."""
        parts = self.directions.split(self.widths, dim=1)
        return torch.stack([torch.linalg.vector_norm(part, dim=1) for part in parts], 1)

    @property
    def stream(self) -> str | None:
        """The site of the residual stream that holds all that is written; None if none does."""
        block, _, name = self.writes[-1].rpartition(".")
        if {site.rpartition(".")[2] for site in self.writes} <= set(ADDED):
            return f"{block}.resid_post"
        return self.writes[-1] if name in STREAM else None

    @property
    def to_stream(self) -> Float[Tensor, "feature d_model"]:
        """What a unit of each feature puts into the stream.

        What is written to several blocks' outputs adds up; several sites of the stream hold the
        same feature, and the last of them has the whole of it.
        """
        parts = self.dictionary.W_dec.split(self.widths, dim=1)
        if self.writes[-1].rpartition(".")[2] in ADDED:
            return torch.stack(parts).sum(0)
        return parts[-1]

    def fvu(self, rows: Mapping[str, Float[Tensor, "sample _"]]) -> float:
        """Variance that it leaves unexplained, in the units; of one layer, all layers helping."""
        if self.layers is None:
            made = self.dictionary.reconstruct(_beside(rows, self.reads))
            return float(fvu(self._goal(rows), made / self.unit))
        model, sites = self.layers
        made = model.reconstruct({layer: rows[site] for layer, site in sites.items()})
        (layer,) = (n for n, site in sites.items() if site == self.reads[0])
        return float(fvu(self._goal(rows), made[layer]))

    def fvu_random(
        self, rows: Mapping[str, Float[Tensor, "sample _"]], k: int, generator: torch.Generator
    ) -> float:
        """The same of as many random features, k of them active.

        Of what is written elsewhere, they are features of what a least-squares map of the rows that
        are read predicts; fitted on the same rows, which favours them. nan where there are too few
        rows for a map.
        """
        goal, own = self._goal(rows), replace(self.dictionary, k=k)
        if self.kind == "dictionary":
            return float(fvu(goal, random_dictionary_like(own, generator).reconstruct(goal)))
        near = goal
        if self.reads != self.writes:
            read = _beside(rows, self.reads)
            if len(read) <= read.shape[1]:
                return math.nan
            near = least_squares_map(read, goal)(read)
        random = random_baseline(near, own.width, k, generator)
        return float(fvu(goal, random.reconstruct(near)))

    def _goal(self, rows: Mapping[str, Tensor]) -> Tensor:
        """What is to be made, in the units; of one layer of many, what that layer writes."""
        sites = self.writes if self.layers is None else self.writes[:1]
        found = _beside(rows, sites)
        return found / self.unit[: found.shape[1]]

    def to(self, device: torch.device | str | None, dtype: torch.dtype | None) -> "Placed":
        """The same on another device or in another floating type."""
        moved = replace(
            self, dictionary=self.dictionary.to(device, dtype), unit=self.unit.to(device, dtype)
        )
        if self.layers is None:
            return moved
        model, sites = self.layers
        return replace(moved, layers=(model.to(device, dtype), sites))


def _beside(rows: Mapping[str, Tensor], sites: tuple[str, ...]) -> Tensor:
    return torch.cat([rows[site] for site in sites], 1).float()


def place(found: Loaded, options: BrowseDictionary) -> Placed:
    """Settle where a dictionary stands, from what is asked and what it says itself.

    Raises:
        BadInput: If neither says it, or what is asked does not fit the kind of dictionary.
    """
    if isinstance(found, CrossLayerTranscoder):
        return _layer(found, options)
    if options.layer >= 0:
        raise BadInput(
            f"--layer {options.layer} was given, and {options.dictionary} is no cross-layer"
            " transcoder: leave it out"
        )
    if isinstance(found, Crosscoder):
        return _crosscoder(found, options)
    return _of_one_site(found, options)


def _of_one_site(found: Dictionary, options: BrowseDictionary) -> Placed:
    said = options.site or found.metadata.get("hook_name")
    if not said:
        raise BadInput(
            f"{options.dictionary} does not say where it reads (no hook_name): name the place with"
            " --site, such as blocks.3.resid_post"
        )
    site = canonical(str(said))
    told = options.target_site or found.metadata.get("hook_name_out")
    target = canonical(str(told)) if told else site
    elsewhere = found.W_skip is not None or found.d_in != found.d_out
    if elsewhere and target == site:
        raise BadInput(
            f"{options.dictionary} is a transcoder from {found.d_in} to {found.d_out} values and"
            " does not say where it writes (no hook_name_out): name the place with --target-site"
        )
    return Placed(
        kind="dictionary" if target == site else "transcoder", dictionary=found, reads=(site,),
        writes=(target,), widths=(found.d_out,), unit=found.W_dec.new_ones(found.d_out),
    )  # fmt: skip


def _crosscoder(found: Crosscoder, options: BrowseDictionary) -> Placed:
    _refuse_sites(options, f"a crosscoder of {', '.join(found.names)}")
    sites = seat_of_crosscoder(found, options.dictionary).reads
    return Placed(
        kind="crosscoder", dictionary=found.dictionary, reads=sites, writes=sites,
        widths=found.widths, unit=found.unit,
    )  # fmt: skip


def _layer(found: CrossLayerTranscoder, options: BrowseDictionary) -> Placed:
    known = ", ".join(map(str, found.layers))
    if options.layer not in found.layers:
        asked = "" if options.layer < 0 else f"--layer {options.layer} was given, and "
        raise BadInput(
            f"{asked}{options.dictionary} is a cross-layer transcoder of the layers {known}: name"
            " with --layer whose features are to be browsed"
        )
    _refuse_sites(options, f"a cross-layer transcoder of the layers {known}")
    seat = seat_of_layers(found, options.dictionary)
    at = found.layers.index(options.layer)
    own = found.part(at)
    return Placed(
        kind=f"layer {options.layer} of a cross-layer transcoder", dictionary=own,
        reads=seat.reads[at : at + 1], writes=seat.writes[at:], widths=seat.write_widths[at:],
        unit=own.W_dec.new_ones(own.d_out),
        layers=(found, dict(zip(found.layers, seat.reads, strict=True))),
    )  # fmt: skip


def _refuse_sites(options: BrowseDictionary, kind: str) -> None:
    if given := options.site or options.target_site:
        raise BadInput(
            f"the site {given} was given, and {options.dictionary} is {kind}: it says itself where"
            " it belongs, so leave the site out"
        )
