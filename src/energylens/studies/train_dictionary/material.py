"""What a training reads: the model, windows of text in an order that can be had again, and jobs."""

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice, product
from pathlib import Path

import torch

from energylens.activations.certify import wrap
from energylens.activations.subject import Subject
from energylens.core.errors import BadInput, InsufficientData
from energylens.core.ports import Store
from energylens.features.architecture import ARCHITECTURES
from energylens.features.cross_layer_training import CrossLayerJob
from energylens.features.crosscoder_training import CrosscoderJob
from energylens.features.end_to_end import refuse_own_loss
from energylens.features.mesh import ALONE
from energylens.features.stream import Job
from energylens.features.training import TrainOptions, refuse_resampling
from energylens.sources.model import load_model
from energylens.sources.text import shuffled, stream_text
from energylens.sources.windows import TokenWindows, stream_windows
from energylens.studies.energy_lens.material import checked_device
from energylens.studies.energy_lens.parts import file_name
from energylens.studies.study import pin_inputs
from energylens.studies.train_dictionary import TrainDictionary

# Bytes of a text file that count as one document: enough for some windows, and few documents of a
# single long file are then held out.
PIECE = 2**15


@dataclass(frozen=True, kw_only=True)
class Material:
    """Everything read and decided before the first step.

    Attributes:
        windows: Begins the stream of windows to train on anew; always the same ones.
        n_windows: How many there are.
        text: What the text is called, and SHA-256 of the tokens of these windows.
        held_out: Windows of documents that come before them in the stream, one each.
        jobs: The dictionaries, by label.
    """

    subject: Subject
    windows: Callable[[], Iterator[TokenWindows]]
    n_windows: int
    text: str
    sha256: str
    held_out: TokenWindows
    jobs: dict[str, Job]

    @property
    def sites(self) -> list[str]:
        """All places that are read or written."""
        return list(dict.fromkeys(site for job in self.jobs.values() for site in job.places))


def gather(options: TrainDictionary, store: Store, say: Callable[[str], None]) -> Material:
    """Load, certify, count the text; refuse what cannot be trained.

    Raises:
        BadInput: For models, texts, sites and options that cannot be used, each in one sentence.
    """
    device = checked_device(options.device)
    _known_architectures(options)
    say(f"loading {options.model}")
    loaded = load_model(options.model, device=device)
    if loaded.tokenizer is None:
        raise BadInput(f"{loaded.name} has no tokenizer: put tokenizer.json beside its weights")
    if loaded.context and options.context > loaded.context:
        raise BadInput(
            f"a context of {options.context} tokens was asked for and {loaded.name} reads at most"
            f" {loaded.context}: lower --context"
        )
    subject = wrap(loaded)
    jobs = jobs_of(options, subject)
    say("reading the text")
    held_out, windows, n_windows, sha256 = _text(options, subject)
    name = ", ".join(Path(path).name for path in options.text) or "default text"
    pin_inputs(store, {
        "model": {"name": loaded.name, "source": loaded.source, "sha256": loaded.sha256},
        "text": {"name": name, "sha256": sha256, "windows": n_windows,
                 "documents_held_out": len(held_out.document_names)},
    })  # fmt: skip
    return Material(
        subject=subject, windows=windows, n_windows=n_windows, text=name, sha256=sha256,
        held_out=held_out, jobs=jobs,
    )  # fmt: skip


def jobs_of(options: TrainDictionary, subject: Subject) -> dict[str, Job]:
    """A dictionary for every combination, by a label that names a folder.

    Raises:
        BadInput: If sites and targets do not make what was asked for, or k exceeds the width.
        SiteNotAvailable: If the model lacks a place.
    """
    if options.skip and not options.targets:
        raise BadInput("--skip was given without --targets: only a transcoder has a linear part")
    if (options.targets or options.joined != "no") and options.loss != "reconstruction":
        what = "transcoders" if options.targets else f"a {options.joined}"
        raise BadInput(
            f"--loss {options.loss} was asked of {what}: it is for dictionaries that rebuild the"
            " one place that they read"
        )
    jobs = {}
    choices = product(
        _makers(options, subject).items(), options.architectures, options.widths, options.ks,
        options.seeds,
    )  # fmt: skip
    for (name, make), architecture, width, k, seed in choices:
        if k > width:
            raise BadInput(f"--ks {k} of --widths {width} was asked for: k is at most the width")
        job = make(seed=seed, options=TrainOptions(
            architecture=architecture, width=width, k=k, skip=options.skip, epochs=options.epochs,
            batch=options.batch, lr=options.lr or None, aux_k=options.aux_k,
            dead_after_tokens=options.dead_after, resample=options.resample,
        ))  # fmt: skip
        job.check()
        if job.options.resample:
            refuse_resampling(architecture, ALONE)
        jobs[f"{name}-{architecture}-{width}-k{k}-s{seed}"] = job
    return jobs


