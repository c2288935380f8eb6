"""Plain values: nan is null, infinity and foreign things are refused by name."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from energylens.core.errors import ArtifactRefused
from energylens.results.plain import decode, encode, plain


def test_numbers_of_numpy_and_nested_things_become_plain():
    @dataclasses.dataclass
    class Point:
        x: float
        y: tuple

    value = {"p": Point(float("nan"), (np.int64(2), np.float32(0.5))), 3: [Path("a/b"), None, True]}
    assert plain(value) == {"p": {"x": None, "y": [2, 0.5]}, "3": ["a/b", None, True]}


@pytest.mark.parametrize("value", [float("inf"), np.float64("-inf")])
def test_infinity_is_refused_where_it_stands(value):
    with pytest.raises(ValueError, match=r"record\.a\[1\] is infinite"):
        plain({"a": [0, value]})


@pytest.mark.parametrize("value", [torch.ones(2), np.ones(2), object(), {1, 2}, b"raw"])
def test_what_is_not_plain_is_refused_by_name(value):
    with pytest.raises(TypeError, match=r"record\.x is a "):
        plain({"x": value})


def test_lone_surrogates_do_not_break_the_file():
    assert decode(encode({"token": "a\ud800b"}), "t") == {"token": "a?b"}


def test_equal_values_give_equal_bytes():
    assert encode({"a": 1, "b": [0.1]}) == encode({"a": 1, "b": (0.1,)})


def test_a_huge_file_is_refused_before_it_is_read():
    with pytest.raises(ArtifactRefused, match="at most"):
        decode(b" " * (32 * 1024 * 1024 + 1), "big.json")


def test_a_key_that_stands_twice_is_refused():
    with pytest.raises(ArtifactRefused, match="a key stands twice"):
        decode(b'{"p": 0.2, "p": 0.001}', "x.json")
