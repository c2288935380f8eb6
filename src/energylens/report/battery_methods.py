"""How detectors of change points are judged, and how ours works, as paragraphs of the page."""

from energylens.report.method import Method
from energylens.report.sources import BENJAMINI, CHEN, HANSEN, KILLICK, KUENSCH

BATTERY_METHODS: tuple[Method, ...] = (
    Method(
        anchor="method-battery",
        title="The battery",
        table="battery",
        formula=(
            "x_t = smooth_t + Σ_j a_j h_j(t) + e_t,  e_t = φ e_{t−1} + s_t n_t",
            "gain of a shift = 2 max log L with it − 2 max log L without it",
            "p = share of series without shifts whose best gain is as large",
        ),
        text=(
            "Series of every kind are drawn anew for each seed: jumps at random places (a step of "
            "5 standard deviations of the noise, three of different sizes, one as large as in the "
            "harness of ndtracker, rises that take 5, 20 and 60 samples from 10 to 90 %, steps in "
            "correlated noise and in all that a training does), and nulls without any. Detections "
            "are matched with jumps one to one, within 5 samples or half the width of the rise. A "
            "detector is valid that finds 75 % of every kind of jump and raises at most 2 false "
            "alarms per 1,000 samples on every null.",
            "Energylens takes each series for a smooth course, shifts, and autoregressive noise "
            "whose size changes. The smooth course may be a line and any sum of exponential "
            "approaches, of either sign. Shifts enter one by one by their likelihood ratio, the "
            "correlation of the noise fitted anew each time, so that a wandering series is not "
            "taken for one that jumps. What is left over is drawn again in blocks, and the largest "
            "ratio in such series is the null; beyond the draws its tail is exponential. The "
            "interval of a date holds all places whose likelihood is near enough the best.",
            "The global z marks increments beyond two standard deviations of all; the rolling z "
            "samples three deviations from the fifty before them; PELT segments of constant mean "
            "with the penalty of the Bayesian information criterion.",
        ),
        sources=(CHEN, KUENSCH, HANSEN, KILLICK, BENJAMINI,
                 "Marín, J. ndtracker 2.0.0: ndt.validity. 2026. pypi.org/project/ndtracker."),
        page="docs/change-points.md",
    ),
)  # fmt: skip
