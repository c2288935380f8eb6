"""The saliency contest: what every score says of the features whose ablation was measured.

Scores are taken in the very windows in which the features were ablated, so that score and effect
are about the same text; EFAS and one attribution come from the other half of the documents instead,
as a reader of the feature table would use them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from energylens.activations.attention import attention_patterns
from energylens.activations.batch import Batch
from energylens.activations.subject import Subject
from energylens.activations.suffix import run_from
from energylens.core.errors import BadInput
from energylens.core.ports import Progress, Store
from energylens.core.sparse import combine
from energylens.energy.energies.downstream import downstream_energy
from energylens.energy.saliency import (
    PathIntegral,
    along_directions,
    attention_rollout,
    gradient_x_input,
    integrate_path,
    next_logit_covector,
    through_tokens,
)
from energylens.features.code import SparseCode
from energylens.studies.energy_lens.bench import Bench
from energylens.studies.energy_lens.held import Held
from energylens.studies.energy_lens.proof import ABLATE, KINDS
from energylens.studies.energy_lens.statistics import SiteScores

SCORES = (
    "efas", "attribution_elsewhere", "attribution", "gradient_x_activation",
    "integrated_gradients", "direct_logit", "activation", "attention_rollout", "gradient_x_input",
    "random",
)  # fmt: skip
# Seven hold all of twelve features, and four in five of their ablations in five windows each.
WINDOWS = 4
PASSES = 2
WINDOWS_AT_ONCE = 4


def enter_site(
    subject: Subject,
    site: str,
    bench: Bench,
    here: Held,
    half_a: SiteScores,
    store: Store,
    *,
    generator: torch.Generator,
    progress: Progress,
    windows: int = WINDOWS,
    passes: int = PASSES,
) -> None:
    """Score the features of a site that were ablated, and save scores beside effects.

    Args:
        half_a: Scores of all features on the other half of the documents.
        windows: At most how many of the intervened windows; those that share most ablations.
        passes: Gradients along the path of integrated gradients, besides the known one.
    """
    part = f"contest.{site}"
    if store.done(part):
        return
    features, ids, measured = _ablations(store.tensors(f"proof.{site}"))
    chosen = most_shared(measured.isfinite(), windows)
    kept, shared = ids[chosen], measured[chosen]
    entries: list[Entry] = []
    with progress.task(f"contest {site}", len(kept), "windows") as advance:
        for some in kept.split(WINDOWS_AT_ONCE) if len(kept) else ():
            entries.append(score_windows(subject, site, bench, here, some, features, passes=passes))
            advance(len(some))
    elsewhere = {
        "efas": half_a.efas[features], "attribution_elsewhere": half_a.attribution[features],
        "random": torch.rand(len(features), generator=generator),
    }  # fmt: skip
    absent = {name: why for entry in entries for name, why in entry.absent.items()}
    scores = torch.full((len(SCORES), *shared.shape), torch.nan, dtype=torch.float64)
    for number, name in enumerate(SCORES):
        if name in elsewhere:
            scores[number] = elsewhere[name].double()
        elif entries and name not in absent:
            scores[number] = torch.cat([entry.scores[name] for entry in entries]).double().cpu()
    paths = [entry.path for entry in entries]
    store.save(
        part,
        tensors={part: {
            "feature": features, "window": kept, "measured": shared,
            "scores": torch.where(shared.isfinite(), scores, torch.nan),
            "change": _joined([path.change for path in paths]),
            "summed": _joined([path.summed for path in paths]),
        }},
        records={part: {
            "scores": list(SCORES), "absent": absent, "passes": passes,
            "ablations": int(measured.isfinite().sum()),
            "ablations_used": int(shared.isfinite().sum()),
        }},
    )  # fmt: skip


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat([part.double().cpu() for part in parts]) if parts else torch.zeros(0)


def _ablations(
    proof: dict[str, Tensor],
) -> tuple[Int[Tensor, " feature"], Int[Tensor, " window"], Float[Tensor, "window feature"]]:
    """Features and windows of a proof, and what each ablation did; nan where there was none."""
    mine = proof["kind"] == KINDS.index(ABLATE)
    features, column = proof["feature"][mine].unique(return_inverse=True)
    windows, row = proof["window"][mine].unique(return_inverse=True)
    measured = torch.full((len(windows), len(features)), torch.nan, dtype=torch.float64)
    measured[row, column] = proof["measured"][mine].double()
    return features, windows, measured


def most_shared(pairs: Bool[Tensor, "window feature"], most: int) -> Int[Tensor, " chosen"]:
    """A few windows that hold many ablations and leave no feature out, found greedily.

    Each ablation counts for less the more windows its feature already has.

    Example:
        >>> most_shared(torch.tensor([[True, False], [True, True], [False, True]]), 1).tolist()
        [1]
    """
    had = torch.zeros(pairs.shape[1], dtype=torch.float64)
    chosen: list[int] = []
    for _ in range(min(most, len(pairs))):
        worth = (pairs / (1 + had)).sum(1)
        worth[chosen] = -1
        chosen.append(int(worth.argmax()))
        had += pairs[chosen[-1]]
    return torch.tensor(sorted(chosen), dtype=torch.long)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What the scores say of some windows.

    Attributes:
        scores: By name; [window feature].
        absent: Scores that this model does not allow, and why.
        path: The path from all features off to the states as they are.
    """

    scores: dict[str, Tensor]
    absent: dict[str, str]
    path: PathIntegral


