"""Null worlds of the study of image classifiers: an image is the unit."""

from dataclasses import replace
from typing import Any

import torch
from tools.levels.world import Claim, World
from torch import Tensor
from torch.nn.functional import normalize, one_hot

from energylens.activations.images import Places
from energylens.features.dictionary import Dictionary
from energylens.features.ordinary import Ordinary
from energylens.stats.nulls import permute_rows
from energylens.studies.energy_lens.bench import Bench, RandomDirections
from energylens.studies.energy_lens.scoring import Scored
from energylens.studies.energy_lens.statistics import LEVEL
from energylens.studies.energy_lens.tables import feature_rows
from energylens.studies.energy_lens.tally import Tally
from energylens.studies.energy_lens_classifier.scoring import (
    CLASS_ENERGY,
    MARGIN,
    OTHER_IMAGE,
    PIECES,
    WRONG_LABELS,
    ImagePass,
    infer_images,
)
from energylens.studies.energy_lens_classifier.tables import own_rows

# Share of each class: of the last there are a handful of images.
SHARES = torch.tensor([0.30, 0.22, 0.16, 0.12, 0.09, 0.06, 0.035, 0.015])
IMAGES, CLASSES = 400, len(SHARES)
# Positions of an image, by layer: a vector, and a map of channels.
LAYERS = {"hidden:out": 1, "conv:out": 4}
WIDTH, D, K, PLANTED, STRENGTH, DRAWS = 32, 16, 4, 8, 2.0, 500
# Of the controls, those that must not stand out whatever features do.
BLIND = (OTHER_IMAGE, WRONG_LABELS)


# ---- what a pass over images leaves behind


def _pass(generator: torch.Generator, *, planted: bool, told: bool, gates: float) -> ImagePass:
    """Dictionaries and sums of images whose label has nothing to do with features' own rows.

    Each image shows a kind, which some features answer to. Forces come from the label, through
    directions of classes that are drawn anew, and have tails: of the margin and, of a classifier
    that is mostly sure, of the class energy.

    Args:
        planted: Whether some features pull both gradients against their own row.
        told: Whether the kind is that of the label, so that all features covary with all forces.
        gates: By how much of itself the force along a row is larger where its feature is active.
    """
    label = SHARES.multinomial(IMAGES, replacement=True, generator=generator)
    kind = SHARES.multinomial(IMAGES, replacement=True, generator=generator)
    if told:
        kind = torch.where(torch.rand(IMAGES, generator=generator) < 0.7, label, kind)
    tails = torch.randn(IMAGES, 1, 1, generator=generator).exp()
    blame = _blame(label, generator)
    benches, states, slopes = {}, {}, {}
    for site, positions in LAYERS.items():
        benches[site] = bench(generator)
        rows = benches[site].dictionary.W_dec
        code = _code(kind, positions, generator)
        states[site] = code @ rows + 0.05 * torch.randn(IMAGES, positions, D, generator=generator)
        ways = torch.randn(positions, CLASSES, D, generator=generator)
        noise = 0.3 * torch.randn(IMAGES, positions, D, generator=generator)
        for name, classes in blame.items():
            force = tails * (torch.einsum("nc,pcd->npd", classes, ways) + noise)
            force = force + gates * ((code > 0) * (force @ rows.T)) @ rows
            if planted:
                force = force - STRENGTH * code[:, :, :PLANTED] @ rows[:PLANTED]
            slopes[site, name] = force
    pieces = [
        _piece(benches, rows, states, slopes, keep=number % 2 == 1)
        for number, rows in enumerate(torch.arange(IMAGES).tensor_split(PIECES))
    ]
    half_b = torch.cat(torch.arange(IMAGES).tensor_split(PIECES)[1::2])
    return ImagePass(benches=benches, scored=Scored(pieces=pieces), half_b=half_b)


