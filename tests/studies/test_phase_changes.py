"""Phase changes that are known must be dated, and where there is none the study must say so."""

import math
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from energylens.cli import main
from energylens.core.errors import BadInput
from energylens.core.ports import silence
from energylens.dynamics.fourier import planted_logits
from energylens.dynamics.history import History
from energylens.dynamics.tables import history_tables
from energylens.report.figure import draw
from energylens.report.figures import phase_changes
from energylens.report.page import build
from energylens.report.records import read
from energylens.run.edges.store.folder import Folder
from energylens.run.execute import execute
from energylens.run.launch import LAUNCHERS, Means
from energylens.studies.phase_changes import PhaseChange, PhaseChanges
from energylens.studies.phase_changes.addition import all_pairs, progress_of
from energylens.studies.phase_changes.dates import DATED_BY, SILENT, date_rows, known_date
from energylens.studies.phase_changes.finding import summarise
from energylens.studies.phase_changes.induction import repeated
from energylens.studies.phase_changes.networks import (
    AttentionOnly,
    ModularAddition,
    initialise,
    rotated,
)
from energylens.studies.phase_changes.tasks import QUICK_KINDS, tasks_of, tell
from energylens.studies.phase_changes.work import run
from tests.common.compare import assert_close
from tests.common.run_directory import described_tables


def jump(site: str, measure: str, step: float, half: float, amplitude: float) -> dict:
    return {"site": site, "measure": measure, "step": step, "low": step - half,
            "high": step + half, "amplitude": amplitude, "kind": "level",
            "phase": step / 100 if half < 25 else math.nan}  # fmt: skip


def run_row(known: float = 50.0, **more) -> dict:
    return {"run": "a", "kind": "induction", "seed": 0, "silent": False, "num_steps": 100,
            "dated_by": "prefix_matching", "known_after": known - 5, "known_step": known,
            **more}  # fmt: skip


def test_a_date_is_the_first_look_past_the_half():
    assert known_date([0, 5, 10], [0.2, 0.5, 0.51]) == (5.0, 10.0)
    assert known_date([0, 5, 10, 15], [0.2, 0.6, 0.4, 0.9]) == (0.0, 5.0)
    assert all(map(math.isnan, known_date([0, 5], [0.2, math.nan])))


def test_the_largest_event_dates_the_change_and_the_nearest_one_a_dimension():
    jumps = [
        jump("network", "prefix_matching", 20, 2, 0.1),
        jump("network", "prefix_matching", 52, 3, 0.8),
        jump("embed", "stable_rank", 10, 10, 5.0),
        jump("embed", "stable_rank", 44, 4, -1.0),
    ]
    by, embed, block = date_rows(
        run_row(), [("network", 1.0, "prefix_matching"), ("embed", 0.0, "stable_rank"),
                    ("block", 1.0, "stable_rank")], jumps,
    )  # fmt: skip
    assert by["by"] and by["step"] == 52 and by["hit"] and by["off"] == 2
    assert by["covered"] == pytest.approx(0.06)  # of the largest alone
    assert not embed["by"] and embed["step"] == 44 and embed["hit"] and embed["events"] == 2
    assert embed["covered"] == pytest.approx(0.28)
    assert math.isnan(block["step"]) and block["hit"] is False and block["covered"] == 0


@pytest.mark.parametrize(("step", "half", "hit"), [(40, 5, True), (39, 5, False), (60, 10, True),
                                                   (61, 10, False)])  # fmt: skip
def test_an_interval_must_meet_the_looks_around_the_known_date(step, half, hit):
    jumps = [jump("network", "prefix_matching", step, half, 0.8)]
    (row,) = date_rows(run_row(), [("network", 1.0, "prefix_matching")], jumps)
    assert row["hit"] is hit


def test_an_event_that_could_be_anywhere_dates_nothing():
    jumps = [jump("network", "prefix_matching", 50, 45, 0.8)]
    (row,) = date_rows(run_row(), [("network", 1.0, "prefix_matching")], jumps)
    assert math.isnan(row["step"]) and row["hit"] is False
    assert row["events"] == 1 and row["covered"] == 0