def score_windows(
    subject: Subject,
    site: str,
    bench: Bench,
    here: Held,
    windows: Int[Tensor, " window"],
    features: Int[Tensor, " feature"],
    *,
    passes: int,
) -> Entry:
    """Every score that is taken in the windows themselves, summed over each window's places."""
    device = here.ids.device
    windows, features = windows.to(device), features.to(device)
    batch = here.batch.take(windows)
    states, gradients = here.states[windows], here.gradients[windows]
    code = SparseCode(
        indices=here.indices[windows].flatten(0, 1), values=here.values[windows].flatten(0, 1),
        width=bench.dictionary.width,
    )  # fmt: skip
    places = here.indices.shape[1]
    activation = code.columns(features).view(len(windows), places, -1)
    written = combine(code.indices, code.values, bench.dictionary.W_dec)
    off = states.clone()
    off[:, 1:-1] -= written.view(len(windows), places, -1)
    path = integrate_path(
        partial(_energy, subject, site, batch), off, states,
        energy_on=here.loss[windows].sum(1), gradient_on=gradients, passes=passes,
    )  # fmt: skip
    along = partial(along_directions, activation, directions=bench.dictionary.W_dec[features])
    slope = along(gradients[:, 1:-1])
    scores = {
        "attribution": slope.sum(1), "gradient_x_activation": slope.abs().sum(1),
        "integrated_gradients": along(path.gradient[:, 1:-1]).sum(1),
        "activation": activation.sum(1),
        "gradient_x_input": through_tokens(
            activation, gradient_x_input(gradients, states)[:, 1:-1]
        ),
    }  # fmt: skip
    absent: dict[str, str] = {}
    try:
        rollout = attention_rollout(
            attention_patterns(subject, site, states, batch), batch.has_next
        )
        scores["attention_rollout"] = through_tokens(activation, rollout[:, 1:-1])
    except BadInput as why:
        absent["attention_rollout"] = str(why)
    try:
        toward = next_logit_covector(
            states[:, 1:-1].flatten(0, 1), batch.next_ids[:, 1:-1].flatten(), subject.final_norm,
            subject.unembed,
        ).view(len(windows), places, -1)  # fmt: skip
        scores["direct_logit"] = along(toward).abs().sum(1)
    except BadInput as why:
        absent["direct_logit"] = str(why)
    return Entry(scores=scores, absent=absent, path=path)


def _energy(subject: Subject, site: str, batch: Batch, states: Tensor) -> Tensor:
    return downstream_energy(run_from(subject, site, states, batch), batch)
