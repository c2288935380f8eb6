"""How every drawing is dressed: quantity and unit on both axes, null first and grey, no frame."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from energylens.report.palette import LIGHT
from energylens.report.places import depths, site_label
from energylens.results.format import fixed

Axes = Any
GAPS = (5, 19, 33)  # points between a curve and its name


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
    axes.set_xlabel(across, loc="right")  # beside long names it may begin below them
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

        def format_ticks(self, values: Sequence[float | int] | np.ndarray) -> list[str]:
            places = max((_places(float(tick)) for tick in values), default=0)
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


def sites_across(axes: Axes, sites: Sequence[str]) -> np.ndarray:
    """Sites by depth on the horizontal axis, named by layer; returns where each one stands."""
    where = depths(sites)
    places = {where[site]: site_label(site) for site in where}
    ticks = sorted(places)
    gap = _gap(ticks)
    axes.set_xticks(ticks, [places[tick] for tick in ticks])
    axes.set_xlim(ticks[0] - 0.7 * gap, ticks[-1] + 0.7 * gap)
    return np.array([where[site] for site in sites])


def room(places: np.ndarray) -> float:
    """Half the width that a bar may take without touching its neighbour."""
    return 0.32 * _gap(sorted(set(places.tolist())))


def _gap(ticks: Sequence[float]) -> float:
    return float(min(np.diff(ticks), default=1.0))


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


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A line that is named on the spot, without a legend."""

    text: str
    x: np.ndarray
    y: np.ndarray
    color: str


def name_curves(axes: Axes, curves: Sequence[Curve]) -> None:
    """Write each curve's name beside it, where it covers no curve and no other name."""
    axes.figure.draw_without_rendering()
    frame = axes.get_window_extent()
    drawn = [curve for curve in curves if len(curve.x)]
    taken = np.concatenate([np.empty((0, 2)), *(_sampled(axes, curve) for curve in drawn)])
    for curve in drawn:
        text = _write(axes, curve, taken, frame)
        taken = np.concatenate([taken, _filled(_name_box(text))])


def _write(axes: Axes, curve: Curve, taken: np.ndarray, frame: Any) -> Any:
    """The name at the first free place along its curve, or at the one that covers least.

    Where there is none beside the curve, the name stands further off and a line leads to it.
    """
    best, least = None, np.inf
    for gap, (x, y, up) in product(GAPS, _anchors(curve)):
        line = {"arrowstyle": "-", "linewidth": 0.6, "color": curve.color, "shrinkA": 1}
        text = axes.annotate(
            curve.text, (x, y), xytext=(0, gap if up else -gap), textcoords="offset points",
            ha="center", va="bottom" if up else "top", fontsize=11, color=curve.color, zorder=6,
            arrowprops=line if gap > GAPS[0] else None,
        )  # fmt: skip
        text.set_in_layout(False)
        box = _name_box(text).padded(1)
        covered = _inside(box, taken).sum() + 1000 * _leaves(box, frame)
        if covered < least:
            if best is not None:
                best.remove()
            best, least = text, covered
        else:
            text.remove()
        if least == 0:
            break
    return best


def _name_box(text: Any) -> Any:
    """Where a name stands, without the line that leads to it, which may cross a curve."""
    from matplotlib.text import Text

    text.get_window_extent()  # settles where the text is
    return Text.get_window_extent(text)


def _anchors(curve: Curve) -> list[tuple[float, float, bool]]:
    """Places along a curve to write at, from the right, above before below."""
    order = np.argsort(curve.x, kind="stable")
    x = np.linspace(curve.x.max(), curve.x.min(), 13)
    y = np.interp(x, curve.x[order], curve.y[order])
    return [(float(a), float(b), up) for up in (True, False) for a, b in zip(x, y, strict=True)]


def _sampled(axes: Axes, curve: Curve) -> np.ndarray:
    pixels = axes.transData.transform(np.column_stack([curve.x, curve.y]))
    pixels = pixels[np.isfinite(pixels).all(1)]
    step = np.linspace(0, max(len(pixels) - 1, 0), 60 * max(len(pixels), 1))
    places = np.arange(len(pixels))
    return np.column_stack([np.interp(step, places, pixels[:, axis]) for axis in (0, 1)])


def _inside(box: Any, points: np.ndarray) -> np.ndarray:
    x, y = points.T
    return (box.x0 <= x) & (x <= box.x1) & (box.y0 <= y) & (y <= box.y1)


def _leaves(box: Any, frame: Any) -> int:
    return int(box.x0 < frame.x0 or box.x1 > frame.x1 or box.y0 < frame.y0 or box.y1 > frame.y1)


def _filled(box: Any) -> np.ndarray:
    grid = np.meshgrid(np.linspace(box.x0, box.x1, 20), np.linspace(box.y0, box.y1, 5))
    return np.column_stack([axis.ravel() for axis in grid])