def test_intervals_that_overlap_count_once():
    jumps = [jump("embed", "stable_rank", 20, 10, 1.0), jump("embed", "stable_rank", 25, 10, 1.0)]
    (row,) = date_rows(run_row(), [("embed", 0.0, "stable_rank")], jumps)
    assert row["covered"] == pytest.approx(0.25)


def test_without_a_known_date_there_is_neither_hit_nor_miss():
    jumps = [jump("network", "prefix_matching", 20, 2, 0.1)]
    (row,) = date_rows(run_row(math.nan), [("network", 1.0, "prefix_matching")], jumps)
    assert row["hit"] is None and row["step"] == 20 and math.isnan(row["off"])


# ---- what is taught


def test_segments_repeat_without_a_fixed_step_back(generator):
    tokens = repeated(64, 17, generator)
    assert tokens.shape == (64, 17) and bool((tokens[:, 0] == 0).all())
    lengths = set()
    for row in tokens[:, 1:].tolist():
        length = next(n for n in range(1, 16) if row[n] == row[0])
        assert len(set(row[:length])) == length and 0 not in row
        assert all(row[i] == row[i % length] for i in range(16))
        lengths.add(length)
    assert lengths == {4, 5, 6, 7, 8}


@pytest.mark.parametrize("rotary", [True, False])
def test_attention_sees_nothing_that_comes_later(generator, rotary):
    network = AttentionOnly(vocab=9, context=7, d_model=16, heads=2, layers=2, rotary=rotary)
    initialise(network, generator)
    tokens = torch.randint(9, (3, 7), generator=generator)
    changed = tokens.clone()
    changed[:, 4:] = (changed[:, 4:] + 1) % 9
    before, after = network(tokens), network(changed)
    assert_close(before[:, :4], after[:, :4], atol=1e-6)
    assert float((before[:, 4:] - after[:, 4:]).abs().max().detach()) > 0.01
    patterns = network.patterns(tokens)
    assert patterns.shape == (2, 3, 2, 7, 7)
    assert_close(patterns.sum(-1), torch.ones(2, 3, 2, 7), atol=1e-6)


def test_rotation_depends_on_the_distance_alone(generator):
    query, key = torch.randn(2, 1, 1, 8, generator=generator).double()
    rows = (rotated(x.expand(1, 1, 9, 8)) for x in (query, key))
    scores = torch.einsum("bhqd,bhkd->qk", *rows)
    for distance in range(1, 8):
        line = scores.diagonal(-distance)
        assert_close(line, line[0].expand(len(line)), atol=1e-6)
    assert abs(float(scores[1, 0] - scores[2, 0])) > 1e-3


def test_one_layer_reads_pairs_as_a_plain_transformer_does(generator):
    network = ModularAddition(p=5, d_model=16, heads=4)
    initialise(network, generator)
    attention, pairs = network.attention, torch.cartesian_prod(torch.arange(5), torch.arange(5))
    for pair, found in zip(pairs, network(pairs), strict=True):
        tokens = torch.tensor([*pair.tolist(), 5])
        stream = network.embed(tokens) + network.positions
        gathered = []
        for head in range(4):
            mine = slice(4 * head, 4 * head + 4)
            query, key, value = (
                (stream @ read.weight.T)[:, mine]
                for read in (attention.query, attention.key, attention.value)
            )
            gathered.append(((query[-1] @ key.T) / 2).softmax(0) @ value)
        last = stream[-1] + torch.cat(gathered) @ attention.out.weight.T
        last = last + network.write(network.read(last).relu())
        assert_close(found, last @ network.unembed.weight.T, atol=1e-5)


def test_new_pairs_are_taught_in_neither_order(generator):
    pairs = all_pairs(11, share=0.5, shuffled=False, generator=generator)
    taught = {tuple(pair) for pair in pairs.inputs[pairs.taught].tolist()}
    assert len(taught) == round(0.5 * 121)
    new = [tuple(pair) for half in pairs.new for pair in pairs.inputs[half].tolist()]
    assert len(set(new)) == len(new) > 10 and abs(len(pairs.new[0]) - len(pairs.new[1])) <= 1
    assert not [pair for pair in new if pair in taught or pair[::-1] in taught]
    assert bool((pairs.answers == pairs.inputs.sum(1) % 11).all())


