"""The study from end to end on the packaged tiny model, with budgets of seconds."""

import json
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import scipy.stats

from energylens.core.errors import BadInput, InsufficientData, UnknownName
from energylens.features.formats import saelens
from energylens.report.page import build
from energylens.run.execute import execute
from energylens.studies.energy_lens import EnergyLens
from tests.common.compare import assert_close
from tests.common.run_directory import columns_there, described_tables, on_request

pytestmark = pytest.mark.skipif(
    find_spec("glassllm") is None, reason="the package glassllm is not installed"
)
SMALL = dict(
    model="tiny", sites=("blocks.1.resid_post", "blocks.3.resid_post"), width=96, k=6, context=32,
    train_tokens=2_048, score_documents=60, proof_features=3, proof_contexts=3, draws=1_000,
    threads=1, variants=("within", "ranks"),
)  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("run") / "small"
    execute("energy-lens", EnergyLens(**SMALL), out)
    return out


def rows(run: Path, name: str) -> list[dict]:
    return pq.read_table(run / "tables" / f"{name}.parquet").to_pylist()


def test_every_feature_has_a_row_and_counts_agree(finished):
    summary = json.loads((finished / "summary.json").read_text())
    features = rows(finished, "features")
    assert len(features) == 2 * 96
    scored = [row for row in features if row["status"] == "scored"]
    figure = summary["figures"]["features_beyond_chance.downstream"]
    assert figure["value"] == sum(row["beyond"] for row in features)
    assert figure["undefined"] == len(features) - len(scored)
    assert all(row["beyond"] == (row["p_max_t"] <= 0.05) for row in scored)
    assert all(row["p_max_t"] == max(row["p_documents"], row["p_rows"]) for row in scored)


def test_the_lens_at_the_last_layer_is_the_models_own_loss(finished):
    depth = {(row["energy"], row["layer"]): row["mean"] for row in rows(finished, "depth")}
    # The lens counts places 1 … n − 2, the loss places 0 … n − 2: equal but for the first token.
    assert_close(depth["surprisal", 3], depth["downstream", 3], rtol=0.05)


def test_the_variants_asked_for_stand_beside_pearson(finished):
    features = {(r["site"], r["feature"]) for r in rows(finished, "features")
                if r["status"] == "scored"}  # fmt: skip
    variants = rows(finished, "variants")
    for name in ("within", "ranks"):
        mine = [row for row in variants if row["variant"] == name]
        assert {(r["site"], r["feature"]) for r in mine} == features
        assert all(abs(row["value"]) <= 1 and 0 < row["p"] <= 1 for row in mine)
    assert len(rows(finished, "variant_summary")) == 2
    there = {name: found for name, found in columns_there(finished).items() if on_request(name)}
    assert there == {name: described_tables()[name] for name in there} and len(there) == 2


def test_every_control_stands_beside_the_real_thing(finished):
    controls = {row["control"] for row in rows(finished, "controls")}
    assert controls == {
        "permuted decoder", "matched random directions", "activations of another document",
        "random-weight model",
    }  # fmt: skip


def test_kinds_of_text_are_drawn_alike_and_recorded(finished):
    drawn = rows(finished, "text_documents")
    kinds = {row["class"]: row["held_out"] for row in drawn}
    assert len(kinds) >= 5 and max(kinds.values()) - min(kinds.values()) <= 2
    assert sum(kinds.values()) == 60
    inputs = json.loads((finished / "run.json").read_text())["inputs"]
    assert inputs["text"]["kinds"] == kinds


def test_each_kind_stands_beside_all_others(finished):
    found = rows(finished, "text_classes")
    loss = {row["class"]: row for row in found if row["quantity"] == "downstream"}
    n, mean = ([row[name] for row in loss.values()] for name in ("n_documents", "mean"))
    whole = next(r["mean"] for r in rows(finished, "depth") if r["energy"] == "downstream")
    assert_close(sum(a * b for a, b in zip(n, mean, strict=True)) / sum(n), whole)
    # The tiny model read stories: it knows speeches better than regular expressions.
    assert loss["patterns"]["difference"] > 0 and loss["patterns"]["q"] < 0.05
    for row in loss.values():
        rest = (60 * whole - row["n_documents"] * row["mean"]) / (60 - row["n_documents"])
        assert_close(row["rest"], rest)
    constant = [row for row in found if row["quantity"] == "l0"]
    assert constant and all(row["mean"] == pytest.approx(6, abs=0.1) for row in constant)
    assert {row["site"] for row in found if "ablation" in row["quantity"]} == {"all sites"}


def test_the_densities_of_a_feature_add_up_over_kinds(finished):
    density = {(r["site"], r["feature"]): r["density"] for r in rows(finished, "features")}
    sums: dict[tuple, float] = {}
    for row in rows(finished, "feature_classes"):
        key = row["site"], row["feature"]
        sums[key] = sums.get(key, 0) + row["density"] * row["n_documents"] / 60
    featured = {(row["site"], row["feature"]) for row in rows(finished, "featured")}
    assert sums.keys() == featured
    for key, total in sums.items():
        assert_close(total, density[key], rtol=0.05)  # massive places weigh a little


