"""Lines of numbers that are whole, and begin again where a run does."""

import json

from energylens.core.series import Series


def steps(path):
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


def test_lines_are_added_and_nan_is_null(tmp_path):
    path = tmp_path / "live" / "one.jsonl"
    series = Series(path)
    series.add(1, {"loss": 0.5, "fvu": float("nan")})
    assert json.loads(path.read_text()) == {"step": 1, "loss": 0.5, "fvu": None}


def test_a_second_sitting_drops_what_it_makes_again_and_what_was_cut_short(tmp_path):
    path = tmp_path / "one.jsonl"
    first = Series(path)
    for step in range(1, 8):
        first.add(step, {"loss": 1.0})
    with path.open("a") as file:
        file.write('{"step": 3, "lo')
    second = Series(path)
    for step in range(5, 10):
        second.add(step, {"loss": 2.0})
    assert steps(path) == list(range(1, 10))
    assert [json.loads(line)["loss"] for line in path.read_text().splitlines()] == [1.0] * 4 + [
        2.0
    ] * 5
