"""Energy-lens on several models: what do they share, and what changes with size and depth?"""

from dataclasses import dataclass
from typing import Annotated

from energylens.studies.study import Range, study

DEFAULT_MODELS = ("tiny", "smollm2", "EleutherAI/pythia-70m")


@study(
    name="energy-lens-models",
    question="Do models share the features that follow the energy, and does it change with size?",
    entry="energylens.studies.energy_lens_models.work:run",
    example="energylens run energy-lens-models --models tiny smollm2 --out runs/models",
)
@dataclass(frozen=True, kw_only=True)
class EnergyLensModels:
    """Run energy-lens on several models and on each with random weights, and match features."""

    models: tuple[str, ...] = DEFAULT_MODELS
    """Two models or more: tiny, smollm2 (packaged), hub ids, folders of safetensors, GGUF files;
    of the default ones, one that cannot be fetched is left out."""

    text: tuple[str, ...] = ()
    """Files or folders of text (txt, md, py, jsonl, parquet), or datasets (hf:owner/name[:5000]);
    default: six kinds of text."""

    depths: Annotated[int, Range(1, 64)] = 3
    """Residual sites of each model, spread evenly over its depth."""

    width: Annotated[int, Range(8, 1_048_576)] = 256
    """Features of each dictionary, the same for all models."""

    k: Annotated[int, Range(1, 4096)] = 8
    """Features active per token."""

    context: Annotated[int, Range(8, 8192)] = 64
    """Tokens per window of text."""

    train_tokens: Annotated[int, Range(1_024, 10**9)] = 20_480
    """Tokens to train each dictionary on."""

    score_documents: Annotated[int, Range(40, 10**6)] = 112
    """Held-out documents on which features are scored: one window each."""

    passages: Annotated[int, Range(20, 10**6)] = 120
    """Passages that all models read, one a document, to match features on."""

    passage: Annotated[int, Range(64, 10**6)] = 512
    """Characters of a passage."""

    segment: Annotated[int, Range(8, 10**5)] = 64
    """Characters over which activations are averaged, whatever tokens a model cuts them into."""

    match_draws: Annotated[int, Range(99, 10**5)] = 199
    """Times that documents are dealt out anew for the null of the matching."""

    draws: Annotated[int, Range(1_000, 10**6)] = 2_000
    """Draws of the multiplier bootstrap behind max-T."""

    memory_mb: Annotated[int, Range(200, 10**7)] = 1_500
    """Memory for activations, in MB; a model's own weights come on top."""

    threads: Annotated[int, Range(0, 1024)] = 0
    """Threads of the numerics; 0: all cores."""

    device: str = "cpu"
    """Where to compute: cpu, cuda or cuda:1."""

    seed: Annotated[int, Range(0, 2**31 - 1)] = 0
    """Seed of everything random."""
