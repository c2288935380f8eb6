"""Dictionaries of the tiny model, judged beside their baselines; and what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from energylens import cli
from energylens.activations.certify import wrap
from energylens.activations.stream import collect_rows
from energylens.core.errors import BadInput, Interrupted
from energylens.core.ports import silence
from energylens.features.dictionary import Dictionary
from energylens.features.formats import saelens
from energylens.features.ordinary import Ordinary
from energylens.features.seat import Seat
from energylens.features.train import train
from energylens.features.training import TrainOptions
from energylens.run.edges.store.folder import Folder
from energylens.run.execute import execute
from energylens.sources.model import load_model
from energylens.sources.text import load_text
from energylens.sources.windows import tokenise
from energylens.studies.evaluate_dictionary import EvaluateDictionary
from energylens.studies.evaluate_dictionary.entries import label_paths
from energylens.studies.evaluate_dictionary.measuring import (
    Rules,
    measure_rows,
    substitution_losses,
)
from energylens.studies.evaluate_dictionary.rivals import RIVALS
from tests.common.compare import assert_close
from tests.common.run_directory import columns_there, described_tables
from tests.oracles import dictionary_metrics as oracle

SITE = "blocks.1.resid_post"
SMALL = {"context": 32, "documents": 24, "loss_documents": 8, "train_tokens": 1_024,
         "match_draws": 20, "passages": 40, "passage": 256, "threads": 1,
         "label_tokens": 0, "groups": 0}  # fmt: skip


@pytest.fixture(scope="module")
def tiny():
    subject = wrap(load_model("tiny"))
    windows = tokenise(load_text("default"), subject.loaded.tokenizer, 32, documents=60,
                       generator=torch.Generator().manual_seed(9))  # fmt: skip
    return subject, windows


@pytest.fixture(scope="module")
def folders(tiny, tmp_path_factory):
    """Two seeds of one site, and a transcoder from there to the MLP's output above."""
    subject, windows = tiny
    place = tmp_path_factory.mktemp("dictionaries")
    sites = [SITE, "blocks.2.mlp_out"]
    rows = collect_rows(subject, windows.ids, windows.document, sites, budget_mb=300)
    small, made = TrainOptions(width=96, k=4, epochs=3, batch=256), {}
    for seed in (0, 1):
        made[f"seed {seed}"] = train(rows[SITE], small, torch.Generator().manual_seed(seed))[0]
    across = train(rows[SITE], small, torch.Generator().manual_seed(2), target=rows[sites[1]])[0]
    for name, dictionary in (*made.items(), ("across", across)):
        metadata = {"hook_name": SITE, "model_name": "tiny"}
        metadata |= {"hook_name_out": sites[1]} if name == "across" else {}
        saelens.save(replace(dictionary, metadata=metadata), place / name)
    return place


@pytest.fixture(scope="module")
def done(folders, tmp_path_factory):
    out = tmp_path_factory.mktemp("evaluation") / "run"
    named = tuple(str(folders / name) for name in ("seed 0", "seed 1", "across"))
    return execute("evaluate-dictionary", EvaluateDictionary(dictionary=named, **SMALL), out)


def rows_of(run: Path, name: str) -> list[dict]:
    return pq.read_table(run / f"tables/{name}.parquet").to_pylist()


def by_contender(run: Path, label: str) -> dict[str, dict]:
    return {r["contender"]: r for r in rows_of(run, "evaluation") if r["dictionary"] == label}


# ---- what comes out


def test_every_dictionary_stands_beside_every_baseline_with_its_l0(done):
    for label in ("seed_0", "seed_1", "across"):
        rows = by_contender(done.path, label)
        assert list(rows) == ["dictionary", *RIVALS]
        for name, row in rows.items():
            assert_close(row["l0"], 4.0, rtol=0.02)
            assert row["fvu_low"] <= row["fvu"] <= row["fvu_high"], name


