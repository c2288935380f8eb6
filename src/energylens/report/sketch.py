"""Figures from arrays alone, for notebooks; the page's own figures are under `figures`."""

from pathlib import Path
from typing import Any

from energylens.report.palette import LIGHT

DPI = 300


def volcano(path: Path, efas: Any, size: Any, beyond: Any, null_efas: Any, null_size: Any) -> Path:
    """EFAS against |t|: permuted decoder rows in grey below, real features above.

    Args:
        path: Where to write; the suffix says the format (.svg, .png, .pdf).
        size: |t| of each feature.
        beyond: Which features are beyond chance.

    Returns:
        The path.
    """
    from matplotlib.figure import Figure

    canvas = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = canvas.add_subplot()
    axes.plot(null_efas, null_size, "o", ms=3, mec="none", color=LIGHT["null"], label="permuted")
    axes.plot(efas[~beyond], size[~beyond], "o", ms=3, mec="none", color=LIGHT["dot"], alpha=0.5)
    for name, marker, some in (
        ("attractor", "o", beyond & (efas > 0)), ("repulsor", "s", beyond & (efas < 0)),
    ):  # fmt: skip
        axes.plot(efas[some], size[some], marker, ms=6, color=LIGHT[name])
    axes.axvline(0, color=LIGHT["muted"], linewidth=0.8)
    axes.set_xlabel("EFAS (correlation); grey: permuted decoder rows")
    axes.set_ylabel("|t|, clustered by document")
    axes.spines[["top", "right"]].set_visible(False)
    canvas.savefig(path, dpi=DPI)
    return path