def test_text_of_one_kind_is_said_and_not_compared(tmp_path):
    for number in range(60):
        (tmp_path / f"{number}.txt").write_text(f"There were {number} birds in the tree. " * 40)
    out = tmp_path / "run"
    small = SMALL | {"score_documents": 24, "train_tokens": 1_024, "sites": SMALL["sites"][:1],
                     "random_weights": False, "text": (str(tmp_path),)}  # fmt: skip
    execute("energy-lens", EnergyLens(**small), out)
    assert rows(out, "text_classes") == [] and rows(out, "feature_classes") == []
    assert [row["class"] for row in rows(out, "text_documents")] == ["text"]
    limits = json.loads((out / "summary.json").read_text())["limits"]
    assert [s for s in limits if s.startswith("All text is of one kind (text):")]
    page = build(out).read_text()
    assert "All text is of one kind" in page and "Does it depend on the kind of text?" not in page


def test_activations_of_another_document_give_nothing(finished):
    found = [r for r in rows(finished, "controls") if r["control"].startswith("activations")]
    assert all(row["discoveries"] == 0 for row in found)
    assert all(row["rate_at_05"] <= 0.15 for row in found)


def test_predicted_and_measured_effects_are_on_record(finished):
    effects = rows(finished, "effects")
    ablations = [row for row in effects if row["intervention"] == "ablate"]
    assert ablations and all(row["kl"] >= -1e-5 for row in ablations)
    assert {row["chosen_by"] for row in ablations} == {"attribution", "efas", "random"}


def test_the_contest_ranks_the_features_that_were_ablated(finished):
    ablated = {
        (row["site"], row["feature"]): row
        for row in rows(finished, "effects") if row["intervention"] == "ablate"
    }  # fmt: skip
    saliency = rows(finished, "saliency")
    assert {(row["site"], row["feature"]) for row in saliency} == ablated.keys()
    for row in saliency:
        effect = ablated[row["site"], row["feature"]]
        assert effect["chosen_by"] == row["chosen_by"]
        if effect["n_contexts"] == row["n_contexts"]:
            assert_close(row["measured"], effect["measured"], rtol=1e-6)
            assert_close(row["attribution"], effect["predicted"], rtol=1e-3, atol=1e-5)


def test_the_contest_is_what_scipy_finds_in_the_table_of_features(finished):
    saliency, contest = rows(finished, "saliency"), rows(finished, "contest")
    figures = json.loads((finished / "summary.json").read_text())["figures"]
    every = [row for row in contest if row["chosen_by"] == "all"]
    assert len(every) == 10 * (len(SMALL["sites"]) + 1)
    by_score: dict[str, list[float]] = {}
    for row in (row for row in every if row["site"] != "all"):
        here = [r for r in saliency if r["site"] == row["site"]]
        sizes = [[abs(r[name]) for r in here] for name in (row["score"], "measured")]
        wanted = scipy.stats.spearmanr(*sizes).statistic
        assert_close(row["spearman"], wanted, rtol=1e-9)
        by_score.setdefault(row["score"], []).append(wanted)
    for row in (row for row in every if row["site"] == "all"):
        assert_close(row["spearman"], sum(by_score[row["score"]]) / 2, rtol=1e-9)
        assert_close(figures[f"contest_spearman.{row['score']}"]["value"], row["spearman"])


def test_the_completeness_of_integrated_gradients_is_on_record(finished):
    for row in rows(finished, "completeness"):
        assert 0 <= row["error"] < 2 and row["passes"] == 2
        assert 0 < row["ablations_used"] <= row["ablations"]


def test_contexts_show_the_feature_where_it_peaks(finished):
    for row in rows(finished, "contexts"):
        assert len(row["tokens"]) == len(row["activation"]) == len(row["force"])
        if row["group"] == "top":
            assert row["activation"][row["peak"]] == max(row["activation"])


def test_dictionaries_are_left_in_the_format_of_saelens(finished):
    for site in SMALL["sites"]:
        dictionary = saelens.load(finished / "dictionaries" / site)
        assert (dictionary.width, dictionary.k) == (96, 6)
        assert dictionary.metadata == {"hook_name": site, "model_name": "tiny"}
    assert {path.name for path in (finished / "dictionaries").iterdir()} == set(SMALL["sites"])


def test_behaviour_is_measured_where_the_model_can_and_refused_in_words_elsewhere(finished):
    tasks = {row["task"]: row for row in rows(finished, "behaviour_tasks")}
    assert len(tasks) >= 5 and tasks["verb_form"]["can"]
    assert "several tokens in this vocabulary" in tasks["indirect_object"]["why"]
    for row in tasks.values():
        assert row["can"] == (row["why"] == "") == (row["units"] > 0 and row["low"] > row["chance"])
    effects = rows(finished, "behaviour")
    assert {row["task"] for row in effects} == {n for n, row in tasks.items() if row["can"]}
    for row in effects:
        if row["active_items"] == 0 and row["intervention"] != "clamp":
            assert row["effect"] == row["accuracy_change"] == 0


