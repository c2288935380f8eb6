"""Browse a dictionary: what is every one of its features active on, and what does it do?"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from energylens.studies.study import Range, study


@study(
    name="browse-dictionary",
    question="What is each feature of a dictionary active on, and what does it write?",
    entry="energylens.studies.browse_dictionary.work:run",
    example="energylens run browse-dictionary --model tiny"
    " --dictionary runs/first/dictionaries/blocks.2.resid_post",
    subject="dictionary",
)
@dataclass(frozen=True, kw_only=True)
class BrowseDictionary:
    """Read text once and keep, of every feature, contexts, counts, logits, neighbours, labels."""

    dictionary: Path
    """Folder or file of a dictionary, transcoder or crosscoder (SAELens, sparsify, Gemma Scope,
    circuit-tracer …), or a place on the hub (owner/name/sub/folder)."""

    model: str = "smollm2"
    """The model: smollm2 or tiny (packaged), a hub id, a folder of safetensors, a GGUF file."""

    site: str = ""
    """Where the dictionary reads, such as blocks.3.resid_post; default: what its metadata says."""

    target_site: str = ""
    """What a transcoder writes, such as blocks.3.mlp_out; default: what its metadata says."""

    layer: Annotated[int, Range(-1, 10_000)] = -1
    """Of a cross-layer transcoder: the layer whose features are browsed."""

    text: tuple[str, ...] = ()
    """Files or folders of text (txt, md, py, jsonl, parquet); default: six kinds of text."""

    documents: Annotated[int, Range(5, 10**6)] = 400
    """Documents to read, chosen at random, all kinds alike."""

    windows: Annotated[int, Range(1, 10_000)] = 1
    """Windows to read of each document."""

    context: Annotated[int, Range(8, 8192)] = 128
    """Tokens per window of text."""

    sample_tokens: Annotated[int, Range(1_000, 10**8)] = 100_000
    """Tokens on which pairs and labels are counted: the first so many, or as many as fit."""

    draws: Annotated[int, Range(39, 100_000)] = 499
    """Draws of the null that labels must beat."""

    memory_mb: Annotated[int, Range(200, 10**7)] = 1_500
    """Memory for activations and what is kept, in MB; the weights come on top."""

    threads: Annotated[int, Range(0, 1024)] = 0
    """Threads of the numerics; 0: all cores."""

    device: str = "cpu"
    """Where to compute: cpu, cuda or cuda:1."""

    seed: Annotated[int, Range(0, 2**31 - 1)] = 0
    """Seed of everything random."""
