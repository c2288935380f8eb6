"""The pages of single features: contexts, activations, forces, logits, neighbours, effects.

Features get a page if they follow the energy beyond chance, were intervened on, or come next in
|t|. All that is shown is from half B of the documents; features were chosen on half A.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import torch
from jaxtyping import Float, Int
from torch import Tensor

from energylens.activations.logit_effects import logit_effects
from energylens.core.ports import Store
from energylens.core.sites import layer_of
from energylens.sources.token_classes import display_tokens
from energylens.stats.nulls import unit_permutation
from energylens.stats.robust import cluster_mean_interval
from energylens.studies.energy_lens import EnergyLens
from energylens.studies.energy_lens.bench import Bench
from energylens.studies.energy_lens.held import Held, held
from energylens.studies.energy_lens.material import Material
from energylens.studies.energy_lens.passes import Pass
from energylens.studies.energy_lens.proof import ABLATE, DOUBLE, KINDS, RANDOM
from energylens.studies.energy_lens.statistics import Inference
from energylens.studies.energy_lens.tables import Row, table
from energylens.studies.energy_lens.words import Words

PAGES_PER_SITE = 60
BEFORE, AFTER = 24, 12  # tokens of context shown around a peak
GROUPS = (("top", 1.0, 6), ("upper quarter", 0.75, 3), ("median", 0.5, 3))
OFF_FORCES = 5
SCATTER_ON, SCATTER_OFF = 160, 60
NULL_SHUFFLES = 200
TOP_LOGITS = 10
NEIGHBOURS = 6


@dataclass(frozen=True, kw_only=True)
class Place:
    """A site of half B with what its pages are drawn from."""

    site: str
    held: Held
    directions: Float[Tensor, "feature d_model"]
    proof: dict[str, Tensor]
    attractors: dict[str, Tensor]
    words: Sequence[Sequence[str]]
    classes: Sequence[Sequence[str]]
    names: Sequence[str]


def featured_tables(
    material: Material,
    trained: Pass,
    inference: Inference,
    words: Words,
    store: Store,
    options: EnergyLens,
) -> dict[str, pa.Table]:
    """Tables `featured` (a row a feature with a page) and `contexts` (a row a piece of text)."""
    featured: list[Row] = []
    contexts: list[Row] = []
    for number, (site, bench) in enumerate(trained.benches.items()):
        place = Place(
            site=site, held=held(trained.scored, trained.pieces, site),
            directions=bench.dictionary.W_dec.cpu(), proof=store.tensors(f"proof.{site}"),
            attractors=store.tensors(f"attractors.{site}"),
            words=words.tokens, classes=words.classes, names=material.held_out.document_names,
        )  # fmt: skip
        generator = torch.Generator().manual_seed(options.seed + 200 + number)
        chosen = _with_page(inference, site, place.proof)
        logits = _logit_effects(material, bench, chosen)
        for row, feature in enumerate(chosen.tolist()):
            activation = place.held.activation(feature)
            force = place.held.force(place.directions[feature])
            featured.append({
                "site": site, "layer": layer_of(site), "feature": feature,
                **_activations(activation), **_scatter(activation, force, generator),
                **logits[row], **_neighbours(place.directions, feature),
                **_effects(place, feature), **_shift(place, feature),
            })  # fmt: skip
            contexts += _contexts(place, feature, activation, force)
    return {"featured": table(featured), "contexts": table(contexts)}


def _with_page(
    inference: Inference, site: str, proof: dict[str, Tensor]
) -> Int[Tensor, " feature"]:
    scores = inference.headline[site]
    ranked = scores.t.abs().nan_to_num(-1).argsort(descending=True)
    ranked = ranked[scores.scored[ranked]]
    beyond = ranked[scores.beyond[ranked]]
    # Discoveries first, then what was intervened on, then the nearest to discovery.
    wanted = torch.cat([beyond, proof["feature"].unique(), ranked])
    return torch.tensor(list(dict.fromkeys(wanted.tolist()))[:PAGES_PER_SITE], dtype=torch.long)


def _activations(activation: Float[Tensor, "window place"]) -> Row:
    on = activation[activation > 0]
    if not len(on):
        return {"activation_edges": [], "activation_counts": []}
    counts, edges = torch.histogram(on, bins=24)
    return {"activation_edges": edges.tolist(), "activation_counts": counts.int().tolist()}


def _scatter(
    activation: Float[Tensor, "window place"],
    force: Float[Tensor, "window place"],
    generator: torch.Generator,
) -> Row:
    """Some points, the least-squares line through all, and the line's slope when each window's
    activations stand beside another window's forces."""
    a, f = activation.double(), force.double()
    variance = (a - a.mean()).square().sum()
    slope = float(((a - a.mean()) * (f - f.mean())).sum() / variance) if variance > 0 else None
    # The products of every window's activations with every window's forces serve all shuffles.
    products = (a - a.mean()) @ (f - f.mean()).T
    own = torch.arange(len(a))
    null = torch.stack([
        products[own, unit_permutation(own, generator)].sum() for _ in range(NULL_SHUFFLES)
    ]) / variance  # fmt: skip
    points = [
        where[torch.randperm(len(where), generator=generator)[:most]]
        for where, most in (((a.flatten() > 0).nonzero()[:, 0], SCATTER_ON),
                            ((a.flatten() == 0).nonzero()[:, 0], SCATTER_OFF))
    ]  # fmt: skip
    shown = torch.cat(points)
    return {
        "scatter_activation": a.flatten()[shown].tolist(),
        "scatter_force": f.flatten()[shown].tolist(),
        "scatter_slope": slope if slope is not None else float("nan"),
        "scatter_intercept": float(f.mean() - (slope or 0) * a.mean()),
        "scatter_null_low": float(null.quantile(0.025)),
        "scatter_null_high": float(null.quantile(0.975)),
    }