def test_shuffled_answers_are_the_same_answers_elsewhere(generator):
    pairs = all_pairs(11, share=0.5, shuffled=True, generator=generator)
    assert pairs.answers.sort().values.tolist() == [n for n in range(11) for _ in range(11)]
    assert float((pairs.answers == pairs.inputs.sum(1) % 11).double().mean()) < 0.3


def test_measures_know_planted_answers(generator):
    """A network that answers by one wave has all its power there, and is right everywhere."""
    pairs = all_pairs(7, share=0.5, shuffled=False, generator=generator)
    planted = planted_logits(7, torch.tensor([2]), amplitude=20.0).flatten(0, 1)
    found = progress_of(lambda inputs: planted, pairs)
    assert found["new_accuracy"] == (1.0, 1.0) and found["sum_power"][0] == pytest.approx(1)
    assert found["taught_loss"][0] < 0.01


# ---- one training


def tiny(kind: str, **more) -> PhaseChange:
    return PhaseChange(kind=kind, d_model=16, context=12, batch=4, p=5, steps=44, every=1, **more)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """One tiny training of each kind: folder and summary by kind."""
    folder = tmp_path_factory.mktemp("trained")
    return {
        kind: (folder / kind, execute("phase-change", tiny(kind), folder / kind).summary)
        for kind in DATED_BY
    }


def rows(out, name: str) -> list[dict]:
    return pq.read_table(out / "tables" / f"{name}.parquet").to_pylist()


@pytest.mark.parametrize("kind", DATED_BY)
def test_a_training_leaves_what_was_measured_of_it(trained, kind):
    out, summary = trained[kind]
    (run,) = (run | known for run, known in zip(rows(out, "runs"), rows(out, "known_dates"),
                                                strict=True))  # fmt: skip
    assert run["silent"] == (kind in SILENT) and run["num_steps"] == 44 and run["interval"] == 1
    progress = [row for row in rows(out, "progress") if row["measure"] == run["dated_by"]]
    assert [row["step"] for row in progress] == list(range(45))
    assert all(math.isfinite(row["again"]) for row in progress)
    assert run["largest_value"] == max(row["value"] for row in progress)
    sites = {row["site"] for row in rows(out, "measurements")}
    assert len(rows(out, "measurements")) == 45 * len(sites) and len(rows(out, "training")) == 45
    assert summary.grade == "control"
    assert summary.controls["as_expected"].passed == run["silent"]  # nothing changes so soon
    assert "stays below .5 in 44 steps" in summary.finding


def test_the_same_training_is_the_same_to_the_bit(trained, tmp_path):
    execute("phase-change", tiny("grokking"), tmp_path / "again")
    for name in ("progress", "measurements", "training"):
        again, first = (
            pq.read_table(out / "tables" / f"{name}.parquet")
            for out in (tmp_path / "again", trained["grokking"][0])
        )
        for column in again.column_names:
            if column not in ("run", "site", "measure"):
                assert_close(again[column], first[column], rtol=0, atol=0)


def test_another_seed_is_another_training(trained, tmp_path):
    execute("phase-change", tiny("grokking", seed=1), tmp_path / "out")
    assert rows(tmp_path / "out", "progress") != rows(trained["grokking"][0], "progress")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"p": 6, "kind": "grokking"}, "--p 6 was asked for: .* odd p"),
        ({"d_model": 20}, "--d-model 20 .* multiple of 8"),
        ({"steps": 30, "every": 1}, "--steps 30 with a look every 1 give 31 looks"),
        ({"share": 1.0}, "--share is 1.0"),
    ],
)
def test_a_bad_training_is_one_sentence_before_any_work(change, words, tmp_path):
    options = PhaseChange(**{"kind": "induction", **change})
    with pytest.raises(BadInput, match=words):
        execute("phase-change", options, tmp_path / "out")
    assert not (tmp_path / "out").exists()


# ---- all trainings


STEPS = list(range(0, 808, 8))


