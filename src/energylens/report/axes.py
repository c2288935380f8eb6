"""How every drawing is dressed: quantity and unit on both axes, null first and grey, no frame."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from energylens.report.palette import LIGHT
from energylens.results.format import fixed

Axes = Any


def frame(
    axes: Axes, *, across: str, up: str, title: str = "", signed: str = "", pad: float = 0.06
) -> None:
    """Name both axes; the vertical one is named on top, where a reader starts.

    Args:
        across: Quantity and unit of the horizontal axis.
        up: Quantity and unit of the vertical axis.
        title: What tells this panel from its neighbours.
        signed: Which axes carry a sign on every number: "x", "y", "xy".
        pad: Margin around the data, in parts of its range.
    """
    axes.set_xlabel(across)
    axes.set_title(up, fontsize=11.5)
    if title:
        axes.annotate(
            title, (0, 1), xycoords="axes fraction", xytext=(0, 27), textcoords="offset points",
            fontweight="bold", fontsize=12, color=LIGHT["ink"],
        )  # fmt: skip
    axes.margins(pad)
    axes.grid(axis="y", color=LIGHT["hairline"], linewidth=0.8)
    for axis, key in ((axes.xaxis, "x"), (axes.yaxis, "y")):
        axis.set_major_formatter(_formatter(key in signed))


def _formatter(signed: bool) -> Any:
    from matplotlib.ticker import Formatter

    class Tick(Formatter):
        """Same places on all ticks of an axis, no zero before the point."""

        def format_ticks(self, values: Sequence[float] | np.ndarray) -> list[str]:
            places = max((_places(tick) for tick in values), default=0)
            return [
                "0" if abs(tick) < 1e-12 else fixed(float(tick), places, signed=signed)
                for tick in values
            ]

        def __call__(self, value: float, pos: int | None = None) -> str:
            return self.format_ticks([value])[0]

    return Tick()


def _places(tick: float) -> int:
    return len(f"{abs(tick):.6f}".rstrip("0").partition(".")[2])


def zero(axes: Axes, *, across: bool = False, up: bool = False) -> None:
    """The line where the sign turns."""
    if across:
        axes.axvline(0, color=LIGHT["dot"], linewidth=0.8, zorder=1)
    if up:
        axes.axhline(0, color=LIGHT["dot"], linewidth=0.8, zorder=1)


def layers_across(axes: Axes, layers: np.ndarray) -> None:
    """Layers as ticks, with room at both ends."""
    ticks = sorted(set(layers.tolist()))
    gap = min(np.diff(ticks), default=1.0)
    axes.set_xticks(ticks)
    axes.set_xlim(ticks[0] - 0.7 * gap, ticks[-1] + 0.7 * gap)


@dataclass(frozen=True, kw_only=True)
class Label:
    """A text that belongs to a point."""

    text: str
    x: float
    y: float
    color: str = LIGHT["ink"]


def place(axes: Axes, labels: Sequence[Label], *, around: np.ndarray, gap: int = 7) -> int:
    """Write labels beside their points, first come first served; returns how many found room.

    A label that would cover another label or a point, or leave the axes, on every side is left
    out: the point is still there, and the table has its name.

    Args:
        around: Points to keep clear, one row of x and y each, in data coordinates.
    """
    from matplotlib.transforms import Bbox

    axes.figure.draw_without_rendering()
    room = axes.get_window_extent()
    taken: list[Any] = [
        Bbox.from_bounds(x - 3, y - 3, 6, 6) for x, y in axes.transData.transform(around)
    ]
    for label in labels:
        for away in ((gap, 0), (-gap, 0), (0, gap), (0, -gap)):
            text = _beside(axes, label, away)
            box = text.get_window_extent()
            free = not any(box.overlaps(other) for other in taken)
            if free and room.x0 <= box.x0 and box.x1 <= room.x1 and box.y1 <= room.y1:
                taken.append(box)
                break
            text.remove()
    return len(taken) - len(around)


def _beside(axes: Axes, label: Label, away: tuple[int, int]) -> Any:
    across, up = away
    text = axes.annotate(
        label.text, (label.x, label.y), xytext=away, textcoords="offset points", fontsize=11,
        ha="left" if across > 0 else "right" if across < 0 else "center",
        va="bottom" if up > 0 else "top" if up < 0 else "center", color=label.color, zorder=6,
    )  # fmt: skip
    text.set_in_layout(False)
    return text
