"""A null world of a browsed dictionary: features and classes that come in stretches of text."""

from collections.abc import Mapping

import torch
from tools.levels.world import Claim, World
from torch import Tensor

from energylens.stats.class_areas import best_class, dealt_out, ranked_entries, turned
from energylens.stats.multiplicity import benjamini_hochberg

DOCUMENTS, TOKENS, FEATURES, CLASSES, KINDS = 24, 48, 40, 5, 3
STAYS, PLANTED, DRAWS = 0.75, 10, 119


def _held(fresh: Tensor, generator: torch.Generator, begins: Tensor | None = None) -> Tensor:
    """Draws of every token, each of which lasts for a few: [token ...]."""
    own = torch.rand(fresh.shape, generator=generator) >= STAYS if begins is None else begins
    own[0] = True
    place = torch.arange(len(fresh)).view(-1, *(1,) * (fresh.dim() - 1)).expand(fresh.shape)
    return fresh.gather(0, torch.where(own, place, 0).cummax(0).values)


def _judged(generator: torch.Generator, *, planted: bool, together: bool) -> tuple[Tensor, Tensor]:
    """p of every feature, and of a draw of the null in its place."""
    unit = torch.arange(DOCUMENTS).repeat_interleave(TOKENS)
    weights = torch.tensor([8.0, 4, 2, 1, 1])
    begins = torch.rand(len(unit), generator=generator) >= STAYS
    classes = weights.multinomial(len(unit), replacement=True, generator=generator)
    labels = _held(classes, generator, begins.clone())
    kinds = torch.randint(KINDS, (DOCUMENTS,), generator=generator)[unit]
    # Some documents have much of a feature, others none.
    taste = torch.rand(DOCUMENTS, FEATURES, generator=generator).square()[unit]
    shared = begins[:, None].expand(-1, FEATURES).clone() if together else None
    on = _held(torch.rand(len(unit), FEATURES, generator=generator), generator, shared)
    values = torch.rand(len(unit), FEATURES, generator=generator)
    values = torch.where(on < 0.4 * taste, values, 0.0)
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
    return found.p, found.drawn_p


def _labels(generator: torch.Generator, planted: bool) -> Mapping[str, Tensor]:
    """Classes, kinds and activations, each in stretches of tokens that resemble one another."""
    p, drawn = _judged(generator, planted=planted, together=False)
    joint, _ = _judged(generator, planted=planted, together=True)
    here = slice(PLANTED if planted else None)
    return {
        "label": p[here], "any label": benjamini_hochberg(p)[here],
        "label, stretches that begin together": joint[here],
        "any label, stretches that begin together": benjamini_hochberg(joint)[here],
        "any label of turned text": benjamini_hochberg(drawn)[here],
    }  # fmt: skip


_NULL = "activations know nothing of classes and kinds; both come in stretches"
WORLDS = (
    World(
        name="labels of features",
        says=f"{FEATURES} sparse features on {DOCUMENTS} documents of {TOKENS} tokens, in stretches"
        " of four tokens on average in which a feature stays on, and the class of the tokens the"
        f" same; each feature at home in some documents; {CLASSES} classes of tokens, {KINDS} kinds"
        f" of text. Planted: {PLANTED} features active on one class alone.",
        claims=(
            Claim(name="label", columns=("browse_features.p",),
                  function=f"`class_areas.best_class`, {DRAWS} draws", null=_NULL),
            Claim(name="label, stretches that begin together", columns=("browse_features.p",),
                  function="the same", null="the same, but a class and a feature change at the same"
                  " tokens"),
            Claim(name="any label", family=True,
                  columns=("browse_features.q", "browse_features.label",
                           "browse_labels.features", "browse_dictionary.labelled"),
                  function="the same, Benjamini–Hochberg over features", null=_NULL),
            Claim(
                name="any label, stretches that begin together",
                family=True,
                columns=("browse_features.q", "browse_features.label"),
                function="the same, Benjamini–Hochberg over features",
                null="the same, but a class and a feature change at the same tokens",
            ),
            Claim(name="any label of turned text", family=True,
                  columns=("browse_labels.features_null", "browse_dictionary.labelled_null"),
                  function="the same, of one draw judged by the others", null=_NULL),
        ),
        draw=_labels,
        note="Turning breaks the bond of stretches that begin at the same tokens, which makes the"
        " null a little too narrow: read a label by its q and its area, not by p alone.",
    ),
)  # fmt: skip