def test_each_strongest_feature_stands_beside_two_of_its_site(finished):
    effects = [row for row in rows(finished, "behaviour") if row["intervention"] == "ablate"]
    first = [row for row in effects if row["task"] == effects[0]["task"]]
    assert [row["role"] for row in first] == ["top", "matched", "matched"] * (len(first) // 3)
    for top, *matches in (first[i : i + 3] for i in range(0, len(first), 3)):
        assert all((m["site"], m["set"]) == (top["site"], top["set"]) for m in matches)
        expected = top["effect"] - sum(m["effect"] for m in matches) / 2
        assert_close(top["difference"], expected, rtol=1e-9, atol=1e-12)


def test_loss_by_class_adds_up_to_the_tokens_of_half_b(finished):
    classes = rows(finished, "behaviour_classes")
    assert sum(row["n_tokens"] for row in classes) == 30 * 31  # windows of 32 predict 31 tokens
    assert {row["class"] for row in classes} >= {"word", "punctuation"}
    assert all(row["can"] == (row["high"] < row["chance"]) for row in classes)


def test_behaviour_is_in_the_summary_beside_its_nulls(finished):
    figures = json.loads((finished / "summary.json").read_text())["figures"]
    accuracy = figures["behaviour_accuracy.verb_form"]
    assert accuracy["low"] > accuracy["null_mean"]
    assert "behaviour_accuracy.capitals" not in figures
    contrast = {row["intervention"]: row for row in rows(finished, "behaviour_contrast")
                if row["task"] == "all tasks"}  # fmt: skip
    for kind, row in contrast.items():
        assert figures[f"behaviour_contrast.{kind}"]["p"] == row["p"]
    assert figures["behaviour_beyond_matched"]["null_mean"] is not None


@pytest.mark.gpu
def test_a_gpu_finds_what_the_cpu_finds(finished, tmp_path):
    out = tmp_path / "gpu"
    execute("energy-lens", EnergyLens(**{**SMALL, "device": "cuda"}), out)
    for here, there in zip(rows(out, "dictionaries"), rows(finished, "dictionaries"), strict=True):
        assert_close(here["fvu"], there["fvu"], rtol=0.1)
        assert_close(here["fvu_null"], there["fvu_null"], rtol=0.1)
    for here, there in zip(rows(out, "depth"), rows(finished, "depth"), strict=True):
        assert_close(here["mean"], there["mean"], rtol=1e-3)


def test_scratch_is_gone_and_nothing_is_pickled(finished):
    assert not (finished / "scratch").exists()
    assert not list(finished.rglob("*.pt")) and not list(finished.rglob("*.pkl"))


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"sites": ("blocks.1.resid_pots",)}, UnknownName, "resid_post"),
        ({"sites": ("blocks.9.resid_post",)}, BadInput, "layers 0 to 3"),
        ({"sites": ("blocks.1.mlp_out",)}, BadInput, "residual streams"),
        ({"context": 512}, BadInput, "reads at most"),
        ({"k": 200}, BadInput, "k must be less"),
        ({"device": "tpu"}, BadInput, "no device 'tpu'"),
        ({"context": 16, "train_tokens": 320}, InsufficientData, "raise --train-tokens"),
        ({"width": -1}, BadInput, "--width"),
        ({"text": ("missing.txt",)}, BadInput, "missing.txt"),
    ],
)
def test_bad_input_is_one_sentence(change, error, words, tmp_path):
    with pytest.raises(error, match=words) as caught:
        execute("energy-lens", EnergyLens(**{**SMALL, **change}), tmp_path / "bad")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "bad").exists()


def test_too_little_text_names_what_is_needed(tmp_path):
    for number in range(12):
        (tmp_path / f"{number}.txt").write_text("the cat sat on the mat and looked at alice " * 20)
    with pytest.raises(InsufficientData, match="documents"):
        execute("energy-lens", EnergyLens(**{**SMALL, "text": (str(tmp_path),)}), tmp_path / "out")


@pytest.mark.slow
def test_killed_at_five_moments_and_resumed_it_is_the_same(finished, tmp_path):
    out = tmp_path / "killed"
    options = [f"--{name.replace('_', '-')}={value}" for name, value in SMALL.items()
               if not isinstance(value, tuple)]  # fmt: skip
    command = [sys.executable, "-m", "energylens", "run", "energy-lens", *options,
               "--sites", *SMALL["sites"], "--variants", *SMALL["variants"],
               "--out", str(out)]  # fmt: skip
    for moment in (1, 3, 6, 9, 12):
        process = subprocess.Popen(
            command, env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        while process.poll() is None:
            if len(list(out.glob("parts/*.json")) + list(out.glob("scratch/parts/*"))) >= moment:
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.02)
        process.wait()
    subprocess.run(command, check=True, capture_output=True)
    assert (out / "summary.json").read_bytes() == (finished / "summary.json").read_bytes()
    for table in (finished / "tables").iterdir():
        again = out / "tables" / table.name
        if table.stem == "precision":  # tells how fast a product was, by the clock of either run
            assert pq.read_table(again)["name"] == pq.read_table(table)["name"]
        else:
            assert again.read_bytes() == table.read_bytes(), table.name
