"""The original's raw files: read strictly, reproduced exactly, corrected, and written as it did."""

import csv
import html
import json
import math
import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from energylens.cli import main
from energylens.core.errors import ArtifactRefused, BadInput, InsufficientData
from energylens.report.page import build
from energylens.run.execute import execute
from energylens.studies.ndt_import import NdtImport
from energylens.studies.ndt_import.compat import read_as_original
from energylens.studies.ndt_import.exports import COUNTS, JUMPS, PERIODS
from energylens.studies.ndt_import.published import CLAIMS, PUBLISHED
from energylens.studies.ndt_import.reading import LEAST, read_folder
from energylens.studies.ndt_import.recovery import consistency, true_rank
from tests.common.compare import assert_close
from tests.common.run_directory import columns_there, described_tables
from tests.oracles import original_ndt as oracle
from tests.studies.original_runs import cells, raw_run, singular_values, write_run

SAMPLES = 120
CHOSEN = (("transformer_deep", "mnist"), ("cnn_deep", "mnist"), ("mlp_narrow", "mnist"))
SAMPLE_FILES = os.environ.get("ENERGYLENS_NDT_SAMPLES", "")


def options(folder: Path, **more) -> NdtImport:
    return NdtImport(**{"folder": folder, "measures": ("stable_rank",), "draws": 499, "threads": 1,
                        **more})  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("raw")
    for architecture, dataset in CHOSEN:
        step_at = 60 if architecture == "mlp_narrow" else None
        write_run(path, architecture, dataset, samples=SAMPLES, step_at=step_at)
    (path / "README.md").write_text("not a run")
    return path


@pytest.fixture(scope="module")
def out(folder, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("import") / "run"
    execute("ndt-import", options(folder), path)
    return path


def export(out: Path, name: str, kind: str = "original"):
    path = out / "exports" / kind / name
    if path.suffix == ".csv":
        return list(csv.DictReader(path.read_text().splitlines()))
    return json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(name))


# ---- the original's definitions, from the raw files to its own


def test_every_exported_jump_is_that_of_a_slow_reading_of_the_raw_files(folder, out):
    expected = []
    for path in sorted(folder.glob("*.json")):
        raw = json.loads(path.read_text())
        for layer in sorted(raw["measurements"][0]["layer_metrics"]):
            series = [m["layer_metrics"][layer]["stable_rank"] for m in raw["measurements"]]
            for at in oracle.jumps(series):
                change = series[at + 1] - series[at]
                expected.append((
                    str(at), repr(abs(change)), repr(oracle.speed(series, at)),
                    "increase" if change > 0 else "decrease", repr(at / raw["num_steps"]), layer,
                    path.stem, raw["arch_name"], "mnist", "early",
                ))  # fmt: skip
    rows = export(out, "all_jumps_detailed.csv")
    assert tuple(rows[0]) == JUMPS
    assert [tuple(row.values())[:-1] for row in rows] == expected
    assert len(expected) > 30


def test_critical_periods_are_those_of_a_slow_reading(folder, out):
    for row, path in zip(
        export(out, "critical_periods_detailed.csv"), sorted(folder.glob("*.json")), strict=True
    ):
        raw = json.loads(path.read_text())["measurements"]
        layers = [[m["layer_metrics"][layer]["stable_rank"] for m in raw]
                  for layer in raw[0]["layer_metrics"]]  # fmt: skip
        critical = [oracle.critical(series) for series in layers]
        together = oracle.coordination(critical, SAMPLES)
        assert tuple(row) == PERIODS
        assert int(row["total_critical_steps"]) == sum(map(len, critical))
        assert int(row["total_transitions"]) == sum(len(oracle.critical(s, 2)) for s in layers)
        assert int(row["num_coordinated_periods"]) == sum(share >= 0.5 for share in together)
        assert float(row["max_coordination"]) == max(together)
        assert float(row["loss_correlation"]) == pytest.approx(
            oracle.falling_share(critical, [m["loss"] for m in raw])
        )


def test_phases_are_too_small_by_the_interval_as_they_were(out):
    phases = [float(row["phase"]) for row in export(out, "all_jumps_detailed.csv")]
    jumps = pq.read_table(out / "tables/jumps.parquet").to_pylist()
    right = [row["phase"] for row in jumps if row["detector"] == "global_z_stored"]
    assert right == pytest.approx([5 * phase for phase in phases])
    assert max(phases) < 0.2 < max(right)


