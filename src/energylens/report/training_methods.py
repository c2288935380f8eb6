"""How trainings are watched and what is looked for in them, in prose."""

from energylens.report.method import Method
from energylens.report.sources import (
    BENJAMINI,
    ELHAGE,
    KAPLAN_MEIER,
    KILLICK,
    NANDA_GROKKING,
    OLSSON,
    RUDELSON,
)

TRAINING_METHODS: tuple[Method, ...] = (
    Method(
        anchor="method-trainings",
        title="Trainings",
        table="settling",
        formula=(
            "stable rank = Σ σ² / σ_max²",
            "participation ratio = (Σ σ²)² / Σ σ⁴",
            "coordination = variance over t of the share of layers that move at t",
        ),
        text=(
            "σ are the singular values of the activations of a layer on a fixed probe that the "
            "network is not trained on, in evaluation mode, so that neither the minibatch nor "
            "dropout moves the series; the other half of the probe tells the noise of the "
            "measurement. Steps are training steps.",
            "An event is a shift of level or slope that a smooth course, the changing spread and "
            "the correlation of the residuals, and the noise of the measurement do not explain; "
            "its p is that of the largest statistic of the whole series under resampled residuals, "
            "and q is over all series of the study. A series settles at the step from which it "
            "stays in the band of its last plateau, and is censored where there is none.",
            "The order of settling is a rank correlation with depth against permuted depths; "
            "coordination and the link with the loss are set beside series that were turned in "
            "time, each for itself, which keeps each series and breaks what they share.",
        ),
        sources=(RUDELSON, KILLICK, KAPLAN_MEIER, BENJAMINI),
        page="docs/training-events.md",
    ),
    Method(
        anchor="method-phase-changes",
        title="Phase changes",
        table="known_dates",
        formula=(
            "prefix matching = mean over queries q of Σ {a[q, k] : token k − 1 = token q, k ≤ q}",
            "restricted loss = loss of the mean logits and their waves in a + b at key frequencies",
            "excluded loss = loss of the logits less these waves, on pairs that were taught",
        ),
        text=(
            "Small networks are trained whose phase changes are known, and controls that have "
            "none. The known date is the first look at which prefix matching of the best head, or "
            "the accuracy on sums that were taught in neither order, is above a half. Key "
            "frequencies are the fewest that hold nine tenths of the final logits' waves in a + b.",
            "The detector is told nothing of it. In the dating measure the largest change of level "
            "is taken, and its 95 % interval must meet the looks between which the known date "
            "lies; of dimensions, which have events of their own, the nearest event. Beside each "
            "stands how much of the training the intervals take up: so often would a date drawn "
            "at random be met.",
        ),
        sources=(OLSSON, ELHAGE, NANDA_GROKKING),
        page="docs/phase-changes.md",
    ),
)
