"""Is a dictionary the same in the files of another program?"""

from collections.abc import Sequence
from functools import partial

import numpy as np

from energylens.report.axes import Axes, frame
from energylens.report.figure import Column, Figure, Marks, Panel
from energylens.report.palette import LIGHT
from energylens.report.records import Records, Table
from energylens.results.format import number, several

LOOKS = (
    ("difference", "read back from the files", "dot"),
    ("rounding", "the source in float64", "null"),
    ("dealt_out", "decoder rows dealt out", "repulsor"),
)
LEAST = 1e-18  # a zero stands here, left of whatever float64 can tell


def figure(records: Records) -> Figure | None:
    tensors, found = records.table("conversion_tensors"), records.table("conversion_agreement")
    if tensors is None or found is None:
        return None
    names = tensors.text("tensor")
    return Figure(
        name="conversion", question="Is what was written the dictionary that was read?",
        short="Tensors", answer=_answer(tensors, found),
        notes=[
            "left: largest difference of a reconstruction, in parts of its length less b_dec;"
            " grey: what rounding costs; vermilion: a wrong file",
            "right: largest difference of a tensor's values, in parts of the largest; at the left"
            " edge: the same bits",
            f"n = {several(int(found.number('rows')[0]), 'random row')}",
        ],
        method=("method-conversion", "round trip"),
        panels=[
            Panel(draw=partial(_draw_rows, found=found), height=220,
                  label="Difference of reconstructions beside rounding and a wrong file."),
            Panel(draw=partial(_draw_tensors, tensors=tensors), height=100 + 30 * len(names),
                  label="Largest difference of each tensor."),
        ],
        columns=[
            *(Column(name=name, label=name.replace("_", " "), cells=tensors.text(name))
              for name in ("tensor", "source_shape", "written_shape", "source_type", "written_type",
                           "state")),
            Column(name="difference", label="difference", cells=tensors.number("difference")),
        ],
        tells=("tensor", "source_shape", "state", "difference"), wide=True,
    )  # fmt: skip


def _draw_rows(axes: Axes, *, found: Table) -> None:
    frame(axes, across="of a reconstruction's length", up="")
    values = [float(found.number(name)[0]) for name, _, _ in LOOKS]
    _lines(axes, [label for _, label, _ in LOOKS])
    for y, (value, (_, _, color)) in enumerate(zip(values, LOOKS, strict=True)):
        axes.plot(_placed([value]), [y], "o", ms=7, color=LIGHT[color], zorder=3)
    _powers(axes)


def _draw_tensors(axes: Axes, *, tensors: Table) -> Marks:
    frame(axes, across="of the largest value", up="")
    _lines(axes, tensors.text("tensor"))
    x = _placed(tensors.number("difference").tolist())
    y = np.arange(tensors.rows)
    axes.plot(x, y, "o", ms=6, color=LIGHT["dot"], zorder=3)
    _powers(axes)
    return Marks(x=x, y=y, rows=y)


def _lines(axes: Axes, labels: Sequence[str]) -> None:
    axes.grid(visible=False)
    axes.grid(axis="y", color=LIGHT["hairline"], linewidth=0.8)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.set_yticks(range(len(labels)), labels, fontsize=10)


def _placed(values: Sequence[float]) -> np.ndarray:
    """On the logarithmic axis; zero at its left edge, nan nowhere."""
    return np.log10(np.maximum(np.asarray(values, dtype=np.float64), LEAST))


def _powers(axes: Axes) -> None:
    axes.set_xlim(np.log10(LEAST) - 1, 2)
    axes.set_xticks([np.log10(LEAST), -12, -8, -4, 0], ["0", "10⁻¹²", "10⁻⁸", "10⁻⁴", "1"])


def _answer(tensors: Table, found: Table) -> str:
    states = tensors.text("state")
    same = sum(state == "same bits" for state in states)
    apart = float(found.number("difference")[0])
    told = (
        "no reconstruction differs in a bit"
        if bool(found.number("identical")[0])
        else f"a reconstruction differs by {number(apart)} of its length at most"
    )
    others = [f"{name} {state}" for name, state in zip(tensors.text("tensor"), states, strict=True)
              if state != "same bits"]  # fmt: skip
    rest = f" ({', '.join(others)})" if others else ""
    return f"{same} of {several(len(states), 'tensor')} come back to the bit{rest}; {told}."
