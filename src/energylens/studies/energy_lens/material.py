"""What a run reads: the model with certified sites, and the text cut into halves."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from energylens.activations.certify import wrap
from energylens.activations.subject import Subject
from energylens.core.errors import BadInput, InsufficientData
from energylens.core.ports import Store
from energylens.core.sites import layer_of
from energylens.energy.translators import rows_needed
from energylens.features.training import TrainOptions
from energylens.sources.model import load_model
from energylens.sources.text import load_text
from energylens.sources.windows import TokenWindows, tokenise
from energylens.studies.energy_lens import EnergyLens
from energylens.studies.energy_lens.budget import BUDGETS, settled, training_tokens
from energylens.studies.study import pin_inputs

MIN_DOCUMENTS = 20
FEWEST_TRAIN_TOKENS = 10_240


@dataclass(frozen=True, kw_only=True)
class Material:
    """Everything read and decided before the first measurement.

    Attributes:
        held_out: Windows no dictionary is trained on, one a document.
    """

    subject: Subject
    sites: tuple[str, ...]
    train: TokenWindows
    held_out: TokenWindows
    corpus: str
    dictionary: TrainOptions


def gather(options: EnergyLens, store: Store | None, say: Callable[[str], None]) -> Material:
    """Load, certify, tokenise; refuse what the statistics cannot carry.

    Args:
        store: Pins what was read, so that a resumed run reads the same; None only to plan.

    Raises:
        BadInput: For models, texts and sites that cannot be used, each in one sentence.
    """
    options = settled(options)
    say(f"loading {options.model}")
    loaded = load_model(options.model, device=checked_device(options.device))
    if loaded.tokenizer is None:
        raise BadInput(f"{loaded.name} has no tokenizer: put tokenizer.json beside its weights")
    if loaded.context and options.context > loaded.context:  # some tell no greatest length
        raise BadInput(
            f"a context of {options.context} tokens was asked for and {loaded.name} reads at most"
            f" {loaded.context}: lower --context"
        )
    say("certifying sites")
    subject = wrap(loaded)
    _refuse_what_lacks(subject)
    sites = tuple(_sites(subject, options.sites))
    corpus = load_text([Path(path) for path in options.text] or "default")
    generator = torch.Generator().manual_seed(options.seed)
    d_model = subject.loaded.d_model
    dictionary = _train_options(options, d_model)
    train_tokens = training_tokens(options, dictionary.width, FEWEST_TRAIN_TOKENS)
    for_training = -(-train_tokens // options.context)
    wanted = options.score_documents + for_training
    windows = tokenise(
        corpus, loaded.tokenizer, options.context, documents=wanted, generator=generator,
        prepend_bos=False,
    )  # fmt: skip
    train, held_out = _halves(windows, options, for_training)
    _enough_for_the_tuned_lens(train, d_model)
    if store is not None:
        pin_inputs(store, {
            "model": {"name": loaded.name, "source": loaded.source, "sha256": loaded.sha256,
                      "family": subject.loaded.family.name if subject.loaded.family else None},
            "text": {"name": corpus.name, "sha256": corpus.sha256,
                     "documents": int(held_out.document.unique().numel()),
                     "kinds": dict(sorted(Counter(held_out.kinds).items()))},
        })  # fmt: skip
    return Material(
        subject=subject, sites=sites, train=train, held_out=held_out, corpus=corpus.name,
        dictionary=dictionary,
    )  # fmt: skip


def _refuse_what_lacks(subject: Subject) -> None:
    """The study differentiates next-token losses, reads lenses and runs on from edited states."""
    for what, called in (
        ("loss", "a next-token loss"),
        ("lens", "a lens from its states to logits"),
        ("suffix", "blocks that can be run from an edited state"),
    ):
        if what in subject.lacks:
            *some, last = subject.energies
            raise BadInput(
                f"energy-lens needs {called}, and {subject.loaded.name} has none:"
                f" {subject.lacks[what]}; from Python its sites can be watched, edited and given"
                f" dictionaries (el.load, capture, edit, el.train), and the energies that remain"
                f" are {', '.join(some)} and {last}"
            )


def checked_device(name: str) -> str:
    """A device that can be computed on.

    Raises:
        BadInput: If there is no such device here.
    """
    kind = name.split(":")[0]
    if kind == "cuda" and not torch.cuda.is_available():
        raise BadInput(f"device {name!r} was asked for and this machine has no CUDA: use cpu")
    if kind not in ("cpu", "cuda"):
        raise BadInput(
            f"no device {name!r}: there is cpu, and cuda, cuda:1 and so on (not mps, which has no"
            " float64)"
        )
    return name


def _halves(
    windows: TokenWindows, options: EnergyLens, for_training: int
) -> tuple[TokenWindows, TokenWindows]:
    generator = torch.Generator().manual_seed(options.seed + 1)
    documents = int(windows.document.unique().numel())
    share = options.score_documents / (options.score_documents + for_training)
    held_out, train = windows.split(share, generator)
    if min(len(held_out.document.unique()), len(train.document.unique())) < MIN_DOCUMENTS:
        raise InsufficientData(
            f"the statistics need {2 * MIN_DOCUMENTS} documents of at least {options.context}"
            f" tokens and found {documents}: give more text or lower --context"
        )
    return train, held_out


def _enough_for_the_tuned_lens(train: TokenWindows, d_model: int) -> None:
    """Said before the long work; a tenth more than needed, since massive rows are left out."""
    windows, context = train.ids.shape
    needed = round(1.1 * rows_needed(d_model))
    if windows * (context - 2) < needed:
        raise InsufficientData(
            f"the tuned lens of {d_model} dimensions needs {needed:,} tokens to train on and found"
            f" {windows * (context - 2):,}: give more text or raise --train-tokens"
        )


def _sites(subject: Subject, asked: tuple[str, ...]) -> list[str]:
    if asked:
        sites = [name for pattern in asked for name in subject.expand(pattern)]
        for site in sites:
            subject.port(site)
            if site.split(".", 2)[-1] not in ("resid_post", "resid_pre"):
                raise BadInput(
                    f"energy-lens reads residual streams, blocks.i.resid_post or"
                    f" blocks.i.resid_pre, not {site!r}"
                )
        return sorted(dict.fromkeys(sites), key=lambda s: (layer_of(s) or 0, s.endswith("post")))
    layers = subject.n_layers
    if layers <= 5:
        return ["blocks.0.resid_pre", *(f"blocks.{i}.resid_post" for i in range(layers))][:5]
    return [f"blocks.{int((i + 0.5) * layers / 5)}.resid_post" for i in range(5)]


def _train_options(options: EnergyLens, d_model: int) -> TrainOptions:
    width = options.width or min(BUDGETS[options.budget].widest, 8 * d_model)
    k = options.k or min(32, max(1, d_model // 8))
    if k > width:
        raise BadInput(f"--k {k} active features of --width {width} were asked for: k must be less")
    return TrainOptions(width=width, k=k)
