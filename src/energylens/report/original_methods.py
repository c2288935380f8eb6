"""How the original NDT experiments were read, as paragraphs of the page."""

from energylens.report.method import Method
from energylens.report.sources import BENJAMINI

ORIGINAL_METHODS: tuple[Method, ...] = (
    Method(
        anchor="method-original",
        title="The original's definitions, and the true stable rank",
        table="original_comparison",
        formula=(
            "stored = ‖A‖² / (‖A‖² + 10⁻¹⁰)",
            "stable rank = Σσ² / σ₁² = (Σσ / σ₁)² / ((Σσ)² / Σσ²)",
            "jump: |v − mean v| > 2 sd v, v = x(i + 1) − x(i)",
            "phase = i · interval / steps, where the original had i / steps",
        ),
        text=(
            "The original divided the Frobenius norm by itself, so that its stable rank is 1 up to "
            "rounding. The nuclear-norm ratio and the participation ratio beside it were right, "
            "and the square of the first over the second is the stable rank. “Reproduced” is the "
            "original's own definition on what it stored, computed in float64 in the order of its "
            "sums; “corrected” the same definition on the true rank in training steps, unless the "
            "table says otherwise.",
            "A threshold of two standard deviations fires at 4.55 % of the increments of Gaussian "
            "noise whether or not anything jumps, and more often and earlier where noise falls in "
            "size over a training. The grey null of counts and phases is such noise, drawn with "
            "the course of size that each series has. That of coordination and of the loss turns "
            "each layer round in time; that of stabilisation deals its samples out anew. Intervals "
            "are over runs.",
            "Jumps with a null of their own, settling, order, coordination and the link to the "
            "loss are those of the common analysis; q is by Benjamini and Hochberg.",
        ),
        sources=(BENJAMINI, "Javihaus. NDT: experiments/mechanistic_interpretability. 2025. "
                 "github.com/Javihaus/ndt."),
        page="docs/ndt-import.md",
    ),
)  # fmt: skip
