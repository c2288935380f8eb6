"""What a run would do is said, and nothing is written."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from energylens.cli import main
from energylens.core.errors import BadInput
from energylens.studies.energy_lens import EnergyLens
from energylens.studies.energy_lens.plan import plan
from energylens.studies.study import Study

pytestmark = pytest.mark.skipif(
    find_spec("glassllm") is None, reason="the package glassllm is not installed"
)


def told(**options) -> list[str]:
    lines: list[str] = []
    plan(EnergyLens(model="tiny", threads=1, **options), lines.append)
    return lines


def test_a_dry_run_says_sizes_time_memory_and_disk_and_writes_nothing(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert main(["run", "energy-lens", "--model", "tiny", "--dry-run"]) == 0
    said = capsys.readouterr().out
    for word in ("100 held-out documents", "blocks.3.resid_post", "interventions", "GFLOP/s",
                 "memory  about", "disk about"):  # fmt: skip
        assert word in said
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.slow
def test_a_larger_budget_takes_longer_and_what_is_left_out_is_not_counted():
    def seconds(lines: list[str]) -> str:
        return next(line for line in lines if "interventions" in line)

    assert seconds(told(budget="quick")) != seconds(told(budget="full"))
    assert not any("random-weight model  " in line for line in told(random_weights=False))


def test_bad_input_is_refused_as_by_the_run(capsys):
    assert main(["run", "energy-lens", "--model", "tiny", "--k", "9999", "--dry-run"]) == 2
    with pytest.raises(BadInput, match="it must be 10 or more"):
        told(score_documents=3)


def test_a_study_without_a_plan_says_so():
    study = Study(name="toy", question="?", example="", entry="a:b", options=object)
    with pytest.raises(BadInput, match="toy cannot say beforehand"):
        study.planner()
