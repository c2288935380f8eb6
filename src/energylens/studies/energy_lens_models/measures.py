"""What is read off one model: |EFAS| by depth, and what its features do on the common passages."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from energylens.activations.batch import Batch
from energylens.activations.subject import Subject
from energylens.core.ports import Nested
from energylens.core.sites import layer_of
from energylens.features.dictionary import Dictionary
from energylens.features.formats import saelens
from energylens.features.layered import Layered
from energylens.features.ordinary import Ordinary
from energylens.features.seat import Seat
from energylens.sources.aligned import AlignedWindows
from energylens.stats.bootstrap import cluster_jackknife
from energylens.stats.jackknife import jackknife_interval
from energylens.stats.nulls import enough_evidence
from energylens.stats.permutation import permutation_test
from energylens.studies.energy_lens.dictionaries import TRAINED
from energylens.studies.energy_lens.material import Material
from energylens.studies.energy_lens.passes import Kept
from energylens.studies.energy_lens.scoring import DOCUMENTS_PER_PIECE, Scored, pieces_of
from energylens.studies.energy_lens.tally import HEADLINE
from energylens.studies.energy_lens_models.subjects import Facts

Row = dict[str, Any]
QUANTILES = (0.5, 0.9)
SIGN_DRAWS = 400
ROWS_AT_ONCE = 8


class Bench(NamedTuple):
    """A dictionary, where it sits, and the rule of massive rows there."""

    seat: Seat
    dictionary: Dictionary | Layered
    ordinary: Ordinary


def relative_depth(site: str, n_layers: int) -> float:
    """Share of the blocks that lie below what leaves a block."""
    return ((layer_of(site) or 0) + 1) / n_layers


def depth_rows(material: Material, facts: Facts, child: Nested) -> list[Row]:
    """Quantiles of |EFAS| at each site, with intervals over documents, beside flipped signs.

    EFAS is a sum over documents of S / scale. Under the null each document's sign is a coin's.
    """
    pieces = pieces_of(material.held_out, model=TRAINED, size=DOCUMENTS_PER_PIECE)
    scored = Scored(pieces=[Kept(store=child, name=piece.name) for piece in pieces])
    rows = []
    for site in facts.options.sites:
        directions = saelens.load(child.folder(f"dictionaries/{site}")).W_dec
        found = scored.alignment(f"{site}/{HEADLINE}", directions)
        defined = enough_evidence(found.n_active, found.n_units) & found.efas.isfinite()
        parts = (found.scores / found.scale)[:, defined].double()
        row: Row = {
            "run": facts.run, "model": facts.name, "weights": facts.weights,
            "parameters": facts.parameters, "site": site, "layer": layer_of(site),
            "relative_depth": relative_depth(site, facts.n_layers),
            "features": parts.shape[1], "n_documents": len(parts),
        }  # fmt: skip
        rows.append(row | size_quantiles(parts, generator=torch.Generator().manual_seed(0)))
    return rows


def size_quantiles(
    parts: Float[Tensor, "unit feature"], *, generator: torch.Generator
) -> dict[str, float]:
    """Quantiles over features of |Σ_unit parts|, and what they exceed flipped signs by."""
    names = [f"efas_{round(100 * q)}" for q in QUANTILES]
    if parts.shape[1] < 2:
        ends = ("", "_low", "_high", "_error", "_null_mean", "_null_sd", "_p")
        return {f"{name}{end}": float("nan") for name in names for end in ends}
    shares = torch.tensor(QUANTILES, dtype=parts.dtype)

    def quantiles(weights: Tensor) -> Tensor:
        sums = (weights @ parts) * (len(parts) / weights.abs().sum(1, keepdim=True))
        return sums.abs().quantile(shares, dim=1).T

    def flipped(generator: torch.Generator) -> Tensor:
        signs = torch.randint(2, (1, len(parts)), generator=generator).to(parts) * 2 - 1
        return quantiles(signs)[0]

    observed = quantiles(torch.ones(1, len(parts), dtype=parts.dtype))[0]
    around = jackknife_interval(cluster_jackknife(quantiles, len(parts)), observed=observed)
    test = permutation_test(observed, flipped, draws=SIGN_DRAWS, generator=generator)
    columns = {
        "": observed, "_low": around.interval.low, "_high": around.interval.high,
        "_error": around.error, "_null_mean": test.null_mean, "_null_sd": test.null_sd,
        "_p": test.p,
    }  # fmt: skip
    return {f"{name}{end}": float(values[i]) for i, name in enumerate(names)
            for end, values in columns.items()}  # fmt: skip


def fingerprints(
    material: Material,
    facts: Facts,
    child: Nested,
    aligned: Mapping[int, AlignedWindows],
    passages: Sequence[int],
    segments: int,
) -> dict[str, Tensor]:
    """Mean activation of every feature over each segment of the common passages, by site,
    [passage segment feature]; nan in a segment of which no token is scored."""
    benches = {}
    for site in facts.options.sites:
        kept = child.tensors(f"dictionary.{TRAINED}.{site}")
        dictionary = saelens.load(child.folder(f"dictionaries/{site}"))
        benches[site] = Bench(
            Seat.of_site(site, dictionary.d_in), dictionary.to(material.subject.device),
            Ordinary(center=kept["center"].to(material.subject.device),
                     radius=float(kept["radius"])),
        )  # fmt: skip
    windows = [aligned[index] for index in passages]
    place = {index: row for row, index in enumerate(passages)}
    ids = torch.cat([w.ids for w in windows])
    row = torch.cat([torch.tensor([place[int(p)] for p in w.passage]) for w in windows])
    segment = torch.cat([w.segment for w in windows])
    cell = torch.where(segment >= 0, row[:, None] * segments + segment, -1)
    found = mean_by_cell(material.subject, benches, ids, cell, len(passages) * segments)
    return {site: mean.view(len(passages), segments, -1) for site, mean in found.items()}


@torch.no_grad()
def mean_by_cell(
    subject: Subject,
    benches: Mapping[str, Bench],
    ids: Tensor,
    cell: Tensor,
    cells: int,
) -> dict[str, Float[Tensor, "cell feature"]]:
    """Mean activation over the scored tokens of each cell; −1 is no cell. Massive rows count as
    tokens on which nothing is active."""
    total = {name: torch.zeros(cells, its.dictionary.width) for name, its in benches.items()}
    sites = dict.fromkeys(site for its in benches.values() for site in its.seat.reads)
    count = torch.zeros(cells)
    for first in range(0, len(ids), ROWS_AT_ONCE):
        batch = Batch.full(ids[first : first + ROWS_AT_ONCE]).to(subject.device)
        here = cell[first : first + ROWS_AT_ONCE]
        chosen = batch.scored.cpu() & (here >= 0)
        where = here[chosen]
        count.index_add_(0, where, torch.ones(len(where)))
        with subject.capture(*sites, stop=True) as seen:
            subject.run(batch)
        for name, its in benches.items():
            rows = its.seat.read(seen)[chosen.to(subject.device)]
            code = its.dictionary.encode(rows)
            values = (code.values * its.ordinary.holds(rows)[:, None]).cpu()
            flat = where[:, None] * its.dictionary.width + code.indices.cpu()
            total[name].view(-1).index_add_(0, flat.flatten(), values.flatten())
    return {name: sums / count[:, None] for name, sums in total.items()}
