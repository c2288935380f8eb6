"""A training is repeated to the bit, kept where it was planned, and compared with quiet times."""

import math
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
import torch

from energylens.core.errors import BadInput, EnergylensError
from energylens.core.ports import silence
from energylens.dynamics.history import History
from energylens.dynamics.planner import CheckpointPlan, Window
from energylens.report.figures import mechanisms
from energylens.report.page import build
from energylens.report.records import read
from energylens.run.execute import execute
from energylens.sources.examples import EXAMPLE_SETS, split
from energylens.sources.suite_networks import architecture
from energylens.studies.mechanisms_at_jumps import MechanismsAtJumps
from energylens.studies.mechanisms_at_jumps.changes import QUIET
from energylens.studies.mechanisms_at_jumps.contrasts import (
    ALL,
    FEW,
    LESS,
    MORE,
    PLACEBO,
    WITHIN,
    contrast_rows,
    quiet_as_events,
)
from energylens.studies.mechanisms_at_jumps.moments import (
    FAST,
    JUMP,
    Moment,
    fast_moments,
    jump_moments,
    plan,
)
from energylens.studies.mechanisms_at_jumps.trainings import (
    Material,
    fresh,
    places_of,
    train_kept,
    train_watched,
    weights_sha256,
)
from tests.common.run_directory import columns_there, described_tables

