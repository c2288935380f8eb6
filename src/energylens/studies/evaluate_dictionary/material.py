"""What a run reads: dictionaries, their models, and text that is cut in two."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from energylens.activations.batch import Batch
from energylens.activations.certify import wrap
from energylens.activations.subject import Subject
from energylens.core.errors import BadInput, InsufficientData
from energylens.core.ports import Store
from energylens.sources.model import load_model
from energylens.sources.text import Corpus, load_text
from energylens.sources.windows import TokenWindows, tokenise
from energylens.studies.energy_lens.material import MIN_DOCUMENTS, checked_device
from energylens.studies.evaluate_dictionary import EvaluateDictionary
from energylens.studies.evaluate_dictionary.entries import (
    Entry,
    check_entry,
    check_widths,
    read_entries,
)
from energylens.studies.study import pin_inputs


@dataclass(frozen=True, kw_only=True)
class Read:
    """A model and the text in its tokens.

    Attributes:
        fit: Windows that baselines are fitted on.
        held_out: Windows of other documents, one a document, that all is measured on.
    """

    subject: Subject
    fit: TokenWindows
    held_out: TokenWindows


@dataclass(frozen=True, kw_only=True)
class Material:
    """Everything read and decided before the first measurement; `read` is by `Entry.model`."""

    entries: Sequence[Entry]
    read: Mapping[str, Read]
    corpus: Corpus


def gather(options: EvaluateDictionary, store: Store, say: Callable[[str], None]) -> Material:
    """Load, certify, tokenise, and refuse what does not go together, all before the long work.

    Raises:
        BadInput: For dictionaries, models, texts and sites that cannot be used, in one sentence.
    """
    entries = read_entries(options)
    device = checked_device(options.device)
    corpus = load_text([Path(path) for path in options.text] or "default")
    read: dict[str, Read] = {}
    for name in dict.fromkeys(entry.model for entry in entries):
        mine = [entry for entry in entries if entry.model == name]
        say(f"loading {name}")
        read[name] = _read(name, mine, corpus, options, device)
    say(f"judging {', '.join(entry.label for entry in entries)}")
    _pin(entries, read, corpus, store)
    return Material(entries=entries, read=read, corpus=corpus)


def _read(
    name: str, entries: Sequence[Entry], corpus: Corpus, options: EvaluateDictionary, device: str
) -> Read:
    loaded = load_model(name, device=device)
    if loaded.tokenizer is None:
        raise BadInput(f"{loaded.name} has no tokenizer: put tokenizer.json beside its weights")
    if loaded.context and options.context > loaded.context:
        raise BadInput(
            f"a context of {options.context} tokens was asked for and {loaded.name} reads at most"
            f" {loaded.context}: lower --context"
        )
    subject = wrap(loaded)
    if "loss" in subject.lacks:
        raise BadInput(
            f"evaluate-dictionary needs a next-token loss, and {loaded.name} has none:"
            f" {subject.lacks['loss']}; el.fvu and ReconstructionStats take rows of any model"
        )
    for entry in entries:
        check_entry(entry, subject, other_model=options.other_model)
    for_fit = -(-options.train_tokens // options.context)
    generator = torch.Generator().manual_seed(options.seed)
    starts = loaded.bos_token_id is not None and all(
        entry.dictionary.metadata.get("prepend_bos") is True for entry in entries
    )
    windows = tokenise(
        corpus, loaded.tokenizer, options.context, documents=options.documents + for_fit,
        generator=generator, prepend_bos=starts,
    )  # fmt: skip
    share = options.documents / (options.documents + for_fit)
    documents = len(windows.document_names)
    if min(share, 1 - share) * documents < MIN_DOCUMENTS:
        raise InsufficientData(
            f"both halves of the text need {MIN_DOCUMENTS} documents of at least"
            f" {options.context} tokens and there are {documents} for {options.documents} held-out"
            f" and {for_fit} others: give more text, or change --documents, --train-tokens or"
            " --context"
        )
    held_out, fit = windows.split(share, torch.Generator().manual_seed(options.seed + 1))
    check_fit(entries, subject, fit)
    return Read(subject=subject, fit=fit, held_out=held_out)


@torch.no_grad()
def check_fit(entries: Sequence[Entry], subject: Subject, windows: TokenWindows) -> None:
    """Run one window, and see whether every dictionary fits its sites.

    Raises:
        BadInput: If one reads or writes rows of another width than its site has.
    """
    sites = list(dict.fromkeys(site for entry in entries for site in entry.seat.sites))
    with subject.capture(*sites, stop=True) as seen:
        subject.run(Batch.full(windows.ids[:1]).to(subject.device))
    widths = {site: seen[site].shape[-1] for site in sites}
    for entry in entries:
        check_widths(entry, widths, subject.loaded.name)


def _pin(entries: Sequence[Entry], read: Mapping[str, Read], corpus: Corpus, store: Store) -> None:
    def described(name: str) -> dict[str, object]:
        loaded = read[name].subject.loaded
        return {"name": loaded.name, "source": loaded.source, "sha256": loaded.sha256,
                "family": loaded.family.name if loaded.family else None}  # fmt: skip

    one = len(read) == 1
    held_out = next(iter(read.values())).held_out
    pin_inputs(store, {
        **{"model" if one else f"model {name}": described(name) for name in read},
        "text": {"name": corpus.name, "sha256": corpus.sha256,
                 "documents": int(held_out.document.unique().numel()),
                 "kinds": dict(sorted(Counter(held_out.kinds).items()))},
        **{f"dictionary {entry.label}": {"name": entry.label, "source": str(entry.path),
           "sha256": entry.sha256, "site": entry.seat.site} for entry in entries},
    })  # fmt: skip
