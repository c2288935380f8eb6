"""The method under ablation, on the packaged tiny model."""

import json
from importlib.util import find_spec

import pyarrow.parquet as pq
import pytest

from energylens.core.errors import BadInput
from energylens.report.page import build
from energylens.run.execute import execute
from energylens.studies.energy_lens_ablation import EnergyLensAblation
from energylens.studies.energy_lens_ablation.work import points
from tests.common.run_directory import columns_there, described_tables

SMALL = dict(
    sites=("blocks.1.resid_post", "blocks.3.resid_post"), width=64, k=4, train_tokens=2_048,
    context=32, score_documents=40, proof_features=3, proof_contexts=2, draws=1_000, repeats=3,
    width_times=(2.0,), k_times=(), train_tokens_times=(), threads=1,
)  # fmt: skip


def test_one_thing_is_changed_at_a_time():
    chosen = list(points(EnergyLensAblation()))
    base = chosen[0].options
    assert [p.options.seed for p in chosen if p.factor == "base"] == [0, 1, 2, 3]
    for point in chosen[4:]:
        differing = {n for n in vars(base) if getattr(base, n) != getattr(point.options, n)}
        assert differing == {point.factor} and getattr(point.options, point.factor) == point.level
    assert len({p.name for p in chosen}) == len(chosen) == 9


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"width": 8, "k": 9}, "--k 9 active features of --width 8 .*: k must be less"),
        ({"width": 16, "k": 12}, "--width-times 0.5 asks for 12 active features of 8"),
        ({"width_times": (0.5, -1.0)}, "option --width-times is -1.0: it must be 0.01 to 100"),
        ({"sites": ("blocks.9.resid_post",)}, "layers 0 to 3"),
        ({"k_times": (1.0,)}, "--k-times 1 of a k of 8 is 8, which is run already"),
        ({"width_times": (2.0, 2.0)}, "run already: give factors that change it, each once"),
    ],
)
def test_bad_input_is_one_sentence_before_any_work(change, words, tmp_path):
    with pytest.raises(BadInput, match=words):
        execute("energy-lens-ablation", EnergyLensAblation(**change), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.skipif(find_spec("glassllm") is None, reason="glassllm is not installed")
def test_it_resumes_run_by_run_and_leaves_what_it_promises(tmp_path):
    class Killed(BaseException):
        pass

    def kill(line: str) -> None:
        if line == "run base-seed-2":
            raise Killed

    options, out = EnergyLensAblation(**SMALL), tmp_path / "out"
    with pytest.raises(Killed):
        execute("energy-lens-ablation", options, out, say=kill)
    said: list[str] = []
    summary = execute("energy-lens-ablation", options, out, say=said.append).summary
    assert [line for line in said if line.startswith("run ")] == [
        "run base-seed-2", "run width-128",
    ]  # fmt: skip
    assert not (out / "scratch").exists() and not (out / "dictionaries").exists()
    there = columns_there(out)
    assert there == {name: described_tables()[name] for name in there}
    runs = pq.read_table(out / "tables/ablation_runs.parquet").to_pylist()
    assert len(runs) == 4 * 8
    features = pq.read_table(out / "tables/features_by_run.parquet").to_pydict()["run"]
    assert features.count("width-128") == 2 * features.count("base-seed-0") == 2 * 128
    changes = pq.read_table(out / "tables/ablation_changes.parquet").to_pylist()
    fvu = next(row for row in changes if row["outcome"] == "fvu")
    values = {row["run"]: row["value"] for row in runs if row["outcome"] == "fvu"}
    base = [values[f"base-seed-{seed}"] for seed in range(3)]
    assert fvu["change"] == pytest.approx(values["width-128"] - sum(base) / 3)
    exceeding = summary.figures["changes_exceeding.options"]
    options_changed = [row for row in changes if row["factor"] == "width"]
    assert exceeding.value == sum(row["exceeds"] for row in options_changed)
    page = build(out).read_text()
    assert "Which choice changes what is found?" in page and 'id="features"' not in page
    assert json.loads((out / "run.json").read_text())["inputs"]["model"]["name"] == "tiny"
