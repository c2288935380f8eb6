"""Numbers in words claim no more than their interval supports."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from energylens.results import format as f


@pytest.mark.parametrize(
    ("value", "low", "high", "text"),
    [
        (0.218, 0.17, 0.26, ".218 [.17, .26]"),
        (0.2184, 0.2131, 0.2243, ".218 [.213, .224]"),
        (-0.05, -0.12, 0.02, "−.05 [−.12, .02]"),
        (0.95, 0.912, 1.031, ".95 [.91, 1.03]"),
        (19, 12, 27, "19 [12, 27]"),
        (1234.5, 1100, 1400, "1,230 [1,100, 1,400]"),
        (0.0, 0.0, 0.023, "0 [.000, .023]"),
        (3.0, math.nan, math.nan, "3"),
        (math.nan, 0.1, 0.2, "undefined [.10, .20]"),
        (0.5, 0.5, 0.5, ".500 [.500, .500]"),
    ],
)
def test_intervals(value, low, high, text):
    assert f.interval(value, low, high) == text


@pytest.mark.parametrize(
    ("p", "text"),
    [
        (0.0, "< .001"), (0.000999, "< .001"), (0.001, "= .001"), (0.0495, "= .050"),
        (0.0999, "= .100"), (0.1, "= .10"), (0.994, "= .99"), (0.996, "> .99"), (1.0, "= 1"),
        (math.nan, "undefined"),
    ],
)  # fmt: skip
def test_p_values(p, text):
    assert f.p_value(p) == text


@given(st.floats(1e-6, 1e9), st.floats(1e-6, 1e6))
def test_the_ends_of_an_interval_never_look_the_same_and_are_near(low, width):
    high = low + width
    places = f.places_of(low, high)
    shown = [float(f.fixed(x, places).replace(",", "")) for x in (low, high)]
    if high - low > 1e-9 * high:  # else the width is lost in the last bits of a float
        assert shown[0] < shown[1]
        assert abs(shown[0] - low) <= 0.5000001 * (high - low) + 1e-9 * high


@given(st.floats(-1e300, 1e300))
def test_a_number_reads_back_to_its_digits(value):
    text = f.number(value).replace("−", "-").replace(",", "")
    mantissa, _, power = text.partition(" × 10")
    exponent = int(power.translate(str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")) or 0)
    assert math.isclose(float(mantissa + f"e{exponent}"), value, rel_tol=0.00501)
