"""Evaluate-dictionary: is a dictionary better than nothing, and how good?"""

from dataclasses import dataclass
from typing import Annotated

from energylens.studies.study import Range, study


@study(
    name="evaluate-dictionary",
    question="Is this dictionary better than nothing, and how good?",
    entry="energylens.studies.evaluate_dictionary.work:run",
    example="energylens run evaluate-dictionary --dictionary"
    " runs/first/dictionaries/blocks.1.resid_post --model tiny",
)
@dataclass(frozen=True, kw_only=True)
class EvaluateDictionary:
    """Judge dictionaries on held-out documents beside what costs no training, or means nothing."""

    dictionary: tuple[str, ...] = ()
    """Dictionaries, each a folder or a file of any format that is read (docs/formats.md), or a
    place on the hub (owner/name/sub/folder)."""

    model: tuple[str, ...] = ()
    """The model, or one for each dictionary: smollm2, tiny, a hub id, a folder, a GGUF file;
    default: as each dictionary says, smollm2 where it says nothing."""

    other_model: bool = False
    """Judge dictionaries on the model of --model even if they name another."""

    site: tuple[str, ...] = ()
    """The site, or one for each dictionary; default: as each dictionary says."""

    target_site: tuple[str, ...] = ()
    """What transcoders write, one for all or for each; default: as each says."""

    text: tuple[str, ...] = ()
    """Files or folders of text (txt, md, py, jsonl, parquet); default: six kinds of text."""

    context: Annotated[int, Range(8, 8192)] = 128
    """Tokens per window of text."""

    documents: Annotated[int, Range(20, 10**6)] = 100
    """Held-out documents that all measures are taken on, one window each."""

    loss_documents: Annotated[int, Range(2, 10**6)] = 40
    """Of these, documents on which reconstructions are put into the model."""

    train_tokens: Annotated[int, Range(1_024, 10**9)] = 20_480
    """Tokens that the baselines are fitted on, of documents that no measure is taken on."""

    baseline_width: Annotated[int, Range(0, 1_048_576)] = 0
    """Features of the dictionaries trained as baselines (across layers, of each layer's); 0: as
    many as the dictionary, at most 2,048."""

    match_draws: Annotated[int, Range(20, 10**5)] = 50
    """Draws of each null of the match of two dictionaries."""

    passages: Annotated[int, Range(0, 10**6)] = 120
    """Passages on which activations of two dictionaries are correlated; 0: not at all."""

    passage: Annotated[int, Range(64, 10**6)] = 512
    """Characters of a passage."""

    segment: Annotated[int, Range(8, 10**5)] = 64
    """Characters over which activations are averaged, whatever tokens a model cuts them into."""

    label_tokens: Annotated[int, Range(0, 10**7)] = 6_000
    """Held-out tokens on which probes and absorption are judged; 0: neither is."""

    groups: Annotated[int, Range(0, 10**5)] = 40
    """Groups of prompts whose attributes features are to know and to change; 0: none."""

    memory_mb: Annotated[int, Range(200, 10**7)] = 1_500
    """Memory for activations, in MB; the weights of model and dictionaries come on top."""

    threads: Annotated[int, Range(0, 1024)] = 0
    """Threads of the numerics; 0: all cores."""

    device: str = "cpu"
    """Where to compute: cpu, cuda or cuda:1."""

    seed: Annotated[int, Range(0, 2**31 - 1)] = 0
    """Seed of everything random."""
