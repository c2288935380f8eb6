"""The suite: its grid, its tasks, and what it says of them."""

import math
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from energylens.core.errors import BadInput, TasksLost
from energylens.report.page import build
from energylens.run.execute import execute
from energylens.run.launch import LAUNCHERS, Means
from energylens.sources.examples import EXAMPLE_SETS
from energylens.sources.suite_networks import ARCHITECTURES
from energylens.studies.ndt_suite import NdtSuite
from energylens.studies.ndt_suite.finding import summarise
from energylens.studies.ndt_suite.grid import GRID, QUICK, cells, tasks_of, tell
from tests.common.run_directory import OF_TRAININGS, columns_there, described_tables

TINY = NdtSuite(
    datasets=("breast-cancer",), architectures=("mlp_narrow",), seeds=(0, 1), steps=66, interval=1,
    batch=16, probe=24, measures=("stable_rank",),
)  # fmt: skip


def test_the_suite_is_fifty_five_trainings_of_three_families():
    chosen = cells(NdtSuite())
    families = Counter(ARCHITECTURES[name].family for _, name in chosen)
    assert families == {"transformer": 14, "cnn": 9, "mlp": 32} and len(set(chosen)) == 55
    assert {dataset for dataset, _ in chosen} == set(GRID) and len(GRID) == 5
    assert all(EXAMPLE_SETS[dataset].bundled for dataset in GRID)
    assert set(QUICK) <= set(GRID) and all(set(QUICK[name]) <= set(GRID[name]) for name in QUICK)
    quick = {ARCHITECTURES[name].family for _, name in cells(NdtSuite(quick=True))}
    assert quick == {"transformer", "cnn", "mlp"}


def test_each_training_is_in_one_task_and_long_ones_come_first():
    tasks = tasks_of(NdtSuite(seeds=(0, 3)))
    trained = [(task.options.dataset, name, task.options.seed)
               for task in tasks for name in task.options.architectures]  # fmt: skip
    assert len(trained) == len(set(trained)) == 110 and len(tasks) == 54
    assert len({task.folder for task in tasks}) == 54
    assert tasks[0].options.architectures == ("transformer_deep",)
    assert tasks[-1].options.architectures == ("cnn_shallow",)
    assert {task.options.steps for task in tasks} == {2_000}
    mine = next(t for t in tasks if t.folder.name == "mlp-breast-cancer-seed-3")
    assert len(mine.options.architectures) == 8 and mine.options.threads == 1
    said: list[str] = []
    tell(NdtSuite(), said.append)
    assert said[0].startswith("55 trainings of 2,000 steps on mnist-10k, digits")