def planted(task, *, at: int | None) -> dict[str, pa.Table]:
    """The tables that a training leaves, of made-up courses that change at a look, or never."""
    kind, seed = task.options.kind, task.options.seed
    noise = torch.Generator().manual_seed(100 * list(DATED_BY).index(kind) + seed)

    def course(level: float) -> list[float]:
        values = 0.01 * torch.randn(len(STEPS), generator=noise, dtype=torch.float64)
        if at is not None:
            values[at:] += level
        return values.tolist()

    name, by = str(task.folder), DATED_BY[kind]
    values = {by: course(0.9), "in_context_score": course(-2.0)}
    known = known_date(STEPS, values[by])
    sites = torch.tensor([course(3.0), course(0.0)]) + 5
    history = History(
        steps=torch.tensor(STEPS), sites=("embed", "blocks.0"), ceiling=torch.tensor([64, 64]),
        values={measure: sites for measure in ("stable_rank", "participation_ratio")}, again={},
        training={"loss": torch.rand(len(STEPS), generator=noise, dtype=torch.float64)},
    )  # fmt: skip
    made = {
        "runs": [{
            "run": name, "architecture": "made_up", "family": "transformer", "dataset": "none",
            "seed": seed, "depth": 1, "width": 8, "parameters": 9, "num_steps": STEPS[-1],
            "interval": 8, "final_accuracy": 1.0, "chance_accuracy": 0.1, "final_loss": 0.0,
        }],
        "known_dates": [{
            "run": name, "kind": kind, "silent": kind in SILENT, "dated_by": by,
            "known_after": known[0], "known_step": known[1], "first_value": 0.0,
            "largest_value": max(values[by]),
        }],
        "progress": [
            {"run": name, "measure": measure, "step": step, "value": value, "again": again}
            for measure, readings in values.items()
            for step, value, again in zip(STEPS, readings, readings[1:] + readings[:1], strict=True)
        ],
    }  # fmt: skip
    rows_of = {table: pa.Table.from_pylist(some) for table, some in made.items()}
    return history_tables({name: history}) | rows_of


def pretended(options: PhaseChanges, path: Path, dates: dict[str, int | None]):
    """A run whose tasks were not trained but made up."""

    def launch(tasks):
        found = {}
        for task in tasks:
            store = Folder(path / "tasks" / task.folder)
            store.save("trained", tables=planted(task, at=dates[task.options.kind]))
            found[str(task.folder)] = store
        return found

    store = Folder(path / "all")
    summary = run(options, store=store, progress=silence, say=lambda line: None, launch=launch)
    return summary, store


AS_EXPECTED = {"induction": 40, "learned_positions": None, "grokking": 60, "shuffled_answers": None}


@pytest.fixture(scope="module")
def where(tmp_path_factory):
    return tmp_path_factory.mktemp("dated")


@pytest.fixture(scope="module")
def dated(where):
    return pretended(PhaseChanges(seeds=(0, 1)), where, AS_EXPECTED)


def test_planted_changes_are_dated_and_controls_are_silent(dated):
    summary, store = dated
    dates = store.table("dates").to_pylist()
    by = {row["run"]: row for row in dates if row["by"]}
    for kind, at in (("induction", 320), ("grokking", 480)):
        for seed in (0, 1):
            row = by[f"{kind}-seed-{seed}"]
            assert row["known_step"] == at and row["hit"] and abs(row["off"]) <= 8
        recall = summary.figures[f"recall.{kind}"]
        assert recall.value == 1 and recall.n == 2 and recall.low < 0.4 and recall.null_mean < 0.1
    embed = [row for row in dates if row["site"] == "embed" and not row["silent"]]
    assert all(row["hit"] for row in embed)
    still = [row for row in dates if row["site"] == "blocks.0"]
    assert sum(row["events"] for row in still) <= 1
    assert summary.controls["changes_came"].passed and summary.controls["controls_stayed"].passed
    assert summary.figures["recall.induction.stable_rank"].value == pytest.approx(0.5, abs=0.01)
    assert "in 2 of 2 runs of induction heads forming" in summary.finding
    assert len(summary.suspicious) == 0