def test_training_on_what_is_there_beats_shuffled_rows_and_chance(done):
    rows = by_contender(done.path, "seed_0")
    fvu = {name: row["fvu"] for name, row in rows.items()}
    assert fvu["dictionary"] < fvu["pca"] < fvu["random"]
    assert fvu["short"] < fvu["shuffled"]
    assert fvu["pca"] < fvu["pca_subspace"]
    assert rows["dictionary"]["loss_recovered_kl"] > rows["random"]["loss_recovered_kl"]
    assert all(control.passed for control in done.summary.controls.values())


def test_the_finding_says_what_the_table_says(done):
    best = min(("seed_0", "seed_1", "across"),
               key=lambda label: by_contender(done.path, label)["dictionary"]["fvu"])  # fmt: skip
    said, figures = done.summary.finding, done.summary.figures
    assert f"Of 3 dictionaries, {best} explains" in said
    for name in ("pca", "pca_subspace", "random", "random_weights"):
        assert f"{100 * (1 - figures[f'fvu.{best}.{name}'].value):.0f} %" in said
    assert figures["fvu.seed_0"].null_mean == figures["fvu.seed_0.random"].value
    assert figures["fvu_gained.seed_0.pca"].high < 0


def test_differences_are_those_of_the_table_and_intervals_hold_them(done):
    rows = by_contender(done.path, "across")
    for row in rows_of(done.path, "evaluation_differences"):
        if row["dictionary"] == "across" and row["difference"] is not None:
            one, other = (rows[name][row["measure"]] for name in ("dictionary", row["contender"]))
            assert_close(row["difference"], one - other, rtol=1e-6, atol=1e-9)
            # One document alone that differs leaves no spread to judge the others by.
            unknown = np.isnan(one - other) or np.isnan(row["low"])
            assert unknown or row["low"] <= row["difference"] <= row["high"]


def test_densities_count_every_feature_once(done):
    rows = [r for r in rows_of(done.path, "evaluation_densities")
            if (r["dictionary"], r["contender"]) == ("seed_0", "dictionary")]  # fmt: skip
    assert sum(r["features"] for r in rows) == 96
    dead = next(r["features"] for r in rows if r["log10_low"] == -np.inf)
    assert_close(dead / 96, by_contender(done.path, "seed_0")["dictionary"]["dead_share"])


def test_two_seeds_match_beyond_every_null_and_their_features_do_the_same(done):
    rows = rows_of(done.path, "evaluation_matches")
    assert {(r["dictionary"], r["other"]) for r in rows} == {("seed_0", "seed_1"),
                                                             ("seed_1", "seed_0")}  # fmt: skip
    for row in rows:
        for null in ("random", "permuted", "alike"):
            assert row["mean_max_cosine"] > row[f"{null}_mean"] + 4 * row[f"{null}_sd"], null
    seen = {(r["dictionary"], r["other"]): r for r in rows_of(done.path, "evaluation_universality")}
    assert len(seen) == 3
    row = seen["seed_0", "seed_1"]
    assert row["correlation"] > row["correlation_dealt_mean"] + 4 * row["correlation_dealt_sd"]


def test_a_transcoder_has_no_cosine_with_its_own_encoder(done):
    rows = {row["dictionary"]: row for row in rows_of(done.path, "evaluation_weights")}
    assert np.isnan(rows["across"]["encoder_decoder_50"])
    assert rows["seed_0"]["encoder_decoder_50"] > rows["seed_0"]["encoder_dealt_95"]


def test_every_column_is_described(done):
    described = described_tables()
    for table, there in columns_there(done.path).items():
        assert described[table] == there, table


# ---- measurement against slow ones


