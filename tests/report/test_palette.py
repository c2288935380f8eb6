"""The page's colours: the same in drawings and style sheet, told apart, and legible."""

import re
from importlib.resources import files

import pytest

from energylens.report.palette import DARK, LIGHT, VARIABLE, contrast

STYLE = (files("energylens.report") / "templates" / "page.css").read_text(encoding="utf-8")
SCHEMES = {"light": LIGHT, "dark": DARK}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_style_sheet_has_the_same_colours(scheme):
    light, dark = STYLE.split("prefers-color-scheme: dark", 1)
    found = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", light if scheme == "light" else dark))
    assert SCHEMES[scheme].items() <= found.items()


def test_no_two_roles_share_a_colour():
    assert len(VARIABLE) == len(LIGHT)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(
    ("role", "least"),  # what WCAG asks of text, and of marks
    [("ink", 7), ("muted", 4.5), ("accent", 4.5), ("attractor", 3), ("repulsor", 3), ("dot", 3)],
)
def test_colours_are_legible(scheme, role, least):
    palette = SCHEMES[scheme]
    assert contrast(palette[role], palette["paper"]) >= least


@pytest.mark.parametrize("scheme", SCHEMES)
def test_points_are_seen_on_the_null(scheme):
    palette = SCHEMES[scheme]
    assert contrast(palette["dot"], palette["null"]) > 2
    assert contrast(palette["ink"], palette["null"]) > 4.5
