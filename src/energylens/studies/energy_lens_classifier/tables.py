"""Tables of a run on images; those of energy-lens are shared, column for column."""

from collections.abc import Iterator

import pyarrow as pa
import torch
from torch import Tensor

from energylens.core.errors import InsufficientData
from energylens.core.ports import Store
from energylens.stats.matched_sets import matched_set_test
from energylens.stats.matching import own_rows_test
from energylens.stats.multiplicity import benjamini_hochberg
from energylens.stats.rates import wilson_interval
from energylens.stats.robust import cluster_mean_interval, cluster_robust_t
from energylens.studies.energy_lens.behaviour import MATCHES, TOP
from energylens.studies.energy_lens.calibration import (
    calibrate,
    calibration_by_rule,
    calibration_rows,
    pooled_calibration,
)
from energylens.studies.energy_lens.dictionaries import TRAINED
from energylens.studies.energy_lens.parts import part_of
from energylens.studies.energy_lens.proof import ABLATE, KINDS, RANDOM
from energylens.studies.energy_lens.statistics import RANDOM_WEIGHTS, Inference, SiteScores
from energylens.studies.energy_lens.tables import (
    Row,
    control_rows,
    dictionary_rows,
    effect_rows,
    feature_rows,
    layer_rows,
    table,
)
from energylens.studies.energy_lens.tally import OTHER, PERMUTED
from energylens.studies.energy_lens.tally import RANDOM as RANDOM_DIRECTIONS
from energylens.studies.energy_lens_classifier import EnergyLensClassifier
from energylens.studies.energy_lens_classifier.material import Material
from energylens.studies.energy_lens_classifier.proof import ACCURACY
from energylens.studies.energy_lens_classifier.scoring import (
    CLASS_ENERGY,
    MARGIN,
    OTHER_IMAGE,
    WRONG_LABELS,
    ImagePass,
)

LEVEL = 0.05
DRAWS = 2_000
FEWEST_IMAGES = 5
# The smallest p that so few images can give is 2 / 2⁵.
RAISES, LOWERS = "raises", "lowers"


def image_tables(
    material: Material,
    trained: ImagePass,
    control: ImagePass | None,
    inference: Inference,
    store: Store,
    options: EnergyLensClassifier,
) -> dict[str, pa.Table]:
    """Every table of a run."""
    benches, scored, seed = trained.benches, trained.scored, options.seed
    images = dict.fromkeys(benches, torch.arange(len(trained.half_b)))
    dictionaries = list(dictionary_rows(benches, scored, store, model=TRAINED, label="trained",
                                        seed=seed))  # fmt: skip
    if control is not None:
        dictionaries += dictionary_rows(control.benches, control.scored, store,
                                        model="random_weights", label="random weights",
                                        seed=seed)  # fmt: skip
    rows = {
        "features": list(feature_rows(benches, scored, inference)),
        "layers": list(layer_rows(inference)),
        "controls": list(control_rows(inference)),
        "own_rows": list(own_rows(trained, control, inference, seed=seed)),
        "dictionaries": dictionaries,
        "effects": list(effect_rows(store, benches, images)),
        "calibration": list(calibration_rows(store, benches, images, seed=seed)),
        "calibration_rules": list(calibration_by_rule(store, benches, images, seed=seed)),
        "calibration_energies": calibration_of_energies(trained, store, seed=seed),
        "calibration_pooled": [pooled_calibration(store, benches, images, seed=seed)],
        "class_effects": class_effects(material, trained, store),
        "classes": list(class_rows(material, trained)),
        "accuracy": list(accuracy_rows(store)),
        "accuracy_contrast": list(accuracy_contrast(store, seed=seed)),
    }
    order = {site: number for number, site in enumerate(material.sites)}
    return {name: table(_numbered(found, order)) for name, found in rows.items()}