@pytest.mark.skipif(not SAMPLE_FILES, reason="ENERGYLENS_NDT_SAMPLES names no folder")
def test_real_files_give_the_published_counts():
    experiments = read_folder(Path(SAMPLE_FILES))
    found = read_as_original(experiments, {e.name: e.stored["stable_rank"] for e in experiments})
    for row in found.runs:
        published = PUBLISHED[row["experiment"]]
        assert row["total_jumps"] == published.jumps
        assert row["total_critical_steps"] == published.critical_steps
        assert row["total_transitions"] == published.transitions
        assert row["num_coordinated_periods"] == published.coordinated
    assert all(row["convergence_pattern"] == "unclear" for row in found.convergence)
    assert consistency(experiments).within == consistency(experiments).values


def test_what_was_published_of_runs_adds_up_to_what_was_claimed():
    assert {f"{a}_{d}" for a, d in cells()} == set(PUBLISHED)
    assert sum(run.jumps for run in PUBLISHED.values()) == CLAIMS["jumps"].value
    for family in ("transformer", "cnn", "mlp"):
        jumps = sum(run.jumps for name, run in PUBLISHED.items() if family in name)
        assert jumps == CLAIMS[f"jumps.{family}"].value


# ---- the true rank


def test_the_recovered_rank_is_that_of_the_singular_values(folder):
    for one in read_folder(folder):
        step_at = 60 if one.architecture == "mlp_narrow" else None
        sigma = singular_values(one.architecture, one.dataset, samples=SAMPLES, step_at=step_at)
        for rank, values in zip(true_rank(one), sigma.values(), strict=True):
            expected = (values**2).sum(1) / (values**2).max(1)
            assert_close(rank, torch.from_numpy(expected))


def test_a_planted_jump_is_found_in_training_steps(out):
    rows = [row for row in pq.read_table(out / "tables/jumps.parquet").to_pylist()
            if row["detector"] == "energylens"]  # fmt: skip
    (found,) = (
        row for row in rows if (row["run"], row["site"]) == ("mlp_narrow_mnist", "network.0")
    )
    assert found["low"] <= 300 <= found["high"] + 5
    assert found["direction"] == "up" and found["q"] <= 0.05 and found["amplitude"] > 0.2


def test_exports_of_the_sound_reading_are_in_training_steps(out):
    rows = export(out, "all_jumps_detailed.csv", "sound")
    (row,) = (row for row in rows if row["layer"] == "network.0")
    assert abs(int(row["step"]) - 300) <= 10
    assert float(row["phase"]) == pytest.approx(0.5, abs=0.02)
    plan = export(out, "checkpoint_plan.json", "sound")["mlp_narrow_mnist"]
    assert any(abs(one["step"] - 300) <= 10 for one in plan["jumps"])
    assert any(one["type"].startswith("quiet control") for one in plan["jumps"])


def test_ratios_that_no_matrix_has_are_said(tmp_path):
    raw = raw_run("mlp_narrow", "mnist", samples=SAMPLES)
    raw["measurements"][7]["layer_metrics"]["network.0"]["participation_ratio"] *= 100
    raw["measurements"][8]["layer_metrics"]["network.0"]["participation_ratio"] = 0.0
    (tmp_path / "mlp_narrow_mnist.json").write_text(json.dumps(raw))
    found = consistency(read_folder(tmp_path))
    assert found.values - found.within == 1
    assert found.undefined == 1


# ---- the files under the original's names


KEYS = {
    "jump_characterization_summary.json": {
        "total_jumps", "experiments_with_jumps", "phase_distribution", "cluster_info",
        "experiment_summaries",
    },
    "critical_periods_summary.json": {"summary", "experiment_results"},
    "integrated_report.json": {
        "metadata", "phase_1_findings", "phase_2_findings", "key_conclusions", "hypotheses_tested",
    },
    "checkpoint_plan.json": {"cnn_deep_mnist", "mlp_narrow_mnist", "transformer_deep_mnist"},
}  # fmt: skip
PLANNED = {"type", "cluster", "step", "phase", "magnitude", "layer", "checkpoints"}
CONVERGENCE = {
    "stabilization_points", "convergence_correlation", "convergence_p_value",
    "convergence_pattern", "num_stabilized_layers", "total_layers", "experiment_name", "arch_name",
    "dataset_name", "num_layers",
}  # fmt: skip