SMALL = MechanismsAtJumps(
    dataset="digits", architectures=("mlp_narrow",), steps=320, batch=32, probe=80, margin=5,
    events=3, controls=2, checkpoint_seconds=0,
)  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run that was killed between its trainings and taken up again."""

    class Killed(BaseException):
        pass

    def kill(line: str) -> None:
        if "again" in line:
            raise Killed

    out = tmp_path_factory.mktemp("mechanisms") / "out"
    with pytest.raises(Killed):
        execute("mechanisms-at-jumps", SMALL, out, say=kill)
    said: list[str] = []
    summary = execute("mechanisms-at-jumps", SMALL, out, say=said.append).summary
    return out, summary, build(out).read_text(encoding="utf-8"), said


def rows(run, name: str) -> list[dict]:
    return pq.read_table(run / "tables" / f"{name}.parquet").to_pylist()


# ---- trainings


@pytest.fixture(scope="module")
def material() -> Material:
    parts = split(EXAMPLE_SETS["digits"].load(), torch.Generator().manual_seed(0))
    probe = parts.held_out.take(torch.arange(80))
    return Material(parts=parts, probe=probe, options=replace(SMALL, steps=30))


@pytest.mark.parametrize("name", ["mlp_narrow", "cnn_shallow", "transformer_narrow"])
def test_the_second_training_is_the_first_to_the_bit(name, material, tmp_path):
    """One is watched, the other kept: neither leaves a trace; a transformer draws its dropout."""
    material = replace(material, options=replace(SMALL, steps=6))
    kept = CheckpointPlan(
        windows=(Window(kind="event", event=0, pre=0, peak=2, post=5),), num_steps=6, unmatched=(),
        left_out=(),
    )  # fmt: skip
    first, history = train_watched(architecture(name), material, tmp_path, silence)
    second = train_kept(architecture(name), material, kept, tmp_path, silence,
                        expected=weights_sha256(first))  # fmt: skip
    assert weights_sha256(second) == weights_sha256(first)
    assert weights_sha256(fresh(architecture(name), material)[0]) != weights_sha256(first)
    assert history.steps.tolist() == [0, 5]
    there = sorted(p.name for p in (tmp_path / "kept").glob("*.safetensors"))
    assert there == [f"step_{s:08d}.safetensors" for s in (0, 2, 5)]


def test_another_training_is_not_taken_for_the_first(material, tmp_path):
    nothing = CheckpointPlan(windows=(), num_steps=30, unmatched=(), left_out=())
    with pytest.raises(EnergylensError, match="ended in other weights than the first"):
        train_kept(architecture("mlp_narrow"), material, nothing, tmp_path, silence, expected="0")


def test_places_are_those_of_each_family(material):
    perceptron, convolutional, transformer = (
        places_of(fresh(architecture(name), material)[0])
        for name in ("mlp_narrow", "cnn_shallow", "transformer_narrow")
    )
    assert perceptron.rectified == ("relu1", "relu2", "relu3", "relu4")
    assert convolutional.representations == ("conv1", "conv2")
    assert len(transformer.attention) == 4 and "head" not in transformer.representations


# ---- moments


def history(values: torch.Tensor) -> History:
    return History(
        steps=5 * torch.arange(values.shape[1]),
        sites=tuple(f"layer{i}" for i in range(len(values))),
        values={"stable_rank": values, "participation_ratio": values}, again={},
        ceiling=torch.full((len(values),), 99), training={},
    )  # fmt: skip


def test_a_fast_moment_is_found_where_it_was_planted(generator):
    course = 10 * torch.exp(-torch.arange(120.0) / 30) + 5
    values = course + 0.01 * torch.randn(3, 120, generator=generator)
    values[:, 70:] *= 1.3
    (found, *rest) = fast_moments(history(values), span=2, most=3)
    assert found.kind == FAST and abs(found.step - 5 * 69.5) <= 5
    assert found.strength > 2 * max(other.strength for other in rest)


def test_no_moment_is_fast_in_a_short_or_undefined_history():
    assert fast_moments(history(torch.rand(2, 30) + 1), span=2, most=3) == []
    assert fast_moments(history(torch.full((2, 90), torch.nan)), span=2, most=3) == []


def test_jumps_are_the_sure_ones_the_surest_first():
    common = {"low": 0, "high": 9, "site": "a", "measure": "stable_rank"}
    phases = {4: math.nan}  # of an event that could be anywhere
    found = jump_moments(
        [{**common, "step": step, "p": p, "q": q, "size": size, "phase": phases.get(step, 0.5)}
         for step, p, q, size in ((4, 0.001, 0.01, 1.0), (5, 0.01, 0.2, 1.0), (6, 0.02, 0.03, 0.1),
                                  (7, 0.02, 0.03, math.nan), (8, 0.005, 0.03, 0.1))],
        most=5,
    )  # fmt: skip
    assert [moment.step for moment in found] == [8, 6, 7]
    assert all(moment.kind == JUMP for moment in found)


def test_windows_keep_clear_of_all_events():
    options = replace(SMALL, steps=1000, controls=3)
    moments = [Moment(kind=FAST, step=s, low=s, high=s, strength=1.0) for s in (200, 500, 800)]
    planned = plan(moments, options)
    assert [len(controls) for _, controls in planned.sets()] == [3, 3, 3]
    for window in planned.windows:
        assert window.post - window.pre == 10
        near = min(abs(window.peak - moment.step) for moment in moments)
        assert near == 0 if window.kind == "event" else near > 10
    assert plan([], options).windows == ()


# ---- contrasts


def made(effect: float, generator: torch.Generator, *, runs=("a", "b"), events=4):
    """Windows and changes of two measures in trainings; one measure changes more at events."""
    windows, changes = [], []
    for run in runs:
        for event in range(events):
            for place, kind in enumerate((FAST, QUIET, QUIET, QUIET)):
                number = len([w for w in windows if w["run"] == run])
                peak = 100 * event + place
                windows.append({"run": run, "window": number, "kind": kind, "event": event,
                                "event_kind": FAST, "peak": peak})  # fmt: skip
                for measure, more in (("relative_weight_change", effect), ("zero_share", 0.0)):
                    for site in ("one", "two"):
                        noise = float(torch.randn((), generator=generator))
                        changes.append({
                            "run": run, "window": number, "measure": measure, "site": site,
                            "change": 3 + noise + more * (kind == FAST),
                        })  # fmt: skip
    return windows, changes


def judged(windows, changes, generator, kinds=(FAST,), runs=("a", "b")):
    found = contrast_rows(windows, changes, runs=runs, kinds=kinds, generator=generator)
    return {(row["run"], row["measure"], row["about"]): row for row in found}


def test_what_changes_more_at_events_is_found_and_nothing_else(generator):
    found = judged(*made(9.0, generator), generator)
    for run in ("a", "b", ALL):
        planted = found[run, "relative_weight_change", "size"]
        assert planted["verdict"] == MORE and planted["superiority"] == 1.0
        assert found[run, "zero_share", "size"]["verdict"] == WITHIN
    assert found["a", "zero_share", "direction"]["verdict"] == WITHIN
    assert ("a", "relative_weight_change", "direction") not in found  # a change has no sign
    assert found[ALL, "zero_share", "size"]["events"] == 8
    assert found["a", "zero_share", "size"]["apart"] == 2.0


def test_families_keep_their_level(generator):
    fired = [
        any(row["verdict"] != WITHIN for (run, _, _), row in
            judged(*made(0.0, generator, runs=("a",)), generator, runs=("a",)).items())
        for _ in range(60)
    ]  # fmt: skip
    assert sum(fired) <= 9  # a coin of .05, 60 times: 3.5 sd


def test_quiet_windows_take_the_place_of_events(generator):
    windows, changes = made(9.0, generator)
    placebo = quiet_as_events(windows)
    assert all(window["event_kind"] == PLACEBO for window in placebo)
    assert len(placebo) == len(windows) * 3 // 4
    found = judged(placebo, changes, generator, kinds=(PLACEBO,))
    assert all(row["verdict"] == WITHIN for row in found.values())


def test_few_events_are_said_to_be_few(generator):
    windows, changes = made(9.0, generator, events=2)
    found = judged(windows, changes, generator)
    alone, together = (found[run, "zero_share", "size"] for run in ("a", ALL))
    assert alone["verdict"] == FEW and "at least 3 of them, found 2" in alone["why"]
    assert math.isnan(alone["p"]) and together["verdict"] != FEW
    none = judged(windows, changes, generator, kinds=(JUMP,))
    assert all(row["verdict"] == FEW and row["events"] == 0 for row in none.values())


def test_an_undefined_change_is_said(generator):
    windows, changes = made(9.0, generator)
    for row in changes:
        if row["measure"] == "zero_share" and (row["run"], row["window"]) == ("a", 0):
            row["change"] = math.nan
    found = judged(windows, changes, generator)
    assert found["a", "zero_share", "size"]["verdict"] == "undefined"
    assert found["b", "zero_share", "size"]["verdict"] == WITHIN


# ---- the run


def test_a_run_goes_on_where_it_was_killed(finished):
    _, _, _, said = finished
    assert not any("watched" in line and line.startswith("train mlp") for line in said)


def test_planted_events_are_found_and_quiet_ones_are_not(finished):
    out, summary, _, _ = finished
    assert all(control.passed for control in summary.controls.values())
    planted = [row for row in rows(out, "mechanism_contrasts")
               if (row["run"], row["about"]) == ("planted", "size")]  # fmt: skip
    assert all(row["events"] == 5 for row in planted)
    found = {row["measure"]: row["verdict"] for row in planted}
    assert found["relative_weight_change"] == found["weight_turn"] == MORE
    assert LESS not in found.values()


def test_windows_and_changes_are_of_the_plan(finished):
    out, _, _, _ = finished
    windows, changes = rows(out, "mechanism_windows"), rows(out, "mechanism_changes")
    assert {w["kind"] for w in windows} <= {JUMP, FAST, QUIET, "planted"}
    assert {(c["run"], c["window"]) for c in changes} == {(w["run"], w["window"]) for w in windows}
    for row in changes:
        if not math.isnan(row["before"]):
            assert row["change"] == pytest.approx(row["after"] - row["before"], abs=1e-12)
    ends = rows(out, "mechanism_ends")
    cka = [row for row in ends if row["measure"] == "debiased_cka"]
    assert len(cka) == 4 and all(abs(row["null"]) < 0.2 for row in cka)


def test_tables_are_described_column_by_column(finished):
    there, described = columns_there(finished[0]), described_tables()
    mine = {name for name in there if name.startswith("mechanism_")}
    assert mine == {name for name in described if name.startswith("mechanism_")}
    assert {name: there[name] for name in mine} == {name: described[name] for name in mine}


def test_the_finding_and_the_page_say_what_the_tables_say(finished):
    out, summary, page, _ = finished
    assert "quiet" in summary.finding or "nothing can be said" in summary.finding
    assert summary.grade == "quick" and summary.finding in page
    records = read(out)
    for figure in (mechanisms.contrasts(records), mechanisms.windows(records)):
        assert figure is not None and figure.question in page
    assert "Events beside quiet windows" in page


# ---- bad input


@pytest.mark.parametrize(("changed", "words"), [
    ({"architectures": ()}, "--architectures has 0 names"),
    ({"architectures": ("mlp_narrow", "mlp_narrow")}, "1 of them different"),
    ({"architectures": ("mlp_narow",)}, "did you mean"),
    ({"interval": 50}, "--steps 320 leaves no room"),
    ({"dataset": "digit"}, "did you mean 'digits'"),
])  # fmt: skip
def test_what_cannot_be_done_is_refused(changed, words, tmp_path):
    with pytest.raises(BadInput, match=words):
        execute("mechanisms-at-jumps", replace(SMALL, **changed), tmp_path / "out")
