"""Draw what dictionaries are like after equal tokens and after equal time, ours and our peers'.

From `benchmarks/results/quality-states.json` into `docs/images/fvu-l0.svg`; `make docs` runs it.
"""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from energylens.report.axes import Curve, name_curves
from energylens.report.figure import Axes, Figure, Panel, write_files
from energylens.report.palette import LIGHT

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "quality-states.json"
PICTURE = ROOT / "docs" / "images" / "fvu-l0.svg"
EPOCHS, K = 4, 32
LOOKS = {
    "energylens": (LIGHT["accent"], "o"), "sparsify": (LIGHT["attractor"], "s"),
    "dictionary_learning": (LIGHT["repulsor"], "^"), "saelens": (LIGHT["dot"], "D"),
}  # fmt: skip


def best_rows(rows: list[dict[str, Any]], **setting: int) -> dict[str, list[dict[str, Any]]]:
    """By contender, the best of its rates in every setting that fits."""
    fitting = [row for row in rows if row.get("best") and setting.items() <= row.items()]
    return {name: [row for row in fitting if row["contender"] == name] for name in LOOKS}


def panel(found: dict[str, list[dict[str, Any]]], across: str, label: str, title: str) -> Panel:
    def draw(axes: Axes) -> None:
        curves = []
        for name, rows in found.items():
            if not rows:
                continue
            colour, marker = LOOKS[name]
            rows = sorted(rows, key=lambda row: row[across])
            x, y = ([row[key] for row in rows] for key in (across, "fvu"))
            axes.plot(x, y, color=colour, marker=marker, markersize=5)
            curves.append(Curve(text=name, x=np.array(x), y=np.array(y), color=colour))
        axes.set_xscale("log")
        ticks = sorted({round(row[across]) for rows in found.values() for row in rows})
        ticks = ticks if across == "l0" else [5, 10, 20, 40, 80]
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.minorticks_off()
        axes.set(xlabel=label, ylabel="FVU on held-out documents", title=title)
        axes.grid(axis="y", color=LIGHT["hairline"])
        axes.margins(0.12)
        name_curves(axes, curves)

    return Panel(draw=draw, label=title)


def picture(rows: list[dict[str, Any]]) -> Figure:
    tokens = panel(best_rows(rows, epochs=EPOCHS), "l0", "L0: features active per token",
                   "After equal tokens")  # fmt: skip
    time = panel(best_rows(rows, k=K), "cpu_seconds", "training, CPU seconds of one thread",
                 f"After equal time, k {K}")  # fmt: skip
    return Figure(name="fvu-l0", question="How much is left out at equal sparsity, tokens, time?",
                  short="quality", answer="", notes=(), method=("", ""), panels=(tokens, time),
                  columns=(), tells=())  # fmt: skip


def main() -> None:
    rows = json.loads(RESULTS.read_text())["contenders"]
    with tempfile.TemporaryDirectory() as folder:
        write_files(picture(rows), Path(folder))
        shutil.copy(Path(folder) / "fvu-l0.svg", PICTURE)


if __name__ == "__main__":
    main()