def test_streamed_measures_equal_the_oracles_on_all_rows_at_once(tiny, folders):
    subject, windows = tiny
    dictionary = saelens.load(folders / "seed 0")
    rows = collect_rows(subject, windows.ids, windows.document, [SITE], budget_mb=300)[SITE]
    nothing_massive = Rules(*[Ordinary(center=rows.mean(0), radius=1e9)] * 2)
    found = measure_rows(
        subject, windows, Seat.of_site(SITE, 128), {"it": dictionary}, nothing_massive,
        memory_mb=300, progress=silence, label="rows",
    )["it"]["ordinary"]  # fmt: skip
    there, made = rows.double().numpy(), dictionary.reconstruct(rows).double().numpy()
    assert_close(found.fvu, oracle.variance_unexplained(there, made), rtol=1e-5)
    cosine = found.cosine.sum() / found.directed.sum()
    assert_close(cosine, oracle.mean_cosine(there, made), rtol=1e-6)
    assert int(found.samples.sum()) == len(rows)


@pytest.mark.parametrize("site", [SITE, "blocks.1.mlp_out"])
def test_putting_in_what_was_there_costs_nothing_and_ablations_are_what_they_say(tiny, site):
    subject, windows = tiny
    some = windows.of_documents(range(6))
    eye = torch.eye(128)
    itself = Dictionary(
        architecture="standard", k=128, W_enc=torch.cat([eye, -eye]), W_dec=torch.cat([eye, -eye]),
        b_enc=torch.zeros(256), b_dec=torch.zeros(128),
    )  # fmt: skip
    nothing = replace(itself, W_enc=0 * itself.W_enc)
    mean = torch.linspace(-1, 1, 128)
    found = substitution_losses(
        subject, some, Seat.of_site(site, 128),
        {"itself": itself, "nothing": nothing, "middle": replace(nothing, b_dec=mean)},
        Rules(*[Ordinary(center=torch.zeros(128), radius=1e9)] * 2), mean, memory_mb=300,
        progress=silence, label="losses",
    )  # fmt: skip
    assert_close(found["itself"][0], found["clean"][0], rtol=1e-4)
    assert float(found["itself"][1].abs().max()) < 1e-3
    assert_close(found["nothing"], found["zero"], rtol=1e-5)
    assert_close(found["middle"], found["mean"], rtol=1e-5)
    assert bool((found["zero"][1] > 0.1).all())


# ---- from Python


def test_judging_from_python_shows_every_untrained_baseline(tiny, folders):
    import energylens as el

    subject, windows = tiny
    held_out, fit = windows.split(0.4, torch.Generator().manual_seed(0))
    dictionary = saelens.load(folders / "seed 0")
    found = el.judge(subject, dictionary, fit, held_out)
    rows = {row["contender"]: row for row in found.table().to_pylist()}
    assert list(rows) == ["dictionary", *RIVALS[:-1]]
    assert rows["dictionary"]["fvu"] < rows["random"]["fvu"]
    first = repr(found).splitlines()[1]
    assert first.strip().startswith("dictionary") and "loss recovered" in first
    with pytest.raises(BadInput, match="reads rows of 128 values and blocks.1.mlp.post"):
        el.judge(subject, dictionary, fit, held_out, "blocks.1.mlp.post")


# ---- resume


def test_a_run_that_is_killed_goes_on_and_ends_the_same(folders, tmp_path, monkeypatch):
    options = EvaluateDictionary(dictionary=(str(folders / "seed 0"),), **{**SMALL, "passages": 0})
    whole = execute("evaluate-dictionary", options, tmp_path / "whole")
    done, saved = Folder.save, []

    def killed(self, part, **kept):
        done(self, part, **kept)
        saved.append(part)
        if part.startswith("rows.own"):
            raise Interrupted("stopped")

    monkeypatch.setattr(Folder, "save", killed)
    with pytest.raises(Interrupted):
        execute("evaluate-dictionary", options, tmp_path / "again")
    before = list(saved)

    def watched(self, part, **kept):
        done(self, part, **kept)
        saved.append(part)

    monkeypatch.setattr(Folder, "save", watched)
    again = execute("evaluate-dictionary", options, tmp_path / "again")
    assert not set(saved[len(before) :]) & set(before)
    assert again.summary.to_json() == whole.summary.to_json()
    for path in sorted((tmp_path / "whole/tables").glob("*.parquet")):
        assert path.read_bytes() == (tmp_path / "again/tables" / path.name).read_bytes()


# ---- what is refused