@pytest.mark.parametrize("kind", ["original", "sound"])
def test_files_have_the_keys_of_the_original(kind, out):
    for name, keys in KEYS.items():
        assert set(export(out, name, kind)) == keys
    for row in export(out, "convergence_analysis_summary.json", kind):
        assert set(row) == CONVERGENCE
    summary = export(out, "jump_characterization_summary.json", kind)
    assert set(summary["experiment_summaries"][0]) == set(COUNTS)
    for plan in export(out, "checkpoint_plan.json", kind).values():
        assert set(plan) == {"jumps", "checkpoint_steps"}
        assert all(set(one) == PLANNED and len(one["checkpoints"]) == 3 for one in plan["jumps"])
    report = export(out, "integrated_report.json", kind)
    assert set(report["phase_2_findings"]) == {
        "temporal_distribution", "transformer_analysis", "cnn_mlp_comparison",
        "early_late_comparison",
    }  # fmt: skip
    assert set(report["hypotheses_tested"]) == {
        "layer_convergence", "transformer_specialization", "cnn_filter_differentiation",
        "early_initialization_escape", "late_capability_acquisition",
    }  # fmt: skip
    assert report["metadata"]["total_jumps"] == len(export(out, "all_jumps_detailed.csv", kind))


def test_an_undefined_correlation_is_null_where_the_original_wrote_nan(out):
    rows = export(out, "convergence_analysis_summary.json")
    assert all(row["convergence_correlation"] is None for row in rows)
    assert {row["convergence_pattern"] for row in rows} == {"unclear"}
    assert all(set(row["stabilization_points"].values()) == {0} for row in rows)


def test_the_second_phase_is_that_of_its_rules(folder, out):
    found = export(out, "integrated_report.json")["phase_2_findings"]
    jumps = export(out, "all_jumps_detailed.csv")
    phases = [float(row["phase"]) for row in jumps]
    assert found["temporal_distribution"]["early"] == sum(phase < 0.1 for phase in phases)
    dropped = sum(phase == 0 for phase in phases)
    early = found["early_late_comparison"]["early_jumps"]
    assert early == sum(0 < phase <= 0.1 for phase in phases) and dropped > 0
    counts = {name: sum(row["experiment"] == name for row in jumps)
              for name in ("cnn_deep_mnist", "mlp_narrow_mnist")}  # fmt: skip
    comparison = found["cnn_mlp_comparison"]["comparison"]
    assert comparison["jump_ratio"] == counts["cnn_deep_mnist"] / counts["mlp_narrow_mnist"]
    # A fifth of the index is looked up, as it was.
    raw = json.loads((folder / "transformer_deep_mnist.json").read_text())["measurements"]
    plan = export(out, "checkpoint_plan.json")["transformer_deep_mnist"]["jumps"]
    changes = [raw[one["checkpoints"][2] // 5]["loss"] - raw[one["checkpoints"][0] // 5]["loss"]
               for one in plan]  # fmt: skip
    assert found["transformer_analysis"]["mean_loss_change"] == pytest.approx(
        sum(changes) / len(changes)
    )


# ---- what a person sees


def test_the_page_sets_claims_beside_what_is_so(out):
    page = html.unescape(build(out).read_text(encoding="utf-8"))
    for words in ("What was claimed, and what do the same data say?", "Claim by claim",
                  "Are there more jumps than noise has?", "When do jumps happen?", "2,991",
                  "The original's definitions, and the true stable rank"):  # fmt: skip
        assert words in page
    described = {n: c for n, c in described_tables().items() if n.startswith("original")}
    there = columns_there(out)
    assert {name: there[name] for name in described} == described


def test_every_claim_has_a_sentence_and_numbers_of_its_own(out):
    rows = pq.read_table(out / "tables/original_comparison.parquet").to_pylist()
    by_name = {row["quantity"]: row for row in rows}
    assert set(CLAIMS) <= set(by_name)
    assert all(row["sentence"].endswith(".") and row["claimed_in"] for row in
               (by_name[name] for name in CLAIMS))  # fmt: skip
    assert by_name["mean_coordination"]["corrected"] == pytest.approx(0.1, abs=0.002)
    assert by_name["late_share"]["reproduced"] == 0 < by_name["late_share"]["corrected"]


def test_the_run_is_done_once(folder, out):
    assert not execute("ndt-import", options(folder), out).fresh


# ---- bad input


def without(key: str):
    def spoil(raw):
        raw.pop(key)

    return spoil


def of_the_first(layer: str, key: str, value=None):
    def spoil(raw):
        metrics = raw["measurements"][3]["layer_metrics"]
        if value is None:
            metrics[layer].pop(key)
        else:
            metrics[layer][key] = value

    return spoil


def other(path: str, value):
    def spoil(raw):
        raw[path] = value

    return spoil


def at_the_third(key: str, value):
    def spoil(raw):
        raw["measurements"][2][key] = value

    return spoil


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without("arch_name"), "mlp_narrow_mnist.json lacks arch_name: it is no raw result"),
        (without("measurements"), "lacks measurements"),
        (of_the_first("network.2", "nuclear_norm_ratio"),
         r"lacks measurements\[3\].layer_metrics\[network.2\].nuclear_norm_ratio"),
        (of_the_first("network.2", "participation_ratio", "high"), "'high' for network.2"),
        (other("architecture_params", {"depth": 4}), "lacks architecture_params.width"),
        (other("measurements", []), f"has 0 measurements, .* takes {LEAST}"),
        (other("num_steps", 100), "says 100 training steps .* has some from step 0 to 595"),
        (other("measurement_interval", 10), "every 10 steps, and goes from step 0 to 5"),
        (other("num_steps", "many"), "'many' for num_steps"),
        (at_the_third("step", 11), "goes from step 5 to 11: it mixes two runs"),
        (at_the_third("layer_metrics", {}), r"other layers in measurements\[2\]"),
        (at_the_third("loss", [1]), r"\[1\] for loss"),
    ],
)  # fmt: skip
def test_a_file_of_another_schema_says_which_key_of_which_file(spoil, message, tmp_path):
    raw = raw_run("mlp_narrow", "mnist", samples=SAMPLES)
    spoil(raw)
    (tmp_path / "mlp_narrow_mnist.json").write_text(json.dumps(raw))
    with pytest.raises((ArtifactRefused, InsufficientData), match=message):
        read_folder(tmp_path)