def _blame(label: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
    """Gradients by the logits: of the margin, of the class energy, and with labels of others."""
    sure = 3 * one_hot(label, CLASSES) + 2 * torch.randn(IMAGES, CLASSES, generator=generator)
    share = torch.bincount(label, minlength=CLASSES) / IMAGES
    foreign = label[torch.randperm(IMAGES, generator=generator)]
    return {
        MARGIN: share - one_hot(label, CLASSES),
        CLASS_ENERGY: sure.softmax(1) - one_hot(label, CLASSES),
        WRONG_LABELS: share - one_hot(foreign, CLASSES),
    }


def bench(generator: torch.Generator) -> Bench:
    """Rows of features that answer to one kind lie nearer to each other than to the rest."""
    middle = torch.randn(CLASSES, D, generator=generator)[torch.arange(WIDTH) % CLASSES]
    own = torch.randn(WIDTH, D, generator=generator)
    rows = normalize(0.5 * middle + own, dim=1)
    random = normalize(torch.randn(WIDTH, D, generator=generator), dim=1)
    zero = torch.zeros(D)
    return Bench(
        dictionary=Dictionary(architecture="topk", k=K, W_enc=rows, W_dec=rows,
                              b_enc=torch.zeros(WIDTH), b_dec=zero),
        permuted=permute_rows(rows, generator), mean_state=zero,
        random=RandomDirections(rows=random, thresholds=torch.zeros(WIDTH)),
        ordinary=Ordinary(center=zero, radius=float("inf")),
    )  # fmt: skip


def _code(kind: Tensor, positions: int, generator: torch.Generator) -> Tensor:
    """Sparse non-negative activations [image position feature]; the first are the most frequent."""
    frequent = 0.7 * torch.randn(WIDTH, generator=generator).sort(descending=True).values
    answers = 1.5 * (torch.arange(WIDTH) % CLASSES == kind[:, None])[:, None]
    shared = torch.randn(IMAGES, 1, WIDTH, generator=generator)
    own = torch.randn(IMAGES, positions, WIDTH, generator=generator)
    drive = frequent + answers + shared + own
    size = (0.5 * torch.randn(IMAGES, positions, WIDTH, generator=generator)).exp()
    return torch.where(drive >= drive.topk(K, dim=2).values[:, :, -1:], size, 0.0)


def _piece(
    benches: dict[str, Bench],
    rows: Tensor,
    states: dict[str, Tensor],
    slopes: dict[tuple[str, str], Tensor],
    *,
    keep: bool,
) -> dict[str, Tensor]:
    tally = Tally(benches, n_units=len(rows), keep=keep, controls=True, headline=MARGIN)
    for site, positions in LAYERS.items():
        every = torch.ones(len(rows), positions, dtype=torch.bool)
        places = Places(scored=every, document=torch.arange(len(rows)))
        counted = tally.site(site, places, states[site][rows], slopes[site, MARGIN][rows])
        for name in (CLASS_ENERGY, WRONG_LABELS):
            tally.energy(site, name, counted, slopes[site, name][rows])
    return tally.tensors()


def _scored(
    generator: torch.Generator, *, planted: bool, told: bool, gates: float
) -> dict[str, Tensor]:
    trained = _pass(generator, planted=planted, told=told, gates=gates)
    seed = int(torch.randint(2**31, (), generator=generator))
    inference = infer_images(trained, None, draws=DRAWS, seed=seed)
    features = [
        row for row in feature_rows(trained.benches, trained.scored, inference)
        if not planted or row["feature"] < PLANTED
    ]  # fmt: skip
    blind = {name: inference.controls[name] for name in BLIND}
    own = list(own_rows(trained, None, replace(inference, controls=blind), seed=seed))

    def found(*analyses: str) -> Tensor:
        return torch.tensor([row["p"] for row in own if row["analysis"] in analyses])

    none = [
        not any(row["covarying"] for row in own if row["analysis"] == name)
        for name in (MARGIN, CLASS_ENERGY)
    ]
    return {
        "p_max_t": torch.tensor([row[f"p_max_t_{CLASS_ENERGY}"] for row in features]),
        "p_max_t of the margin": torch.tensor([row["p_max_t"] for row in features]),
        "covarying": torch.tensor(none).double(),
        "own rows": found(MARGIN, CLASS_ENERGY),
        "own rows of controls": found(*BLIND) if not planted else found(),
    }


def _given(**kind: Any) -> Any:
    return lambda generator, planted: _scored(generator, planted=planted, **kind)


# ---- the claims

_BY_BOTH = "larger of `multiplicity.max_t` and `matching.matched_max_t`"
_OWN = f"`matching.own_rows_test`, {WIDTH} features"


def _row_claims(null: str) -> tuple[Claim, ...]:
    """What must hold wherever a feature's own row has no part in the force."""
    return (
        Claim(name="p_max_t", columns=("features_of_images.p_max_t_class_energy",), family=True,
              function=_BY_BOTH, null=null),
        Claim(name="p_max_t of the margin", columns=("features.p_max_t",), family=True,
              function=_BY_BOTH, null="the same, of the margin"),
        Claim(name="own rows", columns=("own_rows.p",), function=_OWN,
              null="the same, for all features of a layer as a kind, of both energies"),
        Claim(name="own rows of controls", columns=("own_rows.p",), function=_OWN,
              null="the same, of other images' activations and labels"),
    )  # fmt: skip


_COVARYING = Claim(name="covarying", columns=("own_rows.covarying",), levels=(LEVEL,),
                   function="any with `multiplicity.max_t` ≤ .05", null="the same, for all features"
                   " of all layers, of both energies")  # fmt: skip
_IMAGES_SAY = (
    f"{IMAGES} images of {CLASSES} classes, of the last six; {WIDTH} features at a layer of one"
    " position an image and at one of four, of which"
    f" {K} are active; forces through directions of the classes, heavy tails"
)
_PLANTED_SAY = f"Planted: {PLANTED} features a layer that pull the gradient along their row"
WORLDS = (
    World(
        name="images", draw=_given(told=False, gates=0.0),
        says=f"{_IMAGES_SAY}. Features answer to kinds of images that have nothing to do with"
        f" labels. {_PLANTED_SAY}",
        claims=(*_row_claims("activation and force are independent"), _COVARYING),
    ),
    World(
        name="images that covary", draw=_given(told=True, gates=0.0),
        says="as above; features answer to the class of the image, and directions of classes have"
        f" nothing to do with their rows. {_PLANTED_SAY}",
        claims=_row_claims("activation and force covary, the own row has no part in it"),
    ),
    World(
        name="images behind open gates", draw=_given(told=False, gates=0.3),
        says="as the first; where a feature is active the force along its row is larger by three"
        f" tenths, either way, as behind gates that the feature opens. {_PLANTED_SAY}",
        note="Dealing rows out tests that they are exchangeable, and in the size of the force they"
        " are not: where that is larger, a covariance strays further from 0, either way. So it is"
        " behind ReLUs. With the digits' labels dealt out blindly, p of own rows is ≤ .05 in .12,"
        " .07 and .04 at the layers of the perceptron (400 times), in .09, .23 and .03 at those of"
        " the convolutional network (200 times), and the control of own rows with other labels"
        " fails too often. The share is off by .02, where the right labels give .82 to .92."
        " Covariances over their own standard error hold (.06, .06 and .05 in the perceptron), but"
        " need sums of squares for every pair of feature and row, which a pass does not keep.",
        claims=(*_row_claims("activation and force are uncorrelated, their sizes are not"),
                _COVARYING),
    ),
)  # fmt: skip