def calibration_of_energies(trained: ImagePass, store: Store, *, seed: int) -> list[Row]:
    """Predicted against measured change over all features, of the class energy and the margin.

    In the last layers the margin is nearly or exactly linear in the state: there a correlation of
    1 is no feat.
    """
    images = torch.arange(len(trained.half_b))
    proofs = [store.tensors(part_of("proof", site)) for site in trained.benches]
    margin = [proof | {"predicted": proof["lens"][:, 0], "measured": proof["lens"][:, 1]}
              for proof in proofs]  # fmt: skip
    return [
        {"energy": name, **calibrate([(proof, images) for proof in some], seed=seed)}
        for name, some in ((CLASS_ENERGY, proofs), (MARGIN, margin))
    ]


def _numbered(rows: list[Row], order: dict[str, int]) -> list[Row]:
    """Layers numbered from 0 in the order of the pass; their names do not tell."""
    return [row | {"layer": order[row["site"]]} if "layer" in row else row for row in rows]


def own_rows(
    trained: ImagePass, control: ImagePass | None, inference: Inference, *, seed: int
) -> Iterator[Row]:
    """One row an analysis and layer: do own decoder rows, as a kind, beat other features' rows?

    Of the features that can be scored. Nan where fewer than three can.
    """
    generator = torch.Generator().manual_seed(seed + 700)
    for name, (source, kind, code, scores) in _analyses(trained, control, inference).items():
        for site, found in scores.items():
            bench = source.benches[site]
            rows = {"dictionary": bench.dictionary.W_dec, "permuted": bench.permuted,
                    "random": bench.random.rows}[kind]  # fmt: skip
            chosen = found.scored.nonzero()[:, 0]
            stored = name if kind != "dictionary" or name in inference.energies else _STORED[name]
            pairs = source.scored.pairs(
                f"{site}/{stored}", rows, chosen, features=f"{site}/{code}/features" if code else ""
            )
            yield {
                "analysis": name, "real": name in inference.energies, "site": site, "layer": 0,
                "scored": len(chosen), "images": found.documents,
                "covarying": int((found.p_documents <= LEVEL).sum()),
                **_own(pairs, generator),
            }  # fmt: skip


_STORED = {WRONG_LABELS: WRONG_LABELS, OTHER_IMAGE: OTHER, RANDOM_WEIGHTS: MARGIN}


def _analyses(
    trained: ImagePass, control: ImagePass | None, inference: Inference
) -> dict[str, tuple[ImagePass, str, str, dict[str, SiteScores]]]:
    kinds = {PERMUTED: ("permuted", ""), RANDOM_DIRECTIONS: ("random", RANDOM_DIRECTIONS),
             OTHER_IMAGE: ("dictionary", OTHER)}  # fmt: skip
    found = {}
    for name, scores in (*inference.energies.items(), *inference.controls.items()):
        source = control if name == RANDOM_WEIGHTS else trained
        assert source is not None
        found[name] = (source, *kinds.get(name, ("dictionary", "")), dict(scores))
    return found


def _own(pairs: Tensor, generator: torch.Generator) -> Row:
    columns = ("share", "null_mean", "null_sd", "p")
    try:
        found = own_rows_test(pairs, draws=DRAWS, generator=generator)
    except InsufficientData:
        return dict.fromkeys(columns, float("nan"))
    return {name: getattr(found, name) for name in columns}


def class_effects(material: Material, trained: ImagePass, store: Store) -> list[Row]:
    """One row a feature and class: what ablating the feature does to the logit of the class,
    against the mean of all classes.

    A feature raises a class if ablation lowers it. The test flips signs by image; q is over all
    rows. Beside it the mean size of what random steps of the same size do in the same images.
    """
    rows: list[Row] = []
    p: list[Tensor] = []
    for site in trained.benches:
        part = part_of("proof", site)
        proof, chosen = store.tensors(part), store.record(part)["choices"]
        for feature, _ in chosen:
            mine = proof["feature"] == feature
            done, random = (_against_the_mean(proof["classes"][mine & (proof["kind"] == kind)])
                            for kind in map(KINDS.index, (ABLATE, RANDOM)))  # fmt: skip
            if len(done) < FEWEST_IMAGES:
                continue
            mean, test = cluster_mean_interval(done), cluster_robust_t(done)
            p.append(test.p)
            rows += [
                {
                    "site": site, "layer": 0, "feature": feature, "class": name,
                    "n_images": len(done), "change": float(mean.estimate[c]),
                    "low": float(mean.low[c]), "high": float(mean.high[c]),
                    "random": float(random[:, c].abs().mean()), "p": float(test.p[c]),
                }
                for c, name in enumerate(material.held_out.classes)
            ]  # fmt: skip
    if not rows:
        return rows
    for row, q in zip(rows, benjamini_hochberg(torch.cat(p)).tolist(), strict=True):
        sure = q <= LEVEL
        row |= {"q": q, "verdict": (RAISES if row["change"] < 0 else LOWERS) if sure else ""}
    return rows


