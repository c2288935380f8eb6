"""The main job, step by step, for a notebook or a script of one's own.

Each function is a thin wiring of the rooms; the study `energy-lens` does the same for several
sites at once, with every control, and keeps what it did.
"""

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import torch
from jaxtyping import Float
from torch import Tensor

from energylens.activations.stream import collect_rows
from energylens.activations.subject import Subject
from energylens.core.errors import BadInput
from energylens.energy.intervention import Step, measure_effects
from energylens.features.dictionary import Dictionary
from energylens.features.formats import saelens
from energylens.features.train import TrainOptions
from energylens.sources.text import load_text
from energylens.sources.windows import TokenWindows, tokenise
from energylens.stats.robust import cluster_mean_interval
from energylens.studies.energy_lens.bench import Bench
from energylens.studies.energy_lens.dictionaries import bench_of, train_bench
from energylens.studies.energy_lens.held import held
from energylens.studies.energy_lens.passes import Pass
from energylens.studies.energy_lens.scoring import Scored, pieces_of, score_piece
from energylens.studies.energy_lens.statistics import SiteScores, score_site
from energylens.studies.energy_lens.tally import HEADLINE, PERMUTED


def read_windows(
    subject: Subject,
    text: list[str | Path] | None = None,
    *,
    documents: int = 300,
    context: int = 128,
    held_out: float = 0.5,
    seed: int = 0,
) -> tuple[TokenWindows, TokenWindows]:
    """Windows of text to train on and, of other documents, to score on.

    Args:
        text: Files and folders; None for the speeches, documentation and code that ship along.
        held_out: Share of the documents to score on.

    Raises:
        BadInput: If the model has no tokenizer, or the text cannot be read.
    """
    tokenizer = subject.loaded.tokenizer
    if tokenizer is None:
        raise BadInput(f"{subject.loaded.name} has no tokenizer: make TokenWindows of your own ids")
    generator = torch.Generator().manual_seed(seed)
    windows = tokenise(
        load_text(text or "default"), tokenizer, min(context, subject.loaded.context or context),
        documents=documents, generator=generator,
    )  # fmt: skip
    scored, trained_on = windows.split(held_out, generator)
    return trained_on, scored


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A dictionary of one site, with the controls it is scored beside."""

    site: str
    bench: Bench

    @property
    def dictionary(self) -> Dictionary:
        """The dictionary: `encode`, `decode`, `reconstruct`, `W_dec` …"""
        return self.bench.dictionary

    def save(self, folder: str | Path) -> None:
        """Write the dictionary as a folder that SAELens reads.

        Raises:
            BadInput: If the folder is there and not empty.
        """
        saelens.save(self.dictionary, Path(folder))


def train(
    subject: Subject,
    windows: TokenWindows,
    site: str,
    options: TrainOptions | None = None,
    *,
    memory_mb: float | int = 1500,
    seed: int = 0,
) -> Trained:
    """Train a TopK dictionary on the states of one site.

    Args:
        options: Width, k and the rest; by default eight features per dimension, at most 4,096.
    """
    rows = collect_rows(subject, windows.ids, windows.document, [site], budget_mb=memory_mb)[site]
    d_model = rows.shape[1]
    options = options or TrainOptions(width=min(4096, 8 * d_model), k=max(1, min(32, d_model // 8)))
    generator = torch.Generator().manual_seed(seed)
    metadata = {"hook_name": site, "model_name": subject.loaded.name}
    trained = train_bench(rows, options, generator, metadata=metadata)
    return Trained(site=site, bench=bench_of(trained, device=subject.device))


@dataclass(frozen=True, kw_only=True)
class Aligned:
    """EFAS of every feature of one site with its null, and the permuted decoder beside it."""

    trained: Trained
    scores: SiteScores
    permuted: SiteScores
    measured: Pass

    @property
    def efas(self) -> Float[Tensor, " feature"]:
        return self.scores.efas

    def top(self, count: int = 10) -> list[int]:
        """Features of largest |t|, those without enough evidence left out."""
        ranked = self.scores.t.abs().nan_to_num(-1).argsort(descending=True)
        return ranked[self.scores.scored[ranked]][:count].tolist()

    def table(self) -> pa.Table:
        """One row a feature: EFAS, interval, t, p by itself and family-wise."""
        names = ("efas", "low", "high", "t", "p", "q", "p_max_t", "attribution", "n_active")
        columns = {name: getattr(self.scores, name).numpy() for name in names}
        return pa.table({"feature": range(len(self.efas)), **columns})

    def plot(self, path: str | Path) -> Path:
        """EFAS against |t|, real features over permuted decoder rows, as SVG, PNG or PDF."""
        from energylens.report.sketch import volcano

        real, null = self.scores, self.permuted
        return volcano(
            Path(path), real.efas.numpy(), real.t.abs().numpy(), real.beyond.numpy(),
            null.efas.numpy(), null.t.abs().numpy(),
        )  # fmt: skip

    def __repr__(self) -> str:
        found, scored = int(self.scores.beyond.sum()), int(self.scores.scored.sum())
        null = int(self.permuted.beyond.sum())
        return (
            f"Aligned({self.trained.site}: {found} of {scored} features beyond chance,"
            f" permuted decoder {null})"
        )


def align(
    subject: Subject,
    trained: Trained,
    windows: TokenWindows,
    *,
    draws: int = 10_000,
    memory_mb: float | int = 1500,
    seed: int = 0,
) -> Aligned:
    """EFAS for the downstream energy on held-out windows, with its null.

    Raises:
        InsufficientData: If there are too few documents.
    """
    benches = {trained.site: trained.bench}
    pieces = pieces_of(windows, model="notebook", size=40)
    found = Scored(pieces=[
        score_piece(subject, benches, piece, keep=True, budget_mb=memory_mb)
        for piece in pieces
    ])  # fmt: skip
    return Aligned(
        trained=trained,
        scores=score_site(found, trained.site, trained.bench, HEADLINE, draws=draws, seed=seed),
        permuted=score_site(found, trained.site, trained.bench, PERMUTED, draws=draws, seed=seed),
        measured=Pass(benches=benches, pieces=pieces, scored=found),
    )


@dataclass(frozen=True, kw_only=True)
class Ablated:
    """What ablating one feature did to the loss of windows where it is active, in nats."""

    feature: int
    predicted: Float[Tensor, " window"]
    measured: Float[Tensor, " window"]

    def __repr__(self) -> str:
        mean = cluster_mean_interval(self.measured[:, None])
        return (
            f"Ablated(feature {self.feature} in {len(self.measured)} windows: measured"
            f" {float(mean.estimate):+.3g} [{float(mean.low):+.3g}, {float(mean.high):+.3g}] nats,"
            f" predicted {float(self.predicted.mean()):+.3g})"
        )


def ablate(subject: Subject, aligned: Aligned, feature: int, *, windows: int = 12) -> Ablated:
    """Set a feature to zero wherever it is active and run the rest of the network.

    Raises:
        BadInput: If it is active in fewer than two of the windows kept for this.
    """
    site, dictionary = aligned.trained.site, aligned.trained.bench.dictionary
    here = held(aligned.measured.scored, aligned.measured.pieces, site, device=subject.device)
    activation = here.activation(feature)
    active = (activation > 0).any(1).nonzero()[:, 0][:windows]
    if len(active) < 2:
        raise BadInput(f"feature {feature} is active in {len(active)} windows: choose another")
    steps, predicted = [], []
    for window in active.tolist():
        places = activation[window].nonzero()[:, 0]
        change = -activation[window, places]
        steps.append(Step(window=window, positions=places + 1, change=change,
                          direction=dictionary.W_dec[feature]))  # fmt: skip
        slope = here.gradients[window, places + 1] @ dictionary.W_dec[feature]
        predicted.append((change * slope).sum())
    effects = measure_effects(subject, site, here.batch, here.states, steps)
    return Ablated(feature=feature, predicted=torch.stack(predicted), measured=effects.energy)