def test_a_part_of_the_suite_can_be_asked_for():
    assert cells(NdtSuite(datasets=("digits",))) == [("digits", name) for name in GRID["digits"]]
    wide = cells(NdtSuite(architectures=("mlp_wide",)))
    assert [dataset for dataset, _ in wide] == ["mnist-10k", "mnist1d", "speeches", "breast-cancer"]
    both = NdtSuite(datasets=("digits",), architectures=("mlp_wide",))
    assert cells(both) == [("digits", "mlp_wide")]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seeds": (1, 1)}, "option --seeds has 1 twice"),
        ({"datasets": ("a/b.npz",)}, "the suite trains nothing that fits a/b.npz: give both"),
        ({"datasets": ("digitz",)}, "no data set named 'digitz': did you mean 'digits'"),
        ({"architectures": ("mlp_wyde",)}, "no architecture named 'mlp_wyde': did you mean"),
        ({"architectures": ("mlp_wide",), "quick": True}, "a quick suite trains nothing that fits"),
        ({"steps": 100}, "give 21 looks, and changes take 64 to be found"),
        ({"datasets": ("digits",), "architectures": ("mlp_wid",)}, "mlp_wid"),
    ],
)
def test_bad_input_is_one_sentence(change, words, tmp_path):
    with pytest.raises(BadInput, match=words):
        execute("ndt-suite", NdtSuite(**change), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def made_up(verdicts) -> dict[str, pa.Table]:
    runs = [
        {"run": f"mlp_{i}", "family": "mlp", "dataset": "digits", "num_steps": 500,
         "final_accuracy": 0.5, "accuracy_low": 0.4 if i else 0.05, "accuracy_high": 0.6,
         "chance_accuracy": 0.1} for i in range(3)
    ]  # fmt: skip
    series = [
        {"run": "mlp_0", "site": "linear1", "measure": "stable_rank", "censored": censored}
        for censored in (True, False)
    ]
    hypotheses = [
        {"question": f"Question {i // 2}?", "hypothesis": f"claim {i}", "quantity": "Early share",
         "measure": "stable_rank" if i else None,
         "effect": 0.5 + i, "unit": "share", "low": 0.4, "high": 9.0, "null_mean": 0.1,
         "null_sd": 0.05, "p": 0.001, "q": 0.01 * (5 - i), "n": 3, "n_unit": "trainings",
         "verdict": verdict} for i, verdict in enumerate(verdicts)
    ]  # fmt: skip
    return {
        "runs": pa.Table.from_pylist(runs), "settling": pa.Table.from_pylist(series),
        "jumps": pa.Table.from_pylist(
            [{"run": "mlp_0", "site": "linear1", "measure": "stable_rank"}] * 4
        ),
        "hypotheses": pa.Table.from_pylist(hypotheses),
        "measurements": pa.Table.from_pylist([{"stable_rank": math.nan}, {"stable_rank": 1.0}]),
    }  # fmt: skip


def test_what_holds_is_told_with_its_null():
    summary = summarise(NdtSuite(), made_up(["supported", "contradicted", "supported"]))
    assert summary.finding == (
        "2 of 3 statements about 3 trainings hold beyond their nulls (q ≤ .05): claim 2; claim 0."
        " Contradicted: claim 1."
    )
    assert list(summary.figures)[:3] == [
        "early_share",
        "early_share.stable_rank",
        "early_share.stable_rank.2",
    ]
    assert summary.figures["early_share.stable_rank"].q == 0.04
    assert summary.cards == ("early_share", "early_share.stable_rank.2")
    assert "4 jumps in 1 of 1 series of 500 steps; 1 series had not settled" in summary.detail
    assert not summary.controls["learned"].passed
    assert summary.figures["learned.mlp"].value == pytest.approx(2 / 3)
    assert summary.grade == "quick"
    assert any("1 of 3 networks did not learn: mlp_0." in line for line in summary.suspicious)
    assert any("1 of 2 looks at a site are undefined" in line for line in summary.suspicious)


def test_that_nothing_holds_is_told_too():
    summary = summarise(NdtSuite(), made_up(["not beyond the null"]))
    assert summary.finding == (
        "0 of 1 statement about 3 trainings hold beyond their nulls (q ≤ .05)."
    )


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    return execute("ndt-suite", TINY, tmp_path_factory.mktemp("runs") / "done")


def test_a_tiny_suite_runs_to_its_page(done):
    there = columns_there(done.path)
    assert there == {name: described_tables()[name] for name in there}
    assert set(there) >= set(OF_TRAININGS) - {"jump_types", "settling_curves"}
    runs = pq.read_table(done.path / "tables/runs.parquet")
    assert runs["run"].to_pylist() == [f"mlp_narrow_breast-cancer_{seed}" for seed in (0, 1)]
    measured = pq.read_table(done.path / "tables/measurements.parquet")
    assert len(measured) == 67 * 2 * 5
    assert "statements about 2 trainings" in done.summary.finding
    assert "ndt-suite" in build(done.path).read_text()


def test_a_killed_suite_goes_on_with_what_is_left(done, tmp_path):
    """One task is done and the other never came back: the same command makes it alone."""
    tried: list[str] = []

    def loses(tasks, *, ended):
        for task in tasks:
            tried.append(task.folder.name)
            if task.options.seed == 0:
                LAUNCHERS["inline"](Means())([task], ended=ended)

    out = tmp_path / "out"
    with pytest.raises(TasksLost, match="mlp-breast-cancer-seed-1"):
        execute("ndt-suite", TINY, out, launcher=loses)
    assert tried.count("mlp-breast-cancer-seed-0") == 1
    again = execute("ndt-suite", TINY, out)
    for name in ("measurements", "training", "jumps", "hypotheses"):
        mine, theirs = (pq.read_table(path / f"tables/{name}.parquet") for path in (out, done.path))
        assert mine.equals(theirs) or str(mine.to_pylist()) == str(theirs.to_pylist()), name
    assert again.summary.finding == done.summary.finding
