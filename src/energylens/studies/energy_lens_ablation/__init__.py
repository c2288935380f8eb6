"""Energy-lens under ablation of the method: which of its choices changes what it finds?"""

from dataclasses import dataclass
from typing import Annotated

from energylens.studies.study import Range, study


@study(
    name="energy-lens-ablation",
    question="Which choices of energy-lens change what it finds, beyond the spread between seeds?",
    entry="energylens.studies.energy_lens_ablation.work:run",
    example="energylens run energy-lens-ablation --model tiny --out runs/ablation",
    subject="model",
)
@dataclass(frozen=True, kw_only=True)
class EnergyLensAblation:
    """Run energy-lens at a base point with several seeds, then change one choice at a time."""

    model: str = "tiny"
    """The model: tiny or smollm2 (packaged), a hub id, a folder of safetensors, a GGUF file."""

    text: tuple[str, ...] = ()
    """Files or folders of text (txt, md, py, jsonl, parquet), or datasets (hf:owner/name[:5000]);
    default: six kinds of text."""

    sites: tuple[str, ...] = ()
    """Residual sites, such as blocks.3.resid_post; default: after the first, the middle and the
    last block."""

    repeats: Annotated[int, Range(3, 100)] = 4
    """Runs of the base point, each with its own seed: documents, dictionaries, draws."""

    width: Annotated[int, Range(8, 1_048_576)] = 256
    """Features of each dictionary at the base point."""

    k: Annotated[int, Range(2, 4096)] = 8
    """Features active per token at the base point."""

    train_tokens: Annotated[int, Range(1_024, 10**9)] = 20_480
    """Tokens to train the dictionaries on at the base point."""

    width_times: Annotated[tuple[float, ...], Range(0.01, 100)] = (0.5, 2.0)
    """Widths to try, in parts of the base point's."""

    k_times: Annotated[tuple[float, ...], Range(0.01, 100)] = (0.5, 2.0)
    """Counts of active features to try, in parts of the base point's."""

    train_tokens_times: Annotated[tuple[float, ...], Range(0.01, 100)] = (0.5,)
    """Amounts of training text to try, in parts of the base point's."""

    context: Annotated[int, Range(8, 8192)] = 64
    """Tokens per window of text."""

    score_documents: Annotated[int, Range(40, 10**6)] = 112
    """Held-out documents on which features are scored: one window each."""

    proof_features: Annotated[int, Range(1, 1000)] = 6
    """Features per site to intervene on."""

    proof_contexts: Annotated[int, Range(2, 1000)] = 3
    """Windows per intervened feature."""

    draws: Annotated[int, Range(1_000, 10**6)] = 2_000
    """Draws of the multiplier bootstrap behind max-T."""

    memory_mb: Annotated[int, Range(200, 10**7)] = 1_500
    """Memory for activations, in MB; the model's own weights come on top."""

    threads: Annotated[int, Range(0, 1024)] = 0
    """Threads of the numerics; 0: all cores."""

    device: str = "cpu"
    """Where to compute: cpu, cuda or cuda:1."""

    seed: Annotated[int, Range(0, 2**30)] = 0
    """First of the seeds."""