@torch.no_grad()
def _logit_effects(material: Material, bench: Bench, chosen: Int[Tensor, " feature"]) -> list[Row]:
    """Logits that each feature raises and lowers, by the lens linearised at the mean state."""
    subject = material.subject
    tokenizer = subject.loaded.tokenizer
    assert tokenizer is not None
    directions = bench.dictionary.W_dec[chosen.to(bench.mean_state.device)]
    effect = logit_effects(subject, bench.mean_state, directions)
    up, down = effect.topk(TOP_LOGITS), effect.topk(TOP_LOGITS, largest=False)
    return [
        {
            "raised_tokens": display_tokens(up.indices[row].tolist(), tokenizer),
            "raised_logits": up.values[row].tolist(),
            "lowered_tokens": display_tokens(down.indices[row].tolist(), tokenizer),
            "lowered_logits": down.values[row].tolist(),
        }
        for row in range(len(directions))
    ]


def _neighbours(directions: Float[Tensor, "feature d_model"], feature: int) -> Row:
    cosine = directions @ directions[feature]
    cosine[feature] = -2
    near = cosine.topk(min(NEIGHBOURS, len(cosine) - 1))
    return {
        "neighbour_features": near.indices.tolist(),
        "neighbour_cosines": near.values.tolist(),
    }


def _effects(place: Place, feature: int) -> Row:
    proof = place.proof
    mine = proof["feature"] == feature
    kind = {name: mine & (proof["kind"] == KINDS.index(name)) for name in KINDS}
    measured = proof["measured"].double()
    ablated = measured[kind[ABLATE]]
    several = len(ablated) > 1
    bounds = cluster_mean_interval(ablated[:, None]) if several else None
    classes = _by_class(place, kind[ABLATE])
    return {
        "ablation_measured": _mean(ablated),
        "ablation_low": float(bounds.low) if bounds else float("nan"),
        "ablation_high": float(bounds.high) if bounds else float("nan"),
        "ablation_predicted": _mean(proof["predicted"][kind[ABLATE]]),
        "ablation_contexts": len(ablated),
        "ablation_random": _mean(measured[kind[RANDOM]]),
        "kl_mean": _mean(proof["kl"][kind[ABLATE]]),
        "double_measured": _mean(measured[kind[DOUBLE]]),
        "classes": list(classes), "class_effects": list(classes.values()),
    }  # fmt: skip


def _shift(place: Place, feature: int) -> Row:
    """Where the states that it is active in end, with and without it."""
    found = place.attractors
    mine = found["shift_feature"] == feature
    names = ("angle", "angle_random", "switched", "switched_random")
    return {"shift_states": int(mine.sum())} | {
        f"shift_{name}": _mean(found[f"shift_{name}"][mine].double()) for name in names
    }


def _by_class(place: Place, ablations: Tensor) -> dict[str, float]:
    """Mean change of the loss on predicted tokens of each class, from the first change on."""
    sums: dict[str, list[float]] = {}
    for step in ablations.nonzero()[:, 0].tolist():
        window = int(place.proof["window"][step])
        change = place.proof["surprisal"][step].tolist()
        for position in range(int(place.proof["first"][step]), len(change) - 1):
            sums.setdefault(place.classes[window][position + 1], []).append(change[position])
    return {name: sum(values) / len(values) for name, values in sorted(sums.items())}


def _mean(values: Tensor) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _contexts(
    place: Place,
    feature: int,
    activation: Float[Tensor, "window place"],
    force: Float[Tensor, "window place"],
) -> Iterator[Row]:
    """Text around the strongest place of windows in quantile groups, and where it is off but its
    force is large."""
    peaks = activation.max(1)
    on = (peaks.values > 0).nonzero()[:, 0]
    ranked = on[peaks.values[on].argsort(descending=True)]
    taken: set[int] = set()
    for group, share, most in GROUPS:
        start = int((1 - share) * len(ranked))
        windows = [w for w in ranked[start:].tolist() if w not in taken][:most]
        taken.update(windows)
        for rank, window in enumerate(windows):
            yield _context(place, feature, group, rank, window, int(peaks.indices[window]),
                           activation, force)  # fmt: skip
    silent = (force * (activation == 0)).abs().max(1)
    for rank, window in enumerate(silent.values.argsort(descending=True)[:OFF_FORCES].tolist()):
        yield _context(place, feature, "off, large force", rank, window,
                       int(silent.indices[window]), activation, force)  # fmt: skip


def _context(
    place: Place,
    feature: int,
    group: str,
    rank: int,
    window: int,
    peak: int,
    activation: Tensor,
    force: Tensor,
) -> Row:
    position = peak + 1  # places start at position 1
    first = max(position - BEFORE, 1)
    last = min(position + AFTER, activation.shape[1])
    here = slice(first - 1, last)
    return {
        "site": place.site, "feature": feature, "group": group, "rank": rank,
        "document": place.names[int(place.held.document[window])],
        "position": int(place.held.starts[window]) + position,
        "tokens": list(place.words[window][first : last + 1]),
        "activation": activation[window, here].tolist(),
        "force": force[window, here].tolist(),
        "peak": position - first,
    }  # fmt: skip