def ask(capsys, *words: str) -> tuple[int, str]:
    small = [
        w for name, value in SMALL.items() for w in (f"--{name.replace('_', '-')}", str(value))
    ]
    code = cli.main(["run", "evaluate-dictionary", *words, *small])
    return code, capsys.readouterr().err


@pytest.fixture
def changed(folders, tmp_path):
    """A dictionary with other metadata."""

    def save(**metadata) -> str:
        dictionary = saelens.load(folders / "seed 0")
        there = {k: v for k, v in {**dictionary.metadata, **metadata}.items() if v is not None}
        return str(saelens.save(replace(dictionary, metadata=there), tmp_path / "changed"))

    return save


@pytest.mark.parametrize(
    ("metadata", "words", "said"),
    [
        ({}, ["--site", "blocks.1.mlp.post"], "reads rows of 128 values and blocks.1.mlp.post of"),
        ({}, ["--site", "blocks.9.resid_post"], "layer 9 was asked for"),
        ({}, ["--site", "blocks.1.resid_pots"], "no site named"),
        ({}, ["--site", "blocks.*.resid_post"], "has a wildcard: name one site"),
        ({}, ["--site", "a", "b"], "--site has 2 values and there are 1 dictionaries"),
        ({"hook_name": None}, [], "does not say which site it reads: name it with --site"),
        ({"model_name": "gpt2"}, ["--model", "tiny"], "says it is of 'gpt2' and was to be judged"),
        ({"model_name": "tniy"}, [], "no model named 'tniy': did you mean 'tiny'?"),
        ({}, ["--device", "mps"], "no device 'mps'"),
        ({}, ["--model", "bert-nowhere/at-all"], "is not on this machine"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_in_one_sentence(
    metadata, words, said, changed, capsys, tmp_path
):
    code, err = ask(
        capsys, "--dictionary", changed(**metadata), "--out", str(tmp_path / "r"), *words
    )
    assert code == 2 and said in err and "Traceback" not in err
    assert not (tmp_path / "r").exists()


def test_what_is_no_dictionary_is_refused(capsys, folders, tmp_path):
    assert "no dictionary was given" in ask(capsys, "--out", str(tmp_path / "r"))[1]
    assert "neither a path that exists" in ask(capsys, "--dictionary", str(tmp_path / "nowhere"))[1]
    twice = [str(folders / "seed 0")] * 2
    assert "are the same dictionary" in ask(capsys, "--dictionary", *twice)[1]


def test_a_transcoder_must_say_what_it_writes(capsys, folders, tmp_path):
    across = saelens.load(folders / "across")
    narrow = replace(across, W_dec=across.W_dec[:, :64].contiguous(), b_dec=across.b_dec[:64],
                     metadata={"hook_name": SITE, "model_name": "tiny"})  # fmt: skip
    path = str(saelens.save(narrow, tmp_path / "narrow"))
    assert "name it with --target-site" in ask(capsys, "--dictionary", path)[1]
    words = ("--dictionary", path, "--target-site")
    assert (
        "and was given 'blocks.1.resid_post' to read and to write" in ask(capsys, *words, SITE)[1]
    )
    code, err = ask(capsys, *words, "blocks.2.mlp_out")
    assert code == 2 and "writes rows of 64 values and blocks.2.mlp_out of tiny has 128" in err


def test_labels_tell_paths_apart():
    assert label_paths([Path("x/a"), Path("y/a"), Path("y/b")]) == ["x_a", "y_a", "y_b"]
    assert label_paths([Path("d/a b"), Path("d/a-b")]) == ["a_b", "a_b_2"]


def test_the_page_has_its_sections(done):
    from energylens.report.figures import figures
    from energylens.report.records import read

    named = [figure.name for figure in figures(read(done.path))]
    sections = ("frontier", "losses", "densities", "weights", "matches")
    assert named == ["evaluation", *(f"evaluation_{name}" for name in sections)]
    assert json.loads((done.path / "summary.json").read_text())["figures"]["fvu.across.ica"]["n"]
