"""Crosscoders: one sparse code of several sites, read from all of them and written to all of them.

Lindsey et al. 2024, "Sparse Crosscoders for Cross-Layer Features and Model Diffing". The sites may
be layers of one model or two models of different widths: all that is asked for is that row i of
each is the same token. A crosscoder is a dictionary of the sites' rows side by side, so that every
architecture, format and measure of dictionaries takes it as it is.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from energylens.core.errors import BadInput
from energylens.features.code import SparseCode
from energylens.features.dictionary import Dictionary

SITES = "crosscoder_sites"
"""Under which a dictionary's metadata say that it is a crosscoder."""


@dataclass(frozen=True, kw_only=True)
class Site:
    """A site of a crosscoder.

    Attributes:
        name: What it is called, such as `blocks.3.resid_post`.
        width: Values a row.
        spread: Root mean square distance of its rows from their mean, when trained; the unit in
            which its decoder norms are compared with those of other sites.
    """

    name: str
    width: int
    spread: float | int


@dataclass(frozen=True, kw_only=True, eq=False)
class Crosscoder:
    """A dictionary of the rows of several sites, side by side in the order of `sites`.

    Raises:
        BadInput: If the dictionary does not read and write rows as wide as the sites together.
    """

    dictionary: Dictionary
    sites: tuple[Site, ...]

    def __post_init__(self) -> None:
        wide, made = sum(self.widths), self.dictionary
        if not (made.d_in == made.d_out == wide) or len(set(self.names)) < len(self.sites):
            raise BadInput(
                f"the sites {', '.join(self.names)} have {wide} values a row, the dictionary reads"
                f" {made.d_in} and writes {made.d_out}: these must be equal, and names differ"
            )

    @classmethod
    def of(cls, dictionary: Dictionary) -> "Crosscoder":
        """The crosscoder that a dictionary's metadata say it is.

        Raises:
            BadInput: If they do not say so, or what they say is not of this dictionary.
        """
        said = dictionary.metadata.get(SITES)
        if not isinstance(said, list) or not said or not all(map(_is_site, said)):
            raise BadInput(
                f"metadata of a crosscoder list its sites as {SITES}, each with a name, a width and"
                f" a spread above 0; found {said!r}"
            )
        return cls(dictionary=dictionary, sites=tuple(Site(**site) for site in said))

    @property
    def weights(self) -> dict[str, Tensor]:
        """All its tensors by name."""
        return self.dictionary.weights

    @property
    def names(self) -> tuple[str, ...]:
        """The sites' names in their order."""
        return tuple(site.name for site in self.sites)

    @property
    def widths(self) -> tuple[int, ...]:
        """The sites' widths in their order."""
        return tuple(site.width for site in self.sites)

    def encode(self, rows: Mapping[str, Float[Tensor, "sample _"]]) -> SparseCode:
        """The code that all sites have in common.

        Raises:
            BadInput: If a site is missing or there is another, or if widths, types or numbers of
                rows are not what they should be.
        """
        return self.dictionary.encode(self._together(rows))

    def decode(self, code: SparseCode) -> dict[str, Float[Tensor, "sample _"]]:
        """What a code makes of each site.

        Raises:
            BadInput: If the code is of a dictionary of another width.
        """
        return self._apart(self.dictionary.decode(code))

    def reconstruct(
        self, rows: Mapping[str, Float[Tensor, "sample _"]]
    ) -> dict[str, Float[Tensor, "sample _"]]:
        """`decode(encode(rows))`."""
        return self.decode(self.encode(rows))

    @property
    def decoders(self) -> dict[str, Float[Tensor, "feature _"]]:
        """What each feature writes to each site, in the units of its rows."""
        return self._apart(self.dictionary.W_dec)

    @property
    def unit(self) -> Float[Tensor, " d_out"]:
        """Of each value of a row over all sites: the spread of its site."""
        spread = [site.spread for site in self.sites for _ in range(site.width)]
        return self.dictionary.W_dec.new_tensor(spread)

    @property
    def directions(self) -> Float[Tensor, "feature d_out"]:
        """Decoder rows over all sites, each site in units of its spread."""
        return self.dictionary.W_dec / self.unit

    @property
    def in_units(self) -> Dictionary:
        """What makes of rows whose sites are in units of their spread what this one makes of them.

        Its features are the same, and as active.
        """
        made, unit = self.dictionary, self.unit
        skip = made.W_skip if made.W_skip is None else made.W_skip / unit[:, None] * unit
        return replace(
            made, W_enc=made.W_enc * unit, W_dec=made.W_dec / unit, b_dec=made.b_dec / unit,
            W_skip=skip,
        )  # fmt: skip

    @property
    def norms(self) -> Float[Tensor, "feature site"]:
        """Decoder norm of each feature at each site, in units of the site's spread."""
        parts = self.directions.split(self.widths, dim=1)
        return torch.stack([torch.linalg.vector_norm(part, dim=1) for part in parts], dim=1)

    @property
    def relative_norms(self) -> Float[Tensor, "feature site"]:
        """The share of each site in a feature's decoder norms; nan of one that writes nothing.

        Of two sites, a feature of the first alone has (1, 0) and one they share equally (½, ½).
        """
        norms = self.norms
        total = norms.sum(dim=1, keepdim=True)
        return norms / torch.where(total > 0, total, torch.nan)

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> "Crosscoder":
        """The same crosscoder on another device or in another floating type."""
        return replace(self, dictionary=self.dictionary.to(device, dtype))

    def _together(self, rows: Mapping[str, Tensor]) -> Tensor:
        found = {name: tuple(r.shape) for name, r in rows.items()}
        fits = set(found) == set(self.names) and all(
            found[site.name][1:] == (site.width,) for site in self.sites
        )
        if not fits or len({shape[0] for shape in found.values()}) > 1:
            wanted = ", ".join(f"{site.name} of {site.width} values" for site in self.sites)
            raise BadInput(
                f"the crosscoder reads {wanted}, equally many rows of each; found {found}"
            )
        return side_by_side({name: rows[name] for name in self.names})

    def _apart(self, together: Tensor) -> dict[str, Tensor]:
        return dict(zip(self.names, together.split(self.widths, dim=1), strict=True))


def _is_site(said: Any) -> bool:
    if not isinstance(said, dict) or set(said) != {"name", "width", "spread"}:
        return False
    return (
        type(said["name"]) is str
        and type(said["width"]) is int
        and type(said["spread"]) in (int, float)
        and said["width"] > 0
        and 0 < said["spread"] < float("inf")
    )


def side_by_side(sites: Mapping[str, Tensor]) -> Float[Tensor, "sample d"]:
    """The rows of several sites as one matrix, sites in the order given.

    Raises:
        BadInput: If they have other numbers of rows, or other types.
    """
    kinds = {(part.ndim, len(part), part.dtype) for part in sites.values()}
    if len(kinds) != 1 or next(iter(kinds))[0] != 2:
        found = ", ".join(f"{name} {tuple(p.shape)} {p.dtype}" for name, p in sites.items())
        raise BadInput(
            f"sites need equally many rows of one type, row i of each of the same token: {found}"
        )
    return torch.cat(list(sites.values()), dim=1)
