"""What a figure of the page is: a question, an answer, drawings, and the numbers behind them."""

import io
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from energylens.core.files import write_bytes
from energylens.report.palette import LIGHT
from energylens.report.svg import for_page
from energylens.results.format import number

DPI = 300
ONE_OR_TWO_ACROSS, THREE_ACROSS = 420, 345
POINTS_PER_INCH = 72  # matplotlib's SVG unit: a drawing 480 wide has a view box 480 wide

Axes = Any  # matplotlib is imported only where it draws
Cells: TypeAlias = Sequence[Any] | np.ndarray


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of the numbers behind a figure; nan is undefined, None is not applicable."""

    name: str
    label: str
    cells: Cells
    signed: bool = False


def cell(value: Any, *, signed: bool = False) -> str:
    """A cell as text; undefined is a dash."""
    if isinstance(value, str):
        return value
    if value is None or not math.isfinite(value):
        return "–"
    return number(float(value), signed=signed)


@dataclass(frozen=True, kw_only=True)
class Marks:
    """Points of a drawing that answer to the pointer, in data coordinates."""

    x: Cells
    y: Cells
    rows: Cells
    """The row of the figure's columns that each point shows."""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One pair of axes."""

    draw: Callable[[Axes], Marks | None]
    label: str
    """What the drawing shows, for those who cannot see it."""
    height: int = 300


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A question answered by a drawing."""

    name: str
    question: str
    short: str
    """One word for the page's contents."""
    answer: str
    notes: Sequence[str]
    """Small type under the drawing: n, unit, null."""
    method: tuple[str, str]
    """Anchor and name of the paragraph that tells the method."""
    panels: Sequence[Panel]
    columns: Sequence[Column]
    tells: Sequence[str]
    """Names of the columns shown when a point is pointed at."""
    wide: bool = False

    @property
    def panel_width(self) -> int:
        """Of each panel, in points: no more than it is shown at, so that its letters stay large.

        On a desk a wide figure has three panels in a row, or four in two rows; a panel alone or
        beside one other is drawn narrower than it is shown there, for the sake of a phone.
        """
        in_threes = self.wide and len(self.panels) not in (1, 2, 4)
        return THREE_ACROSS if in_threes else ONE_OR_TWO_ACROSS


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A panel as it stands in the page."""

    svg: str
    marks: tuple[list[float], list[float], list[int]]
    """Pixels across and down in the view box, and the rows they show."""


def draw(figure: Figure) -> list[Drawing]:
    """Draw each panel for the page."""
    with _style(figure.name):
        return [_inline(figure, i, panel) for i, panel in enumerate(figure.panels)]


def write_files(figure: Figure, folder: Path, *, kinds: Sequence[str] = ("svg", "png")) -> None:
    """Draw the whole figure as SVG and PNG files; nothing where it is words and numbers alone."""
    if not figure.panels:
        return
    with _style(figure.name):
        whole = _whole(figure)
        for kind in kinds:
            more = {"pil_kwargs": {"compress_level": 3}} if kind == "png" else {}
            buffer = io.BytesIO()
            whole.savefig(
                buffer, format=kind, dpi=DPI, facecolor="white", metadata=_undated(kind), **more
            )
            whole.set_layout_engine("none")  # laid out by now, and to stay so
            write_bytes(folder / f"{figure.name}.{kind}", buffer.getvalue())


def _undated(kind: str) -> dict[str, None]:
    return {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}


@contextmanager
def _style(name: str) -> Iterator[None]:
    import matplotlib

    rules = {
        "svg.fonttype": "none", "svg.hashsalt": name, "font.family": "DejaVu Sans",
        "font.size": 11.5, "text.color": LIGHT["ink"], "text.parse_math": False,
        "axes.edgecolor": LIGHT["hairline"], "axes.labelcolor": LIGHT["muted"],
        "axes.titlecolor": LIGHT["muted"], "axes.titlesize": 11.5, "axes.titlelocation": "left",
        "axes.titlepad": 10, "axes.labelsize": 11.5, "axes.facecolor": "none",
        "axes.spines.top": False, "axes.spines.right": False, "axes.spines.left": False,
        "axes.axisbelow": True, "axes.formatter.use_mathtext": False,
        "xtick.color": LIGHT["hairline"], "ytick.color": LIGHT["hairline"],
        "xtick.labelcolor": LIGHT["muted"], "ytick.labelcolor": LIGHT["muted"],
        "xtick.major.size": 3.5, "ytick.major.size": 0, "lines.linewidth": 1.6,
        "figure.constrained_layout.h_pad": 0.03, "figure.constrained_layout.w_pad": 0.03,
    }  # fmt: skip
    with matplotlib.rc_context(rules), warnings.catch_warnings():
        # Tokens may be of any script; a PNG shows what the one bundled font has.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def _canvas(width: int, height: int) -> Any:
    from matplotlib.figure import Figure as Canvas

    size = (width / POINTS_PER_INCH, height / POINTS_PER_INCH)
    return Canvas(figsize=size, dpi=POINTS_PER_INCH, layout="constrained")


def _inline(figure: Figure, index: int, panel: Panel) -> Drawing:
    canvas = _canvas(figure.panel_width, panel.height)
    axes = canvas.add_subplot()
    marks = panel.draw(axes)
    buffer = io.StringIO()
    canvas.savefig(buffer, format="svg", transparent=True, metadata=_undated("svg"))
    pixels = _pixels(axes, marks, panel.height)
    name, pointed = f"{figure.name}-{index}", bool(pixels[0])
    svg = for_page(buffer.getvalue(), name=name, label=panel.label, pointed=pointed)
    return Drawing(svg=svg, marks=pixels)


def _pixels(
    axes: Axes, marks: Marks | None, height: int
) -> tuple[list[float], list[float], list[int]]:
    if marks is None or not len(marks.rows):
        return [], [], []
    pixels = axes.transData.transform(np.column_stack([marks.x, marks.y]))
    across, down = np.round(pixels[:, 0], 1), np.round(height - pixels[:, 1], 1)
    return across.tolist(), down.tolist(), [int(row) for row in marks.rows]


def _whole(figure: Figure) -> Any:
    """All panels on one canvas, at most three in a row."""
    count = len(figure.panels)
    across = min(3, count) if count != 4 else 2
    down = -(-count // across)
    canvas = _canvas(figure.panel_width * across, figure.panels[0].height * down)
    for i, panel in enumerate(figure.panels):
        panel.draw(canvas.add_subplot(down, across, i + 1))
    return canvas
