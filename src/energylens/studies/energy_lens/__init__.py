"""Energy-lens: which sparse features drive a model up and down its energy landscape?"""

from dataclasses import dataclass
from typing import Annotated, Literal

from energylens.studies.study import Range, study


@study(
    name="energy-lens",
    question="Which sparse features drive the model up and down its energy landscape?",
    entry="energylens.studies.energy_lens.work:run",
    example="energylens run energy-lens --model tiny --out runs/first",
    subject="model",
    plan="energylens.studies.energy_lens.plan:plan",
)
@dataclass(frozen=True, kw_only=True)
class EnergyLens:
    """Train dictionaries, align their features with the energy, and prove it by intervening."""

    budget: Literal["quick", "default", "full"] = "default"
    """Sizes of all that is 0 below; on SmolLM2 and two cores about 5, 8 and 36 minutes."""

    model: str = "smollm2"
    """The model: smollm2 or tiny (packaged), a hub id, a folder of safetensors, a GGUF file."""

    text: tuple[str, ...] = ()
    """Files or folders of text (txt, md, py, jsonl, parquet), or datasets (hf:owner/name[:5000]);
    default: six kinds of text."""

    sites: tuple[str, ...] = ()
    """Residual sites, such as blocks.3.resid_post; default: five over the depth."""

    width: Annotated[int, Range(0, 1_048_576)] = 0
    """Features of each dictionary; 0: 8 per dimension, at most 2,048 (budget full: 8,192)."""

    k: Annotated[int, Range(0, 4096)] = 0
    """Features active per token; 0: 32, or an eighth of the dimension where that is less."""

    context: Annotated[int, Range(8, 8192)] = 128
    """Tokens per window of text."""

    train_tokens: Annotated[int, Range(0, 10**9)] = 0
    """Tokens to train the dictionaries on; 0: 5 per feature (full: 25), at least 10,240."""

    score_documents: Annotated[int, Range(0, 10**6)] = 0
    """Held-out documents on which features are scored, one window each; 0: 48, 100 or 400."""

    proof_features: Annotated[int, Range(0, 1000)] = 0
    """Features per site to intervene on; 0: 6, 8 or 30."""

    proof_contexts: Annotated[int, Range(0, 1000)] = 0
    """Windows per intervened feature; 0: 4, 5 or 12."""

    behaviour_features: Annotated[int, Range(0, 100)] = 5
    """Strongest features to change in behaviour tasks, over all sites; 0: no behaviour."""

    behaviour_prompts: Annotated[int, Range(0, 1000)] = 0
    """Prompts of each behaviour task to change features in; 0: 16, 18 or 60. Twice are asked."""

    draws: Annotated[int, Range(1_000, 10**6)] = 10_000
    """Draws of the multiplier bootstrap behind max-T."""

    variants: tuple[Literal["within", "active", "ranks", "information"], ...] = ()
    """Other ways to correlate activation and force: within documents, where active, of ranks; or
    excess mutual information, of the intervened features."""

    random_weights: bool = True
    """Score a random-weight model too, at every second site and on half of the text."""

    memory_mb: Annotated[int, Range(200, 10**7)] = 1_500
    """Memory for activations, in MB; the model's own weights come on top."""

    threads: Annotated[int, Range(0, 1024)] = 0
    """Threads of the numerics; 0: all cores."""

    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the passes that features are scored in; auto: bfloat16 where faster and checked to do."""

    device: str = "cpu"
    """Where to compute: cpu, cuda or cuda:1."""

    seed: Annotated[int, Range(0, 2**31 - 1)] = 0
    """Seed of everything random."""
