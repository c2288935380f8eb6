"""What a run reads: model, dictionary and text, refused in a sentence where they do not fit."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from energylens.activations.batch import Batch
from energylens.activations.certify import wrap
from energylens.activations.stream import scored_rows
from energylens.activations.subject import Subject
from energylens.core.errors import BadInput
from energylens.core.files import sha256
from energylens.core.ports import Store
from energylens.features.dictionary import Dictionary
from energylens.features.formats.recognise import load_dictionary
from energylens.features.pretrained import locate
from energylens.sources.model import load_model
from energylens.sources.text import load_text
from energylens.sources.token_classes import display_tokens
from energylens.sources.tokenizer import Tokenizer
from energylens.sources.windows import TokenWindows, tokenise
from energylens.studies.browse_dictionary import BrowseDictionary
from energylens.studies.browse_dictionary.placed import Placed, place
from energylens.studies.energy_lens.material import checked_device
from energylens.studies.study import pin_inputs


@dataclass(frozen=True, kw_only=True, eq=False)
class Material:
    """Everything read and decided before the first measurement."""

    subject: Subject
    tokenizer: Tokenizer
    placed: Placed
    windows: TokenWindows
    corpus: str

    @property
    def stream(self) -> str | None:
        """The site of the residual stream that holds what is written, where a lens reads it."""
        return None if "lens" in self.subject.lacks else self.placed.stream

    @property
    def dictionary(self) -> Dictionary:
        """Its features."""
        return self.placed.dictionary

    @cached_property
    def words(self) -> Sequence[str]:
        """Every token of the vocabulary as people read it."""
        return display_tokens(range(self.subject.loaded.vocab_size), self.tokenizer)


def gather(options: BrowseDictionary, store: Store, say: Callable[[str], None]) -> Material:
    """Load the dictionary, then the model and the text.

    Raises:
        BadInput: For what cannot be browsed, each in one sentence.
        ArtifactRefused: If the dictionary cannot be read.
    """
    device = checked_device(options.device)
    placed = place(load_dictionary(locate(options.dictionary).path), options)
    say(f"loading {options.model}")
    loaded = load_model(options.model, device=device)
    if loaded.tokenizer is None:
        raise BadInput(f"{loaded.name} has no tokenizer: put tokenizer.json beside its weights")
    if loaded.context and options.context > loaded.context:
        raise BadInput(
            f"a context of {options.context} tokens was asked for and {loaded.name} reads at most"
            f" {loaded.context}: lower --context"
        )
    say("certifying sites")
    subject = wrap(loaded)
    corpus = load_text([Path(path) for path in options.text] or "default")
    windows = tokenise(
        corpus, loaded.tokenizer, options.context, documents=options.documents,
        per_document=options.windows, generator=torch.Generator().manual_seed(options.seed),
    )  # fmt: skip
    placed = placed.to(device, torch.float32)
    _refuse_other_width(subject, placed, windows)
    pin_inputs(store, {
        "model": {"name": loaded.name, "source": loaded.source, "sha256": loaded.sha256,
                  "family": loaded.family.name if loaded.family else None},
        "dictionary": {"name": options.dictionary.name, "sha256": _hash(options.dictionary),
                       "architecture": placed.dictionary.architecture,
                       "features": placed.dictionary.width},
        "text": {"name": corpus.name, "sha256": corpus.sha256,
                 "documents": len(windows.document_names),
                 "kinds": dict(sorted(Counter(windows.kinds).items()))},
    })  # fmt: skip
    return Material(
        subject=subject, tokenizer=loaded.tokenizer, placed=placed, windows=windows,
        corpus=corpus.name,
    )  # fmt: skip


def _refuse_other_width(subject: Subject, placed: Placed, windows: TokenWindows) -> None:
    """One pass of one window, before the long work."""
    batch = Batch.full(windows.ids[:1]).to(subject.device)
    rows = scored_rows(subject, batch, placed.sites)
    made = placed.dictionary
    for does, sites, width, option in (
        ("reads", placed.reads, made.d_in, "--site"),
        ("writes", placed.writes, made.d_out, "--target-site"),
    ):
        found = sum(rows[site].flatten(1).shape[1] for site in sites)
        if found != width or any(rows[site].ndim != 2 for site in sites):
            raise BadInput(
                f"the {placed.kind} {does} rows of {width} values and {', '.join(sites)} of"
                f" {subject.loaded.name} has {found}: name its own model with --model, or its"
                f" place with {option}"
            )


def _hash(path: Path) -> str:
    """Of the file, or of the hashes of a folder's files by name."""
    from hashlib import sha256 as digest

    path = path.expanduser()
    if path.is_file():
        return sha256(path)
    files = sorted(file for file in path.iterdir() if file.is_file())
    told = "\n".join(f"{file.name} {sha256(file)}" for file in files)
    return digest(told.encode()).hexdigest()
