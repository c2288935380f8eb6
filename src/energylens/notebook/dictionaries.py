"""Dictionaries of a model's states, of one place, of several, or of all layers.

The study `train-dictionary` trains as many as one likes, from more text than memory holds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from energylens.activations.stream import collect_rows
from energylens.activations.subject import Subject
from energylens.core.errors import BadInput
from energylens.features import cross_layer_training, crosscoder_training
from energylens.features.cross_layer import CrossLayerTranscoder
from energylens.features.crosscoder import Crosscoder
from energylens.features.dictionary import Dictionary
from energylens.features.formats import saelens
from energylens.features.training import TrainOptions
from energylens.results.show import Row, Shown, ShowsItself
from energylens.sources.windows import TokenWindows
from energylens.studies.energy_lens.bench import Bench
from energylens.studies.energy_lens.dictionaries import bench_of, train_bench


@dataclass(frozen=True, kw_only=True, repr=False)
class Trained(ShowsItself):
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

    def shown(self) -> Shown:
        found = self.dictionary
        return Shown(
            caption=f"Dictionary of {self.site}",
            rows=[
                Row(label="architecture", value=found.architecture),
                Row(label="features", value=f"{found.width:,}", told=(f"{found.k} active a row",)),
                Row(label="width of the rows", value=f"{found.d_in:,}"),
            ],
            notes=["Says nothing of how well it reconstructs: `energylens run` tells that beside"
                   " random dictionaries alike."],
        )  # fmt: skip


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
    options = options or _usual(rows.shape[1])
    generator = torch.Generator().manual_seed(seed)
    metadata = {"hook_name": site, "model_name": subject.loaded.name}
    trained = train_bench(rows, options, generator, metadata=metadata)
    return Trained(site=site, bench=bench_of(trained, device=subject.device))


def train_crosscoder(
    subjects: Subject | Mapping[str, Subject],
    windows: TokenWindows,
    sites: Sequence[str],
    options: TrainOptions | None = None,
    *,
    memory_mb: float | int = 1500,
    seed: int = 0,
) -> Crosscoder:
    """Train one code of several layers, or of the same layers of several models.

    Args:
        subjects: A model; or models by a name of yours, which share a tokenizer.
        sites: Places of which the code is; of several models they are then called `name:site`.
        options: Width, k and the rest; by default eight features per dimension of a site, at most
            4,096.

    Raises:
        BadInput: If the models' tokenizers have other tokens for the ids of these windows.
    """
    models = {"": subjects} if isinstance(subjects, Subject) else dict(subjects)
    _same_tokens(models, windows)
    rows: dict[str, Tensor] = {}
    for name, subject in models.items():
        found = collect_rows(
            subject, windows.ids, windows.document, list(sites), budget_mb=memory_mb / len(models)
        )
        rows |= {f"{name}:{site}" if name else site: its for site, its in found.items()}
    d = max((its.shape[1] for its in rows.values()), default=1)
    metadata = {"model_name": ", ".join(subject.loaded.name for subject in models.values())}
    trained, _ = crosscoder_training.train_crosscoder(
        rows, options or _usual(d), torch.Generator().manual_seed(seed), metadata=metadata
    )
    return trained


def train_cross_layer(
    subject: Subject,
    windows: TokenWindows,
    options: TrainOptions | None = None,
    *,
    reads: str = "resid_mid",
    writes: str = "mlp_out",
    memory_mb: float | int = 1500,
    seed: int = 0,
) -> CrossLayerTranscoder:
    """Train features of every layer that make what its MLP and those above it write.

    Args:
        options: Width and k of one layer, and the rest; by default eight features per dimension, at
            most 4,096.
        reads: What features read, within a block.
        writes: What they make.
    """
    layers = range(subject.loaded.n_layers)
    sites = [f"blocks.{layer}.{place}" for layer in layers for place in (reads, writes)]
    rows = collect_rows(subject, windows.ids, windows.document, sites, budget_mb=memory_mb)
    metadata = {
        "model_name": subject.loaded.name, "feature_input_hook": reads,
        "feature_output_hook": writes,
    }  # fmt: skip
    inputs, targets = (
        {layer: rows[f"blocks.{layer}.{place}"] for layer in layers} for place in (reads, writes)
    )
    trained, _ = cross_layer_training.train_cross_layer(
        inputs, targets, options or _usual(inputs[0].shape[1]),
        torch.Generator().manual_seed(seed), metadata=metadata,
    )  # fmt: skip
    return trained


def _usual(d: int) -> TrainOptions:
    """Eight features per dimension, at most 4,096; one in 64 of them active."""
    return TrainOptions(width=min(4096, 8 * d), k=max(1, min(32, d // 8)))


def _same_tokens(models: Mapping[str, Subject], windows: TokenWindows) -> None:
    """Hold what the ids of some windows stand for in one model against what they do in others."""
    ids = windows.ids.unique().tolist()
    called = {name: s.loaded.tokenizer.convert_ids_to_tokens(ids)
              for name, s in models.items() if s.loaded.tokenizer is not None}  # fmt: skip
    first = next(iter(called.values()), None)
    if other := [name for name, tokens in called.items() if tokens != first]:
        raise BadInput(
            f"the tokenizer of {other[0]} has other tokens than that of {next(iter(called))}: a"
            " crosscoder needs models that read the same ids"
        )
