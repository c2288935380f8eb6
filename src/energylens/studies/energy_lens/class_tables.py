"""Kinds of text as a factor: energies, dictionaries, ablations and features of each kind beside all
others. The unit is the document; under the null, documents swap their kinds.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from energylens.core.ports import Store
from energylens.core.sites import layer_of
from energylens.stats.groups import FEWEST_UNITS, ClassDifferences, class_differences
from energylens.stats.multiplicity import benjamini_hochberg, draws_needed
from energylens.stats.nulls import enough_evidence
from energylens.studies.energy_lens.lens import TUNED
from energylens.studies.energy_lens.material import Material
from energylens.studies.energy_lens.passes import Pass
from energylens.studies.energy_lens.proof import ABLATE, KINDS
from energylens.studies.energy_lens.tables import Row, lens_mean, residual_and_variance, table
from energylens.studies.energy_lens.tally import HEADLINE

FEWEST_DRAWS = 10_000
# The downstream energy is the model's own loss, whatever the site.
OUTPUT = "logits"
ALL_SITES = "all sites"
FVU, L0, ABLATION, ABLATION_OF_FEATURE = "fvu", "l0", "ablation", "ablation of the same feature"


@dataclass(frozen=True, kw_only=True)
class Kinds:
    """The documents that were scored, in the order of the sums, and what kind each is of.

    Attributes:
        documents: Index of each among the held-out documents.
        names: Kinds that are there, in alphabetical order.
        of: Whether a document is of a kind.
    """

    documents: Int[Tensor, " unit"]
    names: Sequence[str]
    of: Bool[Tensor, "unit label"]


def class_tables(
    material: Material, trained: Pass, store: Store, featured: pa.Table, seed: int
) -> dict[str, pa.Table]:
    """Tables `text_documents`, `text_classes` and `feature_classes`.

    Text of one kind has nothing to be compared with: the last two have no rows.
    """
    found = {"text_documents": table(list(_document_rows(material, trained)))}
    kinds = _kinds(material, trained)
    generator = torch.Generator().manual_seed(seed + 400)
    several = len(kinds.names) > 1
    classes = _quantity_rows(trained, store, kinds, generator) if several else []
    features = _feature_rows(trained, featured, kinds, generator) if several else []
    return found | {"text_classes": table(classes), "feature_classes": table(features)}


def class_limits(material: Material) -> list[str]:
    """What the kinds of text do not allow to be said."""
    count = Counter(material.held_out.kinds)
    if len(count) == 1:
        return [
            f"All text is of one kind ({next(iter(count))}): what would differ on another kind is"
            " not known."
        ]
    few = [kind for kind in sorted(count) if count[kind] < FEWEST_UNITS]
    if few:
        return [
            f"Fewer than {FEWEST_UNITS} held-out documents each are of the kinds {', '.join(few)}:"
            " these are not compared with the others."
        ]
    return []


def _kinds(material: Material, trained: Pass) -> Kinds:
    documents = []
    for piece in trained.pieces:
        of_unit = torch.zeros(piece.n_units, dtype=torch.long)
        of_unit[piece.unit] = piece.document
        documents.append(of_unit)
    units = torch.cat(documents)
    kinds = [material.held_out.kinds[document] for document in units.tolist()]
    names = sorted(set(kinds))
    of = torch.tensor([[kind == name for name in names] for kind in kinds])
    return Kinds(documents=units, names=names, of=of)


def _document_rows(material: Material, trained: Pass) -> Iterator[Row]:
    """How many documents of each kind were drawn, and for what."""
    held_out, train = material.held_out.kinds, material.train.kinds
    half_b = [held_out[d] for d in trained.documents_of_half_b.unique().tolist()]
    parts = [Counter(part) for part in (train, held_out, half_b)]
    for kind in sorted(set(train) | set(held_out)):
        training, scored, shown = (part[kind] for part in parts)
        yield {"class": kind, "training": training, "held_out": scored, "half_b": shown}


def _quantity_rows(
    trained: Pass, store: Store, kinds: Kinds, generator: torch.Generator
) -> list[Row]:
    """One row a site, quantity and kind, all one family."""
    columns = list(_quantities(trained, store, kinds))
    values = torch.stack([column for *_, column in columns], dim=1)
    draws = max(FEWEST_DRAWS, draws_needed(len(columns) * len(kinds.names)))
    found = class_differences(values, kinds.of, draws=draws, generator=generator)
    q = benjamini_hochberg(found.p, draws=draws)
    return [
        {"site": site, "layer": layer_of(site), "quantity": quantity, "class": name,
         **_compared(found, label, column), "q": float(q[label, column])}
        for column, (site, quantity, _) in enumerate(columns)
        for label, name in enumerate(kinds.names)
    ]  # fmt: skip


def _compared(found: ClassDifferences, label: int, column: int) -> Row:
    parts = {
        "mean": found.mean.estimate, "low": found.mean.low, "high": found.mean.high,
        "null_low": found.chance.low, "null_high": found.chance.high, "rest": found.rest,
        "difference": found.difference.estimate, "difference_low": found.difference.low,
        "difference_high": found.difference.high, "p": found.p,
    }  # fmt: skip
    here = {name: float(values[label, column]) for name, values in parts.items()}
    return {"n_documents": int(found.count[label, column]), **here}


def _quantities(trained: Pass, store: Store, kinds: Kinds) -> Iterator[tuple[str, str, Tensor]]:
    """Site, name and one value a document; nan for a document without one."""
    scored = trained.scored
    yield OUTPUT, HEADLINE, scored.loss_by_unit()
    for site in trained.benches:
        yield site, TUNED, lens_mean(scored, site, TUNED)
        residual, variance = residual_and_variance(scored, site)
        yield site, FVU, residual / variance
        active = scored.all(f"{site}/features/active").sum(1)
        yield site, L0, active / scored.all(f"{site}/features/samples")
    yield from _ablations(trained, store, kinds)


def _ablations(trained: Pass, store: Store, kinds: Kinds) -> Iterator[tuple[str, str, Tensor]]:
    """Mean change of the loss over a document's ablations, and its excess over what the same
    features do in all documents: kinds of text differ in which features are active at all.

    Over all sites at once: at one site some ten documents are intervened on.
    """
    measured, document, excess = [], [], []
    for site in trained.benches:
        proof = store.tensors(f"proof.{site}")
        mine = proof["kind"] == KINDS.index(ABLATE)
        change = proof["measured"][mine].double()
        _, feature, count = proof["feature"][mine].unique(return_inverse=True, return_counts=True)
        mean = torch.zeros(len(count), dtype=torch.float64).index_add_(0, feature, change) / count
        measured.append(change)
        excess.append(torch.where(count[feature] > 1, change - mean[feature], torch.nan))
        document.append(trained.documents_of_half_b[proof["window"][mine]])
    of = torch.cat(document)
    yield ALL_SITES, ABLATION, _by_document(torch.cat(measured), of, kinds)
    yield ALL_SITES, ABLATION_OF_FEATURE, _by_document(torch.cat(excess), of, kinds)


def _by_document(
    values: Float[Tensor, " step"], document: Int[Tensor, " step"], kinds: Kinds
) -> Float[Tensor, " unit"]:
    """Means over the steps of each document; nan where it has none."""
    known = values.isfinite()
    mine = (document[None, known] == kinds.documents[:, None]).double()
    return mine @ values[known] / mine.sum(1)


def _feature_rows(
    trained: Pass, featured: pa.Table, kinds: Kinds, generator: torch.Generator
) -> list[Row]:
    """One row a feature with a page and kind: how often it is active there and elsewhere."""
    which, densities = _densities(trained, featured)
    if not which:
        return []
    draws = max(FEWEST_DRAWS, draws_needed(len(which) * len(kinds.names)))
    found = class_differences(densities, kinds.of, draws=draws, generator=generator)
    q = benjamini_hochberg(found.p, draws=draws)
    rows = []
    for column, (site, feature) in enumerate(which):
        for label, name in enumerate(kinds.names):
            here, rest = float(found.mean.estimate[label, column]), float(found.rest[label, column])
            rows.append({
                "site": site, "layer": layer_of(site), "feature": feature, "class": name,
                "n_documents": int(found.count[label, column]), "density": here,
                "density_rest": rest, "ratio": here / rest if rest > 0 else torch.nan,
                "p": float(found.p[label, column]), "q": float(q[label, column]),
            })  # fmt: skip
    return rows


def _densities(
    trained: Pass, featured: pa.Table
) -> tuple[list[tuple[str, int]], Float[Tensor, "unit feature"]]:
    """Share of each document's tokens on which a feature is active; nan where too few are."""
    which, columns = [], []
    of_site = featured.to_pylist()
    for site in trained.benches:
        chosen = [row["feature"] for row in of_site if row["site"] == site]
        active = trained.scored.all(f"{site}/features/active")[:, chosen]
        samples = trained.scored.all(f"{site}/features/samples")
        enough = enough_evidence(active.sum(0), (active > 0).sum(0))
        columns.append(torch.where(enough, active / samples[:, None], torch.nan))
        which += [(site, feature) for feature in chosen]
    return which, torch.cat(columns, dim=1)
