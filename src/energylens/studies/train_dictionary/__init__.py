"""Train sparse dictionaries: any number of them, on one pass of a model over text."""

from dataclasses import dataclass
from typing import Annotated, Literal

from energylens.studies.study import Range, study


@study(
    name="train-dictionary",
    question="Which sparse features rebuild the states of a model, and how well?",
    entry="energylens.studies.train_dictionary.work:run",
    example="energylens run train-dictionary --model tiny --widths 512 1024 --tokens 50000",
    subject="model",
    parallel=True,
    logs=True,
)
@dataclass(frozen=True, kw_only=True)
class TrainDictionary:
    """Train a dictionary for every combination of sites, architectures, widths, ks and seeds."""

    model: str = "default"
    """Model whose states are read: default, tiny, a hub id, a folder or a .gguf file."""

    text: tuple[str, ...] = ()
    """Files or folders of text (txt, md, py, jsonl, parquet), or datasets (hf:owner/name); default:
    six kinds of text."""

    sites: tuple[str, ...] = ()
    """Places to read, such as blocks.3.resid_post or blocks.*.mlp_out; default: behind the middle
    block."""

    targets: tuple[str, ...] = ()
    """Places to write, one for each site: the dictionaries are then transcoders."""

    joined: Literal["no", "crosscoder", "cross-layer"] = "no"
    """Whether a dictionary is of one place (no), or of all together: one code of all sites
    (crosscoder; default: behind every block), or features of every layer that make what this and
    later layers write (cross-layer; default: from resid_mid to mlp_out of every block)."""

    skip: bool = False
    """Whether transcoders have a linear part beside."""

    architectures: tuple[str, ...] = ("topk",)
    """Kinds of dictionary: topk, batchtopk, matryoshka_batchtopk, groupmax, jumprelu,
    jumprelu_tanh, gated, standard, standard_constrained, p_anneal."""

    widths: Annotated[tuple[int, ...], Range(2, 2**24)] = (4096,)
    """Features of each; across layers, of each layer."""

    ks: Annotated[tuple[int, ...], Range(1, 2**20)] = (32,)
    """Active features a token (and layer): the most, or the mean that a penalty is steered to."""

    seeds: Annotated[tuple[int, ...], Range(0, 2**31 - 1)] = (0,)
    """Seeds of the first features; the text and its order have the first one."""

    loss: Literal["reconstruction", "kl", "ce"] = "reconstruction"
    """What is small after training: the error of the states; or, end to end, the divergence of the
    model's output from what it was (kl) or its loss on the next token (ce)."""

    tokens: Annotated[int, Range(1_000, 10**12)] = 100_000
    """Tokens of text to train on."""

    epochs: Annotated[int, Range(1, 10_000)] = 4
    """Times that each is learned from; with 1 no state is kept, else they are kept on disk (end to
    end, the model runs every time)."""

    cache: str = ""
    """Folder to keep the states in, for other trainings too; default: gone when the run is done."""

    batch: Annotated[int, Range(16, 2**24)] = 1024
    """Tokens a step."""

    lr: Annotated[float, Range(0.0, 1.0)] = 0.0
    """Peak learning rate; 0: 4e-3 times the square root of 4096 / width."""

    aux_k: Annotated[int, Range(0, 2**20)] = 256
    """Dead features a token that the auxiliary loss wakes; 0 leaves the dead alone."""

    dead_after: Annotated[int, Range(1, 10**12)] = 20_000
    """Tokens without firing after which a feature counts as dead."""

    resample: bool = False
    """Begin dead features anew at tokens that are badly rebuilt, instead of waking them by the
    auxiliary loss; for standard_constrained and p_anneal."""

    context: Annotated[int, Range(8, 10**6)] = 128
    """Tokens of a window."""

    per_document: Annotated[int, Range(0, 10**9)] = 8
    """Windows from each document at most; 0: as many as fit."""

    held_out: Annotated[int, Range(20, 10**6)] = 64
    """Documents that no dictionary is trained on, to judge them by: one window each."""

    checkpoint_seconds: Annotated[float, Range(0.0, 10.0**6)] = 30.0
    """Time from one checkpoint to the next; 0: one after every step."""

    memory_mb: Annotated[int, Range(100, 10**7)] = 1_000
    """Memory for states, in MB; the model's and the dictionaries' own weights come on top."""

    shards: Annotated[int, Range(1, 4096)] = 1
    """Of the processes that torchrun started, how many share the features of a dictionary, at most;
    with 1 each has all features, and its share of every batch."""

    threads: Annotated[int, Range(0, 1024)] = 0
    """Threads of the numerics; 0: all cores."""

    device: str = "cpu"
    """Where to compute: cpu, cuda or cuda:1."""
