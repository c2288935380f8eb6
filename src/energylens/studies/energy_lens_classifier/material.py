"""What a run reads: images split in two, and the classifier, trained here or loaded."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from energylens.activations.hooks import module_at
from energylens.activations.images import ImageBatch, as_positions
from energylens.activations.layers import hidden_layers
from energylens.activations.subject import Subject
from energylens.core.errors import BadInput, InsufficientData, SiteNotAvailable
from energylens.core.ports import Progress, Store
from energylens.core.sites import parse_port
from energylens.energy.energies.class_energy import must_classify
from energylens.features.training import TrainOptions
from energylens.sources.images import DIGITS, Images, load_images, prepared
from energylens.sources.model import LoadedModel, load_classifier
from energylens.sources.small_classifiers import EPOCHS, KINDS, fit, small_classifier
from energylens.studies.energy_lens.material import checked_device
from energylens.studies.energy_lens_classifier import EnergyLensClassifier
from energylens.studies.study import pin_inputs

FEWEST_IMAGES = 200
MOST_SITES = 5
NETWORK = "network"
# Held-out samples on which a feature is active on average; one is scored on 30 or more.
ACTIVE_SAMPLES = 60
# Steps of training a dictionary at the least, however few the images.
STEPS, BATCH = 800, 256
# Positions that a dictionary is trained on, at the most.
MOST_ROWS = 20_000


@dataclass(frozen=True, kw_only=True)
class Material:
    """Everything read and decided before the first measurement.

    Attributes:
        train: Images that dictionaries, and a network trained here, learn from.
        held_out: The other half, in random order.
        shares: Share of each class among the labels of the held-out images.
        dictionaries: How the dictionary of each site is trained.
    """

    subject: Subject
    sites: tuple[str, ...]
    train: Images
    held_out: Images
    shares: Float[Tensor, " class"]
    dictionaries: dict[str, TrainOptions]

    def batch(self, images: Images, rows: slice | Tensor = slice(None)) -> ImageBatch:
        """Some images as the classifier takes them, on its device; units count from 0."""
        labels = images.labels[rows]
        return ImageBatch(
            pixels=images.pixels[rows], labels=labels, document=torch.arange(len(labels))
        ).to(self.subject.device)


def gather(
    options: EnergyLensClassifier, store: Store, progress: Progress, say: Callable[[str], None]
) -> Material:
    """Read and check everything, and train the network if it is one of ours.

    Raises:
        BadInput: For models, images and layers that cannot be used, each in one sentence.
    """
    device = checked_device(options.device)
    own = options.model in KINDS
    images = load_images(_images_of(options, own=own))
    _enough(images)
    blank = _blank(options, images) if own else None
    loaded = load_classifier(options.model if blank is None else blank, device=device)
    images = _as_read(images, loaded)
    generator = torch.Generator().manual_seed(options.seed)
    order = torch.randperm(len(images), generator=generator)[: options.most_images]
    train, held_out = (images.take(rows) for rows in order.tensor_split(2))
    subject, sites = _subject(loaded, train, options)
    dictionaries = _dictionaries(subject, sites, train, held_out, options)
    if blank is not None:  # all has been checked: now the network may learn
        _train(blank, train, options, store, progress, say)
        loaded = _ours(blank, options.model, images)
        subject = Subject(loaded=loaded, sites={})
    pin_inputs(store, {
        "model": {"name": loaded.name, "source": loaded.source, "sha256": loaded.sha256,
                  "family": loaded.model_type},
        "images": {"name": images.name, "source": images.source, "sha256": images.sha256,
                   "images": len(held_out), "classes": len(images.classes)},
    })  # fmt: skip
    shares = torch.bincount(held_out.labels, minlength=len(images.classes)).double()
    return Material(
        subject=subject, sites=sites, train=train, held_out=held_out, shares=shares / shares.sum(),
        dictionaries=dictionaries,
    )  # fmt: skip


def _images_of(options: EnergyLensClassifier, *, own: bool) -> str:
    if options.images or own:
        return options.images or DIGITS
    raise BadInput(
        f"model {options.model!r} needs images to look at: give --images FILE.npz with arrays"
        " images and labels, or use the models mlp or cnn, which learn the digits of scikit-learn"
    )


def _enough(images: Images) -> None:
    if len(images) < FEWEST_IMAGES:
        raise InsufficientData(
            f"the statistics need {FEWEST_IMAGES} images, half of them held out, and"
            f" {images.name} has {len(images)}: give more images"
        )
    if len(images.labels.unique()) < 2:
        raise InsufficientData(
            f"all images of {images.name} are of one class: the class energy needs two or more"
        )


def _as_read(images: Images, loaded: LoadedModel) -> Images:
    """Images as the model takes them, with its names of classes."""
    config = getattr(loaded.module, "config", None)
    classes = getattr(config, "num_labels", None)
    if classes is None:
        return images
    if (largest := int(images.labels.max())) >= classes:
        raise BadInput(
            f"labels of {images.name} go up to {largest} and {loaded.name} has {classes} classes,"
            f" 0 to {classes - 1}: give labels that index its classes"
        )
    said = getattr(config, "id2label", None) or {}
    names = [str(said.get(number, number)) for number in range(classes)]
    found = replace(images, classes=names)
    return prepared(found, loaded.pixels) if loaded.pixels is not None else found


def _blank(options: EnergyLensClassifier, images: Images) -> nn.Sequential:
    channels, height, width = images.pixels.shape[1:]
    generator = torch.Generator().manual_seed(options.seed + 1)
    return small_classifier(
        options.model, (channels, height, width), len(images.classes), generator
    )


def _train(
    module: nn.Sequential,
    train: Images,
    options: EnergyLensClassifier,
    store: Store,
    progress: Progress,
    say: Callable[[str], None],
) -> None:
    """Train the network in place, or take the weights of an earlier sitting."""
    if not store.done(NETWORK):
        say(f"training the network on {len(train):,} images")
        generator = torch.Generator().manual_seed(options.seed + 2)
        module.requires_grad_(True)
        device = next(module.parameters()).device
        found = fit(module, train.pixels.to(device), train.labels.to(device), generator,
                    epochs=EPOCHS[options.model], progress=progress)  # fmt: skip
        store.save(
            NETWORK, tensors={NETWORK: {k: v.cpu() for k, v in module.state_dict().items()}},
            records={NETWORK: {"epochs": found.epochs, "loss": list(found.loss)}},
        )  # fmt: skip
    module.load_state_dict(store.tensors(NETWORK))


def _ours(module: nn.Module, kind: str, images: Images) -> LoadedModel:
    device = next(module.parameters()).device
    return replace(
        load_classifier(module, device=device), name=kind, model_type=kind,
        source=f"trained in this run on {images.name}",
    )  # fmt: skip


def _subject(
    loaded: LoadedModel, train: Images, options: EnergyLensClassifier
) -> tuple[Subject, tuple[str, ...]]:
    """The model with its hidden layers, tried on a few images.

    Raises:
        SiteNotAvailable: If it is no classifier, or a layer is never reached.
        UnknownName: If a layer does not exist; with the nearest names.
    """
    subject = Subject(loaded=loaded, sites={})
    few = ImageBatch(
        pixels=train.pixels[:3], labels=train.labels[:3], document=torch.arange(3)
    ).to(subject.device)  # fmt: skip
    try:
        with torch.no_grad():
            must_classify(subject.forward(few), 3, loaded.name)
    except (RuntimeError, ValueError, TypeError) as error:
        if isinstance(error, SiteNotAvailable):
            raise
        shape = "×".join(map(str, few.pixels.shape[1:]))
        raise BadInput(
            f"{loaded.name} cannot be run on images of {shape}"
            f" ({' '.join(str(error).split())[:120]}): give images of the size it was trained on"
        ) from error
    sites = _named(subject, options.sites) if options.sites else _default(subject, few)
    with torch.no_grad(), subject.capture(*sites) as seen:
        subject.forward(few)
    for site in sites:
        as_positions(seen[site], site)
    return subject, sites


def _named(subject: Subject, asked: tuple[str, ...]) -> tuple[str, ...]:
    sites = [site if parse_port(site) else f"{site}:out" for site in asked]
    for site in sites:
        port = parse_port(site)
        assert port is not None
        module_at(subject.module, port.path)  # raises with the nearest paths
    return tuple(dict.fromkeys(sites))


def _default(subject: Subject, few: ImageBatch) -> tuple[str, ...]:
    found = hidden_layers(subject.module, lambda: subject.forward(few))
    if len(found) <= MOST_SITES:
        return tuple(found)
    return tuple(found[int((i + 0.5) * len(found) / MOST_SITES)] for i in range(MOST_SITES))


def _dictionaries(
    subject: Subject,
    sites: tuple[str, ...],
    train: Images,
    held_out: Images,
    options: EnergyLensClassifier,
) -> dict[str, TrainOptions]:
    """Width and k of each site: as wide as the held-out images can judge."""
    few = ImageBatch(pixels=train.pixels[:1], labels=train.labels[:1], document=torch.arange(1))
    with torch.no_grad(), subject.capture(*sites) as seen:
        subject.forward(few.to(subject.device))
    found = {}
    for site in sites:
        _, positions, d = as_positions(seen[site], site).shape
        k = options.k or min(32, max(1, d // 8))
        most = k * positions * len(held_out) // ACTIVE_SAMPLES
        width = options.width or max(2 * k, min(8 * d, most) // 8 * 8)
        if k > width:
            raise BadInput(
                f"--k {k} active features of --width {width} were asked for: k must be less"
            )
        if len(train) * positions < width:
            raise InsufficientData(
                f"a dictionary of {width} features at {site} needs as many training positions and"
                f" found {len(train) * positions}: lower --width or give more images"
            )
        epochs = max(4, round(STEPS * BATCH / min(MOST_ROWS, len(train) * positions)))
        found[site] = TrainOptions(width=width, k=k, batch=BATCH, epochs=epochs)
    return found
