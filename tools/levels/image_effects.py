"""Null worlds of what interventions on images measure: classes, calibration, accuracy."""

import math
from functools import cache
from typing import Any

import torch
from tools.levels.effects import Kept, tailed
from tools.levels.images import CLASSES, IMAGES, LAYERS, SHARES, bench
from tools.levels.world import Claim, World
from torch import Tensor, nn

from energylens.activations.subject import Subject
from energylens.sources.images import Images
from energylens.sources.model import load_classifier
from energylens.studies.energy_lens.behaviour import MATCHED, MATCHES, TOP
from energylens.studies.energy_lens.parts import part_of
from energylens.studies.energy_lens.proof import ABLATE, DOUBLE, KINDS, RANDOM, RULES
from energylens.studies.energy_lens.scoring import Scored
from energylens.studies.energy_lens_classifier.material import Material
from energylens.studies.energy_lens_classifier.proof import ACCURACY
from energylens.studies.energy_lens_classifier.scoring import ImagePass
from energylens.studies.energy_lens_classifier.tables import (
    FEWEST_IMAGES,
    accuracy_contrast,
    accuracy_rows,
    calibration_of_energies,
    class_effects,
)

# Features a layer that are intervened on, and images of one at the most; strongest features.
FEATURES, MOST, SETS = 12, 60, 5


@cache
def _material() -> Material:
    """Names of classes, and nothing else that a table of effects would read."""
    names = [str(c) for c in range(CLASSES)]
    nothing = Images(
        pixels=torch.zeros(CLASSES, 1, 1, 1), labels=torch.arange(CLASSES), classes=names,
        name="made up", source="made up", sha256="0",
    )  # fmt: skip
    network = nn.Sequential(nn.Flatten(), nn.Linear(1, CLASSES))
    return Material(
        subject=Subject(loaded=load_classifier(network), sites={}), sites=tuple(LAYERS),
        train=nothing, held_out=nothing, shares=SHARES.double(), dictionaries={},
    )  # fmt: skip


