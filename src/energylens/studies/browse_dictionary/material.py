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
from energylens.core.sites import canonical
from energylens.features.dictionary import Dictionary
from energylens.features.formats.recognise import load_one
from energylens.features.pretrained import locate
from energylens.sources.model import load_model
from energylens.sources.text import load_text
from energylens.sources.token_classes import display_tokens
from energylens.sources.tokenizer import Tokenizer
from energylens.sources.windows import TokenWindows, tokenise
from energylens.studies.browse_dictionary import BrowseDictionary
from energylens.studies.energy_lens.material import checked_device
from energylens.studies.study import pin_inputs


@dataclass(frozen=True, kw_only=True, eq=False)
class Material:
    """Everything read and decided before the first measurement."""

    subject: Subject
    tokenizer: Tokenizer
    site: str
    dictionary: Dictionary
    windows: TokenWindows
    corpus: str

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
    dictionary = load_one(locate(options.dictionary).path)
    _refuse_transcoder(options.dictionary, dictionary)
    site = _site(options, dictionary)
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
    dictionary = dictionary.to(device, torch.float32)
    _refuse_other_width(subject, site, dictionary, windows)
    pin_inputs(store, {
        "model": {"name": loaded.name, "source": loaded.source, "sha256": loaded.sha256,
                  "family": loaded.family.name if loaded.family else None},
        "dictionary": {"name": options.dictionary.name, "sha256": _hash(options.dictionary),
                       "architecture": dictionary.architecture, "features": dictionary.width},
        "text": {"name": corpus.name, "sha256": corpus.sha256,
                 "documents": len(windows.document_names),
                 "kinds": dict(sorted(Counter(windows.kinds).items()))},
    })  # fmt: skip
    return Material(
        subject=subject, tokenizer=loaded.tokenizer, site=site, dictionary=dictionary,
        windows=windows, corpus=corpus.name,
    )  # fmt: skip


def _refuse_transcoder(path: Path, dictionary: Dictionary) -> None:
    written = dictionary.metadata.get("hook_name_out")
    if written is None and dictionary.W_skip is None and dictionary.d_in == dictionary.d_out:
        return
    raise BadInput(
        f"{path} is a transcoder (it reads {dictionary.metadata.get('hook_name', 'one site')} and"
        f" writes {written or 'another'}), and browse-dictionary takes a dictionary that writes"
        " where it reads: name an autoencoder"
    )


def _site(options: BrowseDictionary, dictionary: Dictionary) -> str:
    said = options.site or dictionary.metadata.get("hook_name")
    if not said:
        raise BadInput(
            f"{options.dictionary} does not say where it reads (no hook_name): name the place with"
            " --site, such as blocks.3.resid_post"
        )
    return canonical(str(said))


def _refuse_other_width(
    subject: Subject, site: str, dictionary: Dictionary, windows: TokenWindows
) -> None:
    """One pass of one window, before the long work."""
    batch = Batch.full(windows.ids[:1]).to(subject.device)
    rows = scored_rows(subject, batch, [site])[site]
    if rows.ndim != 2 or rows.shape[1] != dictionary.d_in:
        raise BadInput(
            f"the dictionary reads rows of {dictionary.d_in} values and {site} of"
            f" {subject.loaded.name} has {rows.flatten(1).shape[1]}: name its own model with"
            " --model, or its place with --site"
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