def _against_the_mean(change: Tensor) -> Tensor:
    """Changes of log p(class) less their mean over classes: those of centred logits."""
    return change - change.mean(1, keepdim=True)


def class_rows(material: Material, trained: ImagePass) -> Iterator[Row]:
    """One row a class: held-out images, accuracy and class energy."""
    right, energy = trained.scored.all("right"), trained.scored.all("energy")
    labels = material.held_out.labels
    for number, name in enumerate(material.held_out.classes):
        mine = labels == number
        rate = wilson_interval(right[mine].sum(), mine.sum())
        mean = cluster_mean_interval(energy[mine][:, None]) if int(mine.sum()) > 1 else None
        yield {
            "class": name, "n_images": int(mine.sum()), "accuracy": float(rate.estimate),
            "low": float(rate.low), "high": float(rate.high),
            "chance": float(material.shares.max()),
            "energy": float(mean.estimate) if mean else float("nan"),
            "energy_low": float(mean.low) if mean else float("nan"),
            "energy_high": float(mean.high) if mean else float("nan"),
        }  # fmt: skip


def accuracy_rows(store: Store) -> Iterator[Row]:
    """One row an ablated feature: share of images rightly classified, and class energy."""
    if not store.done(ACCURACY):
        return
    kept, members = store.tensors(ACCURACY), store.record(ACCURACY)["members"]
    base = {"right": kept["right"][0].double(), "energy": kept["energy"][0]}
    for number, (which, role, site, feature) in enumerate(members, start=1):
        row: Row = {"site": site, "layer": 0, "feature": feature, "set": which, "role": role,
                    "n_images": len(base["right"]),
                    "accuracy": float(kept["right"][number].double().mean()),
                    "accuracy_whole": float(base["right"].mean())}  # fmt: skip
        for name, column in (("accuracy", "right"), ("energy", "energy")):
            change = kept[column][number].double() - base[column]
            mean = cluster_mean_interval(change[:, None])
            test = cluster_robust_t(change[:, None])
            row |= {
                f"{name}_change": float(mean.estimate), f"{name}_low": float(mean.low),
                f"{name}_high": float(mean.high), f"{name}_p": float(test.p),
            }  # fmt: skip
        yield row


def accuracy_contrast(store: Store, *, seed: int) -> Iterator[Row]:
    """Do the strongest features do more than those that match them? The feature is the unit."""
    if not store.done(ACCURACY):
        return
    kept, members = store.tensors(ACCURACY), store.record(ACCURACY)["members"]
    lost = (kept["right"][0].double() - kept["right"][1:].double()).mean(1)
    raised = (kept["energy"][1:] - kept["energy"][0]).mean(1)
    sets = sum(role == TOP for _, role, _, _ in members)
    values = torch.stack([lost, raised], dim=1).view(sets, 1 + MATCHES, 2)
    generator = torch.Generator().manual_seed(seed + 301)
    try:
        test = matched_set_test(values, generator=generator)
    except InsufficientData:
        return
    for column, (name, unit) in enumerate((("accuracy lost", "share of images"),
                                           ("class energy raised", "nats"))):  # fmt: skip
        yield {
            "quantity": name, "unit": unit, "sets": sets, "matches": MATCHES,
            "top": float(values[:, 0, column].mean()),
            "matched": float(values[:, 1:, column].mean()),
            "difference": float(test.difference[column]), "null_sd": float(test.null_sd[column]),
            "p": float(test.p[column]), "p_adjusted": float(test.p_adjusted[column]),
        }  # fmt: skip