def test_what_goes_otherwise_is_told(tmp_path):
    """A change that never comes, and a control that changes."""
    options = PhaseChanges(kinds=("induction", "learned_positions"), seeds=(0, 1))
    summary, _ = pretended(options, tmp_path, {"induction": None, "learned_positions": 30})
    assert summary.finding.startswith("No phase change came to pass, so none could be dated.")
    assert not summary.controls["changes_came"].passed
    assert not summary.controls["controls_stayed"].passed
    assert "not learned_positions-seed-0" in summary.controls["controls_stayed"].sentence
    assert not summary.controls["silent"].passed
    assert any("No change came in induction-seed-0" in line for line in summary.suspicious)
    assert summary.figures["false_alarms_per_1000.learned_positions"].value > 1
    assert not [name for name in summary.figures if name.startswith("recall.induction")]


def test_a_date_that_is_missed_is_suspicious():
    by = date_rows(run_row(), [("network", 1.0, "prefix_matching")],
                   [jump("network", "prefix_matching", 80, 2, 0.9)])  # fmt: skip
    runs = [run_row()]
    summary = summarise(PhaseChanges(), runs, by)
    assert summary.figures["recall.induction"].value == 0
    assert any("a changed at step 50, and has the largest event at 80" in line
               for line in summary.suspicious)  # fmt: skip


def test_quick_is_narrow_and_the_seeds_are_those_asked_for():
    assert len(tasks_of(PhaseChanges())) == 12
    quick = tasks_of(PhaseChanges(quick=True))
    assert [task.options.kind for task in quick] == list(QUICK_KINDS)
    assert all(task.options.d_model == 32 and task.options.seed == 0 for task in quick)
    said: list[str] = []
    tell(PhaseChanges(seeds=(7,)), said.append)
    assert said[0] == "4 trainings of phase-change" and "grokking-seed-7" in said[3]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seeds": (1, 1)}, "--seeds has 2 values, 1 of them different"),
        ({"kinds": ()}, "--kinds has 0 values"),
        ({"kinds": ("grokking",), "quick": True}, "--quick was asked with --kinds grokking"),
    ],
)
def test_a_bad_run_is_one_sentence_before_any_work(change, words, tmp_path):
    with pytest.raises(BadInput, match=words):
        execute("phase-changes", PhaseChanges(**change), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_command_line_names_the_kinds_there_are(tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["run", "phase-changes", "--kinds", "grok", "--out", str(out)]) == 2
    assert "learned_positions" in capsys.readouterr().err and not out.exists()


def test_every_figure_is_drawn_and_every_table_is_described(dated, where):
    store, out = dated[1], where / "all"
    assert {path.stem for path in (out / "tables").glob("*.parquet")} >= {
        "runs",
        "measurements",
        "training",
        "progress",
        "known_dates",
        "dates",
    }
    described = described_tables()
    for name in ("known_dates", "progress", "dates", "progress_jumps"):
        assert set(store.table(name).column_names) == described[name]
    for name, content in (("run", b"{}"), ("summary", b"{}")):
        (out / f"{name}.json").write_bytes(content)
    records = read(out)
    for make in (phase_changes.progress, phase_changes.dimensions, phase_changes.measures):
        figure = make(records)
        assert figure is not None and figure.answer.endswith(".")
        assert len(draw(figure)) == len(figure.panels)
        assert all(len(column.cells) == len(figure.columns[0].cells) for column in figure.columns)
        assert make(replace(records, tables={})) is None


@pytest.mark.slow
def test_real_changes_are_dated(tmp_path):
    options = PhaseChanges(kinds=("induction", "grokking", "shuffled_answers"), seeds=(0,))
    launcher = LAUNCHERS["local"](Means(workers=2))
    summary = execute("phase-changes", options, tmp_path / "out", launcher=launcher).summary
    dates = rows(tmp_path / "out", "dates")
    found = {row["kind"]: row for row in dates if row["by"]}
    for kind in ("induction", "grokking"):
        assert abs(found[kind]["off"]) <= 0.05 * STEPS[-1]
    assert found["grokking"]["hit"]
    assert summary.controls["changes_came"].passed and summary.controls["controls_stayed"].passed
    page = build(tmp_path / "out").read_text(encoding="utf-8")
    for section in ("phase_changes_progress", "phase_changes_dimensions", "phase_changes_measures",
                    "method-phase-changes"):  # fmt: skip
        assert f'id="{section}"' in page