def _makers(options: TrainDictionary, subject: Subject) -> dict[str, Callable[..., Job]]:
    """What is trained on the sites, by the beginning of its label; seed and options are to come."""
    across = options.joined == "cross-layer"
    sites = _places(options.sites or _usual_sites(options, subject), subject)
    targets = _places(options.targets or (("blocks.*.mlp_out",) if across else ()), subject)
    if options.joined == "crosscoder":
        if targets:
            raise BadInput("--targets were given for a crosscoder, which makes what it reads")
        return {"crosscoder": partial(CrosscoderJob, reads=tuple(sites))}
    if targets and not across and len(targets) != len(sites):
        raise BadInput(
            f"{len(sites)} sites and {len(targets)} targets were given: a transcoder has one of"
            " each"
        )
    if across:
        layers = _layers(sites)
        if layers != _layers(targets):
            raise BadInput(
                f"sites of layers {layers} and targets of layers {_layers(targets)} were given: a"
                " cross-layer transcoder writes from each layer that it reads"
            )
        return {"cross-layer": partial(
            CrossLayerJob, reads=tuple(sites), writes=tuple(targets), layers=tuple(layers)
        )}  # fmt: skip
    pairs = zip(sites, targets, strict=True) if targets else ((site,) for site in sites)
    return {
        file_name(site): partial(Job, reads=(site,), writes=tuple(target))
        for site, *target in pairs
    }


def _layers(sites: Sequence[str]) -> list[int]:
    """The layer of each site, which are one kind of place in ascending layers.

    Raises:
        BadInput: If they are not.
    """
    found = [re.fullmatch(r"blocks\.(\d+)\.(.+)", site) for site in sites]
    layers = [int(match[1]) for match in found if match]
    if len({match[2] for match in found if match}) != 1 or layers != sorted(set(layers)) or (
        len(layers) < len(sites)
    ):  # fmt: skip
        raise BadInput(
            f"{', '.join(sites)} was asked for: a cross-layer transcoder reads one kind of place,"
            " and writes one, of several layers in their order, such as blocks.*.resid_mid"
        )
    return layers


def _known_architectures(options: TrainDictionary) -> None:
    for name in options.architectures:
        kind = ARCHITECTURES[name]  # raises with the nearest names
        if options.loss != "reconstruction":
            refuse_own_loss(name, kind)


def _usual_sites(options: TrainDictionary, subject: Subject) -> tuple[str, ...]:
    """Behind the middle block; for a crosscoder behind each, across layers before each MLP."""
    middle = max(0, (subject.n_layers - 1) // 2)
    places = {"no": f"blocks.{middle}.resid_post", "crosscoder": "blocks.*.resid_post",
              "cross-layer": "blocks.*.resid_mid"}  # fmt: skip
    return (places[options.joined],)


def _places(asked: Sequence[str], subject: Subject) -> list[str]:
    """Certified places of the model, patterns written out."""
    sites = list(dict.fromkeys(name for pattern in asked for name in subject.expand(pattern)))
    if asked and not sites:
        raise BadInput(f"no place of the model is called {', '.join(asked)}")
    for site in sites:
        subject.port(site)
    return sites


def _text(
    options: TrainDictionary, subject: Subject
) -> tuple[TokenWindows, Callable[[], Iterator[TokenWindows]], int, str]:
    """Held-out windows, the stream to train on, how many windows it has, and their hash."""
    tokenizer = subject.loaded.tokenizer
    assert tokenizer is not None

    def stream() -> Iterator[TokenWindows]:
        order, places = (torch.Generator().manual_seed(options.seeds[0] + n) for n in (0, 1))
        documents = stream_text([Path(path) for path in options.text] or "default", longest=PIECE)
        return stream_windows(
            shuffled(documents, order), tokenizer, options.context,
            per_document=options.per_document or None, generator=places,
        )  # fmt: skip

    held_out = list(islice(stream(), options.held_out))
    wanted = -(-options.tokens // (options.context - 2))

    def windows() -> Iterator[TokenWindows]:
        left = wanted
        for some in islice(stream(), options.held_out, None):
            yield some if len(some.ids) <= left else some.first(left)
            left -= min(left, len(some.ids))
            if not left:
                return

    digest, count = hashlib.sha256(), 0
    for some in windows():
        digest.update(some.ids.numpy().tobytes())
        count += len(some.ids)
    if not count:
        raise InsufficientData(
            f"the text has {len(held_out)} documents of at least {options.context} tokens, and"
            f" {options.held_out} are held out to judge by: give more text, or lower --held-out"
        )
    return _one_each(held_out), windows, count, digest.hexdigest()


def _one_each(items: list[TokenWindows]) -> TokenWindows:
    """The first window of each document."""
    return TokenWindows(
        ids=torch.cat([item.ids[:1] for item in items]), document=torch.arange(len(items)),
        starts=torch.cat([item.starts[:1] for item in items]),
        document_names=tuple(item.document_names[0] for item in items),
        kinds=tuple(item.kinds[0] for item in items),
    )  # fmt: skip
