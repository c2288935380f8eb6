"""Dictionaries of many sizes: how reconstruction improves with width and with text."""

from dataclasses import dataclass
from typing import Annotated

from energylens.studies.study import Range, study


@study(
    name="dictionary-scaling",
    question="How does reconstruction improve with width and tokens, and is it a power law?",
    entry="energylens.studies.dictionary_scaling.work:run",
    example="energylens run dictionary-scaling --model tiny --on local --workers 2",
    subject="model",
    plan="energylens.studies.dictionary_scaling.points:tell",
    tasks=True,
)
@dataclass(frozen=True, kw_only=True)
class DictionaryScaling:
    """Train dictionaries of every width on every amount of text, and fit a law to what is left."""

    model: str = "tiny"
    """Model whose states are read: default, tiny, a hub id, a folder or a .gguf file."""

    text: tuple[str, ...] = ()
    """Files or folders of text (txt, md, py, jsonl, parquet), or datasets (hf:owner/name); default:
    six kinds of text."""

    sites: tuple[str, ...] = ()
    """Places to read, such as blocks.3.resid_post; default: behind the middle block."""

    architecture: str = "topk"
    """Kind of dictionary, as in train-dictionary."""

    widths: Annotated[tuple[int, ...], Range(2, 2**24)] = (64, 128, 256, 512)
    """Features of a dictionary."""

    ks: Annotated[tuple[int, ...], Range(1, 2**20)] = (4, 8)
    """Active features a token."""

    tokens: Annotated[tuple[int, ...], Range(1_000, 10**12)] = (6_000, 12_000, 24_000)
    """Tokens of text to train on."""

    seeds: Annotated[tuple[int, ...], Range(0, 2**31 - 1)] = (0, 1)
    """Each seed has its own text, held-out documents and first features."""

    epochs: Annotated[int, Range(1, 10_000)] = 4
    """Times that each token is learned from."""

    batch: Annotated[int, Range(16, 2**24)] = 512
    """Tokens a step."""

    lr: Annotated[float, Range(0.0, 1.0)] = 0.0
    """Peak learning rate; 0: 4e-3 times the square root of 4096 / width."""

    context: Annotated[int, Range(8, 10**6)] = 128
    """Tokens of a window."""

    per_document: Annotated[int, Range(0, 10**9)] = 8
    """Windows from each document at most; 0: as many as fit."""

    held_out: Annotated[int, Range(20, 10**6)] = 64
    """Documents that no dictionary is trained on, to judge them by: one window each."""

    shuffled: bool = True
    """Whether dictionaries are trained on shuffled states too, on the least text: the null."""

    apart: bool = False
    """Whether each width is a task of its own, where they are too large to train side by side."""

    memory_mb: Annotated[int, Range(100, 10**7)] = 1_000
    """Memory for states, in MB, of each task."""

    threads: Annotated[int, Range(0, 1024)] = 0
    """Threads of the numerics of each task; 0: its share of the cores."""

    device: str = "cpu"
    """Where to compute: cpu, cuda or cuda:1."""