@cache
def _benches() -> ImagePass:
    """Layers and half B; what is measured there comes from elsewhere."""
    own = bench(torch.Generator().manual_seed(0))
    return ImagePass(benches=dict.fromkeys(LAYERS, own), scored=Scored(pieces=[]),
                     half_b=torch.arange(IMAGES // 2))  # fmt: skip


def _shown(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Of every ablation its feature and its image: features are active in few images or many."""
    fewest = torch.randint(FEWEST_IMAGES, MOST + 1, (FEATURES,), generator=generator)
    images = [torch.randperm(IMAGES // 2, generator=generator)[:n] for n in fewest.tolist()]
    return torch.arange(FEATURES).repeat_interleave(fewest), torch.cat(images)


def _class_changes(generator: torch.Generator, planted: bool, *, skewed: bool) -> dict[str, Tensor]:
    """Changes of log p(class): images matter unlike much, classes go together, tails are heavy."""
    tensors, records = {}, {}
    for site in LAYERS:
        feature, image = _shown(generator)
        hard = torch.randn(IMAGES, 1, generator=generator, dtype=torch.float64)[image]
        hard = (0.3 * hard if skewed else hard).exp()
        of_kind = []
        for kind in (ABLATE, DOUBLE, RANDOM):
            shape = (len(feature), CLASSES)
            change = tailed(generator, len(feature), 1) + tailed(generator, *shape)
            if skewed:
                normal = torch.randn(*shape, generator=generator, dtype=torch.float64)
                change = (0.5 * normal).exp() - math.exp(0.125)
            if planted and kind == ABLATE:
                change[:, 0] -= 4
            of_kind.append(hard * change)
        tensors[part_of("proof", site)] = {
            "feature": feature.repeat(3), "classes": torch.cat(of_kind),
            "kind": torch.tensor([KINDS.index(kind) for kind in (ABLATE, DOUBLE, RANDOM)])
            .repeat_interleave(len(feature)),
        }  # fmt: skip
        records[part_of("proof", site)] = {"choices": _choices()}
    rows = class_effects(_material(), _benches(), Kept(tensors, records))
    rows = [row for row in rows if not planted or row["class"] == "0"]
    return {name: torch.tensor([row[name] for row in rows]) for name in "pq"}


def _choices() -> list[list[Any]]:
    return [[feature, RULES[feature % len(RULES)]] for feature in range(FEATURES)]


def _calibration(generator: torch.Generator, planted: bool) -> dict[str, Tensor]:
    """Ablations in images where the feature is more or less active: both sizes grow with that."""
    tensors: dict[str, dict[str, Tensor]] = {}
    hard = torch.randn(IMAGES, generator=generator, dtype=torch.float64)
    for site in LAYERS:
        feature, image = _shown(generator)
        active = (0.5 * torch.randn(len(feature), generator=generator, dtype=torch.float64)).exp()
        changes = []
        for _ in range(2):  # the class energy, the margin
            slope, own = (tailed(generator, FEATURES)[feature] for _ in range(2))
            measured = (slope if planted else own) + 0.5 * tailed(generator, len(feature))
            changes += [active * slope, active * measured + 0.5 * hard[image]]
        tensors[part_of("proof", site)] = {
            "feature": feature, "window": image,
            "kind": torch.full(feature.shape, KINDS.index(ABLATE)),
            "predicted": changes[0], "measured": changes[1],
            "lens": torch.stack(changes[2:], dim=1),
        }  # fmt: skip
    seed = int(torch.randint(2**31, (), generator=generator))
    rows = calibration_of_energies(_benches(), Kept(tensors, {}), seed=seed)
    return {
        what: torch.tensor([row[f"null_{what}_p"] for row in rows])
        for what in ("correlation", "rank_correlation")
    }


def _classified(generator: torch.Generator, strength: Tensor) -> Kept:
    """Which images are classified rightly without each of some features, and at what energy.

    Nine in ten are right with it. Without it some change sides, as many one way as the other, and
    energies move by tails that are symmetric; of images near the border more, for every feature.

    Args:
        strength: By set and member, what a feature does besides: it loses images that were right,
            and raises the energy.
    """
    members = [[number, MATCHED if place else TOP, "hidden:out", number * (1 + MATCHES) + place]
               for number in range(SETS) for place in range(1 + MATCHES)]  # fmt: skip
    shape = (len(members), IMAGES // 2)
    does = strength.flatten()[:, None]
    right = torch.rand(shape[1], generator=generator) < 0.9
    near = 2 * torch.rand(shape[1], generator=generator)
    leaves = near * torch.where(right, 0.04 + 0.05 * does, 0.36)
    changed = torch.rand(*shape, generator=generator) < leaves
    energy = tailed(generator, shape[1]).abs()
    moved = energy + near * (0.3 * tailed(generator, *shape) + 0.3 * does)
    kept = {"right": torch.cat([right[None], right ^ changed]),
            "energy": torch.cat([energy[None], moved])}  # fmt: skip
    return Kept({ACCURACY: kept}, {ACCURACY: {"members": members}})


def _accuracy(generator: torch.Generator, planted: bool) -> dict[str, Tensor]:
    strength = torch.full((SETS, 1 + MATCHES), 2.0 if planted else 0.0)
    rows = list(accuracy_rows(_classified(generator, strength)))
    return {name: torch.tensor([row[f"{name}_p"] for row in rows])
            for name in ("accuracy", "energy")}  # fmt: skip


def _contrast(generator: torch.Generator, planted: bool) -> dict[str, Tensor]:
    strength = torch.randn(SETS, 1 + MATCHES, generator=generator).exp()
    if planted:
        strength[:, 0] *= 5
    rows = list(accuracy_contrast(_classified(generator, strength), seed=0))
    return {name: torch.tensor([row[name] for row in rows]) for name in ("p", "p_adjusted")}


def _class_world(*, skewed: bool) -> Any:
    return lambda generator, planted: _class_changes(generator, planted, skewed=skewed)


_CHANGES_SAY = (
    f"{FEATURES} features at each of two layers, active in {FEWEST_IMAGES} to {MOST} images that"
    f" matter unlike much, {CLASSES} classes"
)


def _class_claims(null: str) -> tuple[Claim, ...]:
    return (
        Claim(name="p", columns=("class_effects.p",), function="`robust.cluster_robust_t`",
              null=null),
        Claim(name="q", columns=("class_effects.q", "class_effects.verdict"), family=True,
              function="`multiplicity.benjamini_hochberg`", null="the same, for all rows"),
    )  # fmt: skip


WORLDS = (
    World(
        name="classes by feature", draw=_class_world(skewed=False),
        says=f"{_CHANGES_SAY}, whose changes go together; heavy tails. Planted: every feature"
        " lowers the first class",
        claims=_class_claims("changes are symmetric about 0"),
    ),
    World(
        name="classes by feature, skewed", draw=_class_world(skewed=True),
        says=f"{_CHANGES_SAY}, log-normal changes (σ = .5) whose mean is 0. Planted: as above",
        note="Flipping signs tests that changes are symmetric about 0, and these are not: a verdict"
        " on few images that lean to one side is one of symmetry, not of the mean. Of ablations in"
        " the perceptron on the digits the median skewness is .7 to .8, here .9 to 1.1.",
        claims=_class_claims("the mean change is 0"),
    ),
    World(
        name="calibration on images", draw=_calibration,
        says=f"{FEATURES} features at each of two layers, active in {FEWEST_IMAGES} to {MOST}"
        " images, which shift all effects; what is predicted and measured grows with the"
        " activation. Planted: measured as predicted, with noise",
        note="The mean activation over few images varies, and predicted and measured share it: p"
        " errs a little in the way of *calibration, sizes shared* (over 500 sets more, .064 at .05"
        " for both; with 30 images of each feature, .05).",
        claims=tuple(
            Claim(name=what, columns=(f"calibration_energies.null_{what}_p",),
                  function="2,000 shuffles in `energy_lens.calibration`, 24 features of two layers",
                  null="predicted and measured effects are independent and features exchangeable")
            for what in ("correlation", "rank_correlation")
        ),
    ),
    World(
        name="accuracy of images", draw=_accuracy,
        says=f"{IMAGES // 2} images, nine in ten rightly classified, {SETS * (1 + MATCHES)}"
        " features. Planted: ablation also loses one in ten of the others, and raises energies",
        claims=(
            Claim(name="accuracy", columns=("accuracy.accuracy_p",),
                  function="`robust.cluster_robust_t`",
                  null="as many images are lost as won"),
            Claim(name="energy", columns=("accuracy.energy_p",),
                  function="`robust.cluster_robust_t`", null="changes are symmetric about 0"),
        ),
    ),
    World(
        name="accuracy by feature", draw=_contrast,
        says=f"as above; every feature loses images and raises energies of its own,"
        f" {SETS} strongest with {MATCHES} matches each. Planted: the strongest do five times as"
        " much",
        claims=tuple(
            Claim(name=name, columns=(f"accuracy_contrast.{name}",), family=name == "p_adjusted",
                  function="`matched_sets.matched_set_test`",
                  null="the strongest are features like their matches")
            for name in ("p", "p_adjusted")
        ),
    ),
)  # fmt: skip
