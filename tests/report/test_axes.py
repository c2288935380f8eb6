"""Dress of the drawings: ticks, sites by depth, names that cover nothing."""

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from energylens.report.axes import Curve, Label, frame, name_curves, place, room, sites_across
from tests.common.compare import assert_close


@pytest.fixture
def axes():
    with matplotlib.rc_context({"text.parse_math": False}):
        yield Figure(figsize=(6, 4), dpi=72, layout="constrained").add_subplot()


def boxes(axes):
    return [text.get_window_extent() for text in axes.texts]


def test_ticks_have_the_same_places_and_no_idle_zero(axes):
    frame(axes, across="x", up="y", signed="x")
    ticks = axes.xaxis.get_major_formatter().format_ticks([-0.1, 0.0, 0.05])
    assert ticks == ["−.10", "0", "+.05"]
    assert axes.yaxis.get_major_formatter().format_ticks([0, 500, 1000]) == ["0", "500", "1,000"]


def test_what_enters_a_block_stands_beside_what_leaves_it(axes):
    x = sites_across(axes, ["blocks.0.resid_pre", "blocks.0.resid_post", "blocks.3.resid_post"])
    assert_close(x, [0, 1, 4])
    assert [text.get_text() for text in axes.get_xticklabels()] == ["0 pre", "0", "3"]
    assert 2 * room(x) < 1


def test_labels_cover_no_point_and_no_other_label(axes):
    points = np.array([[0.5, 0.5], [0.52, 0.5], [0.5, 0.52], [0.95, 0.9]])
    labels = [Label(text="a long name", x=float(x), y=float(y)) for x, y in points]
    axes.set(xlim=(0, 1), ylim=(0, 1))
    written = place(axes, labels, around=points)
    assert written == len(axes.texts) > 1
    found = boxes(axes)
    assert not any(a.overlaps(b) for i, a in enumerate(found) for b in found[i + 1 :])
    assert all(box.x1 <= axes.get_window_extent().x1 for box in found)


def test_a_label_without_room_is_left_out(axes):
    axes.set(xlim=(0, 1), ylim=(0, 1))
    crowd = np.array([[x, y] for x in np.linspace(0, 1, 40) for y in np.linspace(0, 1, 40)])
    assert place(axes, [Label(text="no room", x=0.5, y=0.5)], around=crowd) == 0
    assert not axes.texts


def test_names_of_curves_cover_no_curve(axes):
    x = np.arange(5.0)
    curves = [Curve(text=f"curve {k}", x=x, y=np.full(5, k / 4), color="black") for k in range(4)]
    axes.set(xlim=(-1, 5), ylim=(0, 1))
    name_curves(axes, [*curves, Curve(text="nothing", x=x[:0], y=x[:0], color="black")])
    assert [text.get_text() for text in axes.texts] == [curve.text for curve in curves]
    found = boxes(axes)
    assert not any(a.overlaps(b) for i, a in enumerate(found) for b in found[i + 1 :])
    heights = axes.transData.transform([[0, k / 4] for k in range(4)])[:, 1]
    assert not any(box.y0 < y < box.y1 for box in found for y in heights)
