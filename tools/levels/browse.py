"""A null world of a browsed dictionary: features and classes that come in stretches of text."""

from collections.abc import Mapping

import torch
from tools.levels.world import Claim, World
from torch import Tensor

from energylens.stats.class_areas import best_class, dealt_out, ranked_entries, turned
from energylens.stats.multiplicity import benjamini_hochberg

DOCUMENTS, TOKENS, FEATURES, CLASSES, KINDS = 24, 64, 60, 5, 3
STRETCH, PLANTED, DRAWS = 4, 12, 99


def _labels(generator: torch.Generator, planted: bool) -> Mapping[str, Tensor]:
    """Classes, kinds and activations, each in stretches of tokens that resemble one another."""
    unit = torch.arange(DOCUMENTS).repeat_interleave(TOKENS)
    stretch = torch.arange(len(unit)) // STRETCH
    weights = torch.tensor([8.0, 4, 2, 1, 1])
    labels = weights.multinomial(len(unit), replacement=True, generator=generator)[stretch]
    kinds = torch.randint(KINDS, (DOCUMENTS,), generator=generator)[unit]
    # Some documents have much of a feature, others none.
    taste = torch.rand(DOCUMENTS, FEATURES, generator=generator).square()[unit]
    on = torch.rand(len(unit), FEATURES, generator=generator)[stretch] < 0.4 * taste
    values = torch.where(on, torch.rand(len(unit), FEATURES, generator=generator), 0.0)
    if planted:
        values[:, :PLANTED] *= (labels == 2)[:, None]
    sample, series = values.nonzero(as_tuple=True)
    entries = ranked_entries(series, sample, values[sample, series], width=FEATURES,
                             samples=len(unit))  # fmt: skip
    found = best_class(
        entries, [(labels, CLASSES), (kinds, KINDS)],
        lambda g: (labels[turned(unit, g)], dealt_out(kinds, unit, g)),
        draws=DRAWS, generator=generator,
    )  # fmt: skip
    q, null_q = (benjamini_hochberg(p) for p in (found.p, found.drawn_p))
    here = slice(PLANTED if planted else None)
    return {"label": found.p[here], "any label": q[here], "any label of turned text": null_q[here]}


_NULL = "activations know nothing of classes and kinds; both come in stretches"
WORLDS = (
    World(
        name="labels of features",
        says=f"{FEATURES} sparse features on {DOCUMENTS} documents of {TOKENS} tokens, in stretches"
        f" of {STRETCH} tokens that share their class and what is active, and each at home in some"
        f" documents; {CLASSES} classes of tokens, {KINDS} kinds of text. Planted: {PLANTED}"
        " features active on one class alone.",
        claims=(
            Claim(name="label", columns=("browse_features.p",),
                  function=f"`class_areas.best_class`, {DRAWS} draws", null=_NULL),
            Claim(name="any label", family=True,
                  columns=("browse_features.q", "browse_features.label",
                           "browse_labels.features", "browse_dictionary.labelled"),
                  function="the same, Benjamini–Hochberg over features", null=_NULL),
            Claim(name="any label of turned text", family=True,
                  columns=("browse_labels.features_null", "browse_dictionary.labelled_null"),
                  function="the same, of one draw judged by the others", null=_NULL),
        ),
        draw=_labels,
    ),
)  # fmt: skip