def test_a_file_cut_short_is_one_sentence_and_leaves_nothing(tmp_path, capsys):
    path = write_run(tmp_path / "raw", "mlp_narrow", "mnist", samples=LEAST)
    path.write_text(path.read_text()[:5_000])
    words = ["--folder", str(tmp_path / "raw"), "--out", str(tmp_path / "run")]
    assert main(["run", "ndt-import", *words]) == 2
    said = capsys.readouterr().err
    assert "mlp_narrow_mnist.json is not whole JSON" in said and said.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_list_is_no_run(tmp_path):
    (tmp_path / "all.json").write_text("[1, 2]")
    with pytest.raises(ArtifactRefused, match="all.json holds a list, not the object of a run"):
        read_folder(tmp_path)


def test_an_empty_folder_and_none_are_refused(tmp_path):
    with pytest.raises(BadInput, match="holds no JSON file"):
        read_folder(tmp_path)
    with pytest.raises(BadInput, match="is no folder"):
        read_folder(tmp_path / "nowhere")


def test_two_files_of_one_run_are_refused(tmp_path):
    path = write_run(tmp_path, "mlp_narrow", "mnist", samples=LEAST)
    (tmp_path / "copy.json").write_text(path.read_text())
    with pytest.raises(BadInput, match=r"copy.json and mlp_narrow_mnist.json are both of"):
        read_folder(tmp_path)


@pytest.mark.parametrize(
    ("how", "extra", "message"),
    [
        ({"samples": LEAST + 1}, "", "320 training steps, and mlp_narrow_qmnist.json 325"),
        ({"interval": 10}, "", "320 training steps, and mlp_narrow_qmnist.json 640"),
        ({}, "entropy_rank", "nuclear_norm_ratio, participation_ratio, stable_rank as measures"),
    ],
)
def test_two_experiments_in_one_folder_are_refused(how, extra, message, tmp_path):
    write_run(tmp_path, "mlp_narrow", "mnist", samples=LEAST)
    raw = raw_run("mlp_narrow", "qmnist", **({"samples": LEAST} | how))
    if extra:
        for moment in raw["measurements"]:
            for metrics in moment["layer_metrics"].values():
                metrics[extra] = 1.0
    (tmp_path / "mlp_narrow_qmnist.json").write_text(json.dumps(raw))
    with pytest.raises(BadInput, match=message):
        read_folder(tmp_path)


def test_a_loss_that_is_nan_and_a_constant_layer_are_said_and_do_no_harm(tmp_path):
    raw = raw_run("mlp_shallow_2", "mnist", samples=LEAST)
    for place, moment in enumerate(raw["measurements"]):
        moment["loss"] = math.nan if place > 30 else moment["loss"]
        moment["layer_metrics"]["network.0"] = raw["measurements"][0]["layer_metrics"]["network.0"]
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "mlp_shallow_2_mnist.json").write_text(json.dumps(raw))
    summary = execute("ndt-import", options(tmp_path / "raw"), tmp_path / "run").summary
    told = " ".join(summary.suspicious)
    assert "The loss is not finite at some measurements in mlp_shallow_2_mnist" in told
    assert "undefined or constant in some layers in mlp_shallow_2_mnist" in told
    rows = export(tmp_path / "run", "all_jumps_detailed.csv")
    assert "network.0" not in {row["layer"] for row in rows}
    build(tmp_path / "run")


def test_an_unknown_measure_is_refused(folder, tmp_path):
    with pytest.raises(BadInput, match="--measures has depth: choose among stable_rank"):
        execute("ndt-import", options(folder, measures=("depth",)), tmp_path / "run")
