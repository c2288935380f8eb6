"""How what changed at events of a training was measured, in prose."""

from collections.abc import Sequence

from energylens.report.method import Method
from energylens.report.sources import (
    DING,
    HOYER,
    KORNBLITH,
    LIN,
    MORCOS,
    NGUYEN,
    VINJE,
    WESTFALL,
)

MECHANISM_METHODS: Sequence[Method] = (
    Method(
        anchor="method-mechanisms",
        title="Events beside quiet windows",
        table="mechanism_contrasts",
        formula=(
            "difference = mean over events of (change at event − mean change in its quiet windows)",
            "divergence of heads = H(mean over heads of a) − mean over heads of H(a)",
            "selectivity = (μ_max − μ_rest) / (μ_max + μ_rest)",
            "change of representation = 1 − HSIC_1(X, Y) / √(HSIC_1(X, X) HSIC_1(Y, Y))",
        ),
        text=(
            "Each network was trained twice from the same seeds, and the second training had to "
            "end in the same weights to the bit. In the first its dimensions were followed and "
            "events found: jumps beyond a smooth course and noise, and the moments at which all "
            "series together moved fastest for their time, which need be nothing but chance. In "
            "the second the network was kept before and after each event, and before and after "
            "quiet windows of the same length from the same part of the training.",
            "The null is that any window of a set may have been the event. All ways to choose one "
            "of each set, or 10,000 drawn ones, give a two-sided p, and the largest standardised "
            "difference over all questions of a training a family-wise one. Over all trainings "
            "windows are ranked within their set. The unit is the window: what is found holds for "
            "the trainings at hand. Events of weights pushed on purpose must be found, and quiet "
            "windows in the place of events must not.",
        ),
        sources=(LIN, MORCOS, HOYER, VINJE, KORNBLITH, NGUYEN, DING, WESTFALL),
        page="docs/mechanisms.md",
    ),
)
