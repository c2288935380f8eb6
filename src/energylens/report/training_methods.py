"""How trainings are watched and what is looked for in them, in prose."""

from energylens.report.method import Method
from energylens.report.sources import BENJAMINI, KAPLAN_MEIER, KILLICK, RUDELSON

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
)
