"""Where a dictionary sits in a model: sites that it reads, sites that it writes, their units."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from energylens.core.errors import BadInput
from energylens.core.sites import canonical, parse_port
from energylens.features.cross_layer import CrossLayerTranscoder
from energylens.features.crosscoder import Crosscoder

STREAM = ("resid_pre", "resid_mid", "resid_post")
BESIDE = "+"
"""Between the names of sites whose rows lie side by side."""


@dataclass(frozen=True, kw_only=True)
class Seat:
    """Sites whose rows lie side by side, each in its unit.

    Attributes:
        reads: Sites that are read.
        writes: Sites that are written; those that are read, unless it is a transcoder's.
        read_widths: Values a row of each site that is read.
        write_widths: Of each that is written.
        units: What a value of each site is divided by, in the order of `sites`; 1 unless given.
    """

    reads: tuple[str, ...]
    writes: tuple[str, ...]
    read_widths: tuple[int, ...]
    write_widths: tuple[int, ...]
    units: tuple[float, ...] = ()

    @classmethod
    def of_site(
        cls, site: str, d_in: int, target: str | None = None, d_out: int | None = None
    ) -> "Seat":
        """Of one site, or of one that is read and another that is written."""
        return cls(
            reads=(site,), writes=(target or site,), read_widths=(d_in,),
            write_widths=(d_in if d_out is None else d_out,),
        )  # fmt: skip

    @property
    def sites(self) -> tuple[str, ...]:
        """All sites, each once."""
        return tuple(dict.fromkeys((*self.reads, *self.writes)))

    @property
    def writes_elsewhere(self) -> bool:
        """Whether it is a transcoder's."""
        return self.reads != self.writes

    @property
    def site(self) -> str:
        """What is read, as a name."""
        return BESIDE.join(self.reads)

    @property
    def target(self) -> str:
        """What is written, as a name."""
        return BESIDE.join(self.writes)

    @property
    def turns(self) -> tuple[tuple[str, ...], ...]:
        """Which sites are changed together.

        What is put into the residual stream replaces what was put in further down: then each site
        is changed by itself.

        Example:
            >>> widths = (8, 8)
            >>> Seat(reads=("a", "b"), writes=("blocks.0.mlp_out", "blocks.1.mlp_out"),
            ...      read_widths=widths, write_widths=widths).turns
            (('blocks.0.mlp_out', 'blocks.1.mlp_out'),)
            >>> Seat.of_site("blocks.1.resid_post", 8).turns
            (('blocks.1.resid_post',),)
        """
        if any(site.rpartition(".")[2] in STREAM for site in self.writes):
            return tuple((site,) for site in self.writes)
        return (self.writes,)

    def read(self, rows: Mapping[str, Float[Tensor, "*sample _"]]) -> Float[Tensor, "*sample d_in"]:
        """Rows of the sites that are read, side by side in their units."""
        return self._beside(rows, self.reads)

    def written(
        self, rows: Mapping[str, Float[Tensor, "*sample _"]]
    ) -> Float[Tensor, "*sample d_out"]:
        """Rows of the sites that are written, side by side in their units."""
        return self._beside(rows, self.writes)

    def apart(self, rows: Float[Tensor, "*sample d_out"]) -> dict[str, Float[Tensor, "*sample _"]]:
        """What `written` put side by side, as it came.

        Example:
            >>> seat = Seat(reads=("a",), writes=("a", "b"), read_widths=(1,), write_widths=(1, 2),
            ...             units=(2.0, 10.0))
            >>> rows = {"a": torch.tensor([[4.0]]), "b": torch.tensor([[10.0, 30.0]])}
            >>> seat.written(rows).tolist()
            [[2.0, 1.0, 3.0]]
            >>> {site: part.tolist() for site, part in seat.apart(seat.written(rows)).items()}
            {'a': [[4.0]], 'b': [[10.0, 30.0]]}
        """
        parts = zip(self.writes, rows.split(self.write_widths, dim=-1), strict=True)
        return {site: part * self._unit(site) for site, part in parts}

    def _beside(self, rows: Mapping[str, Tensor], sites: tuple[str, ...]) -> Tensor:
        parts = [rows[site] if self._unit(site) == 1 else rows[site] / self._unit(site)
                 for site in sites]  # fmt: skip
        return parts[0] if len(parts) == 1 else torch.cat(parts, -1)

    def _unit(self, site: str) -> float:
        return self.units[self.sites.index(site)] if self.units else 1.0


def seat_of_crosscoder(crosscoder: Crosscoder, called: object) -> Seat:
    """All its sites, each in units of its spread.

    Args:
        called: What an error calls it.

    Raises:
        BadInput: If the sites are of several models.
    """
    of_models = [name for name in crosscoder.names if ":" in name and parse_port(name) is None]
    if of_models:
        models = ", ".join(dict.fromkeys(name.partition(":")[0] for name in of_models))
        raise BadInput(
            f"{called} is a crosscoder of several models ({models}), and studies take those of one:"
            " encode the rows of each from Python"
        )
    names = tuple(canonical(name) for name in crosscoder.names)
    return Seat(
        reads=names, writes=names, read_widths=crosscoder.widths, write_widths=crosscoder.widths,
        units=tuple(float(site.spread) for site in crosscoder.sites),
    )  # fmt: skip


def seat_of_layers(transcoder: CrossLayerTranscoder, called: object) -> Seat:
    """What each layer reads and what it writes, as its metadata say.

    Args:
        called: What an error calls it.

    Raises:
        BadInput: If they do not say so.
    """
    within = [transcoder.metadata.get(f"feature_{way}_hook") for way in ("input", "output")]
    if not all(within):
        raise BadInput(
            f"{called} does not say what it reads and writes in a block (feature_input_hook,"
            " feature_output_hook): write them into its settings"
        )
    reads, writes = (
        tuple(canonical(f"blocks.{layer}.{site}") for layer in transcoder.layers) for site in within
    )
    many = len(transcoder.layers)
    return Seat(
        reads=reads, writes=writes, read_widths=(transcoder.d_in,) * many,
        write_widths=(transcoder.d_out,) * many,
    )  # fmt: skip
