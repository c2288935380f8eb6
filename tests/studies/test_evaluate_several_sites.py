"""Crosscoders and cross-layer transcoders, judged beside baselines that see as much."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from energylens.activations.certify import wrap
from energylens.activations.stream import collect_rows
from energylens.core.errors import BadInput, Interrupted
from energylens.core.ports import silence
from energylens.features.cross_layer_training import train_cross_layer
from energylens.features.crosscoder_training import train_crosscoder
from energylens.features.dictionary import Dictionary
from energylens.features.evaluate import fvu
from energylens.features.formats import saelens
from energylens.features.formats.recognise import load_dictionary
from energylens.features.ordinary import Ordinary
from energylens.features.seat import Seat
from energylens.features.training import TrainOptions
from energylens.run.edges.store.folder import Folder
from energylens.run.execute import execute
from energylens.sources.model import load_model
from energylens.sources.text import load_text
from energylens.sources.windows import tokenise
from energylens.studies.evaluate_dictionary import EvaluateDictionary
from energylens.studies.evaluate_dictionary.entries import seated
from energylens.studies.evaluate_dictionary.material import Read
from energylens.studies.evaluate_dictionary.measuring import (
    Rules,
    measure_rows,
    substitution_losses,
)
from energylens.studies.evaluate_dictionary.rivals import RIVALS
from energylens.studies.evaluate_dictionary.rivals import rows_of as spread_rows
from tests.common.compare import assert_close
from tests.common.run_directory import columns_there, described_tables
from tests.studies.test_browse_placed import POST, cross_layer, crosscoder
from tests.studies.test_evaluate_dictionary import SMALL, ask, by_contender, rows_of

BOTH = ("blocks.0.resid_post", "blocks.2.resid_post")
LAYERS = range(4)


@pytest.fixture(scope="module")
def tiny():
    subject = wrap(load_model("tiny"))
    windows = tokenise(load_text("default"), subject.loaded.tokenizer, 32, documents=60,
                       generator=torch.Generator().manual_seed(9))  # fmt: skip
    return subject, windows


@pytest.fixture(scope="module")
def folders(tiny, tmp_path_factory):
    import energylens as el

    subject, windows = tiny
    place = tmp_path_factory.mktemp("several")
    small = TrainOptions(width=96, k=4, epochs=3, batch=256)
    ways = {way: [f"blocks.{n}.{way}" for n in LAYERS] for way in ("resid_mid", "mlp_out")}
    sites = [*BOTH, *ways["resid_mid"], *ways["mlp_out"]]
    rows = collect_rows(subject, windows.ids, windows.document, sites, budget_mb=300)
    own = {site: rows[site] for site in BOTH}
    across, _ = train_crosscoder(own, small, torch.Generator().manual_seed(0))
    said = {**across.dictionary.metadata, "model_name": "tiny"}
    saelens.save(replace(across.dictionary, metadata=said), place / "both")
    inputs, outputs = ({n: rows[ways[way][n]] for n in LAYERS} for way in ways)
    layers, _ = train_cross_layer(inputs, outputs, replace(small, k=2),
                                  torch.Generator().manual_seed(0))  # fmt: skip
    said = {"feature_input_hook": "hook_resid_mid", "feature_output_hook": "hook_mlp_out",
            "model_name": "tiny"}  # fmt: skip
    el.save_dictionary(replace(layers, metadata=said), place / "layers")
    return place


@pytest.fixture(scope="module")
def done(folders, tmp_path_factory):
    out = tmp_path_factory.mktemp("evaluation") / "run"
    named = tuple(str(folders / name) for name in ("both", "layers"))
    return execute("evaluate-dictionary", EvaluateDictionary(dictionary=named, **SMALL), out)


def test_both_stand_beside_every_baseline_with_their_l0(done):
    for label, l0, wide in (("both", 4, 256), ("layers", 8, 512)):
        rows = by_contender(done.path, label)
        assert list(rows) == ["dictionary", *RIVALS]
        for name, row in rows.items():
            assert_close(row["l0"], float(l0), rtol=0.05)
            assert (row["d_in"], row["d_out"]) == (wide, wide)
            assert row["fvu_low"] <= row["fvu"] <= row["fvu_high"], name
        fvu_of = {name: row["fvu"] for name, row in rows.items()}
        assert fvu_of["dictionary"] < fvu_of["pca"] < fvu_of["random"]
        assert rows["dictionary"]["loss_recovered_kl"] > rows["random"]["loss_recovered_kl"]
    assert all(control.passed for control in done.summary.controls.values())
    assert "crosscoder" not in done.summary.finding  # told by their labels
    described = described_tables()
    for table, there in columns_there(done.path).items():
        assert described[table] == there, table


def test_each_site_has_the_variance_that_its_rows_say(done, folders, tiny):
    """Beside a pass of our own over the same held-out documents."""
    rows = [r for r in rows_of(done.path, "evaluation_sites") if r["contender"] == "dictionary"]
    assert [r["site"] for r in rows if r["dictionary"] == "both"] == list(BOTH)
    assert [r["site"] for r in rows if r["dictionary"] == "layers"] == [
        f"blocks.{n}.mlp_out" for n in LAYERS
    ]
    subject, windows = tiny
    seen = collect_rows(subject, windows.ids, windows.document, list(BOTH), budget_mb=300)
    made = load_dictionary(folders / "both").reconstruct(seen)
    for row in rows[:2]:
        near = float(fvu(seen[row["site"]], made[row["site"]]))  # other documents of that text
        assert_close(row["fvu"], near, rtol=0.35)
        assert row["fvu_low"] <= row["fvu"] <= row["fvu_high"]


def test_random_rows_of_layers_lie_where_the_layers_write(done):
    """A row that writes to the last layer alone is not held against rows that write everywhere."""
    weights = {row["dictionary"]: row for row in rows_of(done.path, "evaluation_weights")}
    assert weights["layers"]["nearest_random_50"] > 1.2 * weights["both"]["nearest_random_50"]
    assert np.isnan(weights["layers"]["encoder_decoder_50"])
    assert weights["both"]["encoder_decoder_50"] > weights["both"]["encoder_dealt_95"]


@pytest.mark.parametrize("sites", [BOTH, ("blocks.1.mlp_out", "blocks.2.mlp_out")])
def test_what_blocks_add_is_changed_at_once_and_what_streams_carry_by_turns(tiny, sites):
    subject, windows = tiny
    some = windows.of_documents(range(4))
    eye = torch.eye(256)
    itself = Dictionary(
        architecture="standard", k=256, W_enc=torch.cat([eye, -eye]), W_dec=torch.cat([eye, -eye]),
        b_enc=torch.zeros(512), b_dec=torch.zeros(256),
    )  # fmt: skip
    nothing = replace(itself, W_enc=0 * itself.W_enc)
    seat = Seat(reads=sites, writes=sites, read_widths=(128, 128), write_widths=(128, 128),
                units=(2.0, 0.5))  # fmt: skip
    everything = Ordinary(center=torch.zeros(256), radius=1e9)
    one = Ordinary(center=torch.zeros(128), radius=1e9)

    def losses(seat, dictionaries, rule):
        return substitution_losses(
            subject, some, seat, dictionaries, Rules(rule, rule), torch.zeros(len(rule.center)),
            memory_mb=300, progress=silence, label="losses",
        )  # fmt: skip

    found = losses(seat, {"itself": itself, "nothing": nothing}, everything)
    alone = [losses(Seat.of_site(site, 128), {}, one)["zero"] for site in sites]
    assert_close(found["itself"][0], found["clean"][0], rtol=1e-4)
    assert_close(found["nothing"], found["zero"], rtol=1e-5)
    if sites == BOTH:
        assert_close(found["zero"], torch.stack(alone).mean(0), rtol=1e-6)
    else:
        assert bool((found["zero"][1] > 1.2 * torch.stack(alone).mean(0)[1]).all())


def test_rows_that_are_massive_where_they_are_read_are_left_out_too(tiny):
    """A transcoder makes anything of them, though what it should make is ordinary."""
    subject, windows = tiny
    sites = ["blocks.1.resid_mid", "blocks.1.mlp_out"]
    rows = collect_rows(subject, windows.ids, windows.document, sites, budget_mb=300)
    size = torch.linalg.vector_norm(rows[sites[0]], dim=1)
    reads = Ordinary(center=torch.zeros(128), radius=float(size.quantile(0.9)))
    everything = Ordinary(center=torch.zeros(128), radius=1e9)
    zero = torch.zeros(4, 128)
    nothing = Dictionary(architecture="topk", k=1, W_enc=zero, W_dec=zero, b_enc=torch.zeros(4),
                         b_dec=torch.zeros(128), subtracts_b_dec=False)  # fmt: skip
    found = measure_rows(
        subject, windows, Seat.of_site(sites[0], 128, sites[1], 128), {"it": nothing},
        Rules(reads, everything), memory_mb=300, progress=silence, label="rows",
    )["it"]  # fmt: skip
    assert int(found["all"].samples.sum()) == len(size)
    assert int(found["ordinary"].samples.sum()) == int((size <= reads.radius).sum()) < len(size)


def test_judging_from_python_takes_layers_too(tiny, folders):
    import energylens as el

    subject, windows = tiny
    held_out, fit = windows.split(0.4, torch.Generator().manual_seed(0))
    found = el.judge(subject, el.load_dictionary(folders / "layers"), fit, held_out)
    rows = {row["contender"]: row for row in found.table().to_pylist()}
    assert list(rows) == ["dictionary", *RIVALS[:-1]]
    assert rows["dictionary"]["fvu"] < rows["random"]["fvu"]
    assert len(found.sites()) == len(LAYERS) * len(rows)


def test_baselines_of_layers_are_kept_one_by_one(folders, tmp_path, monkeypatch):
    """What was fitted before a run was killed is not fitted again, and the end is the same."""
    options = EvaluateDictionary(dictionary=(str(folders / "layers"),), **SMALL)
    done, fitted = Folder.save, []

    def killed(self, part, **kept):
        done(self, part, **kept)
        fitted.append(part)
        if part == "rivals.layers.1":
            raise Interrupted("stopped")

    monkeypatch.setattr(Folder, "save", killed)
    with pytest.raises(Interrupted):
        execute("evaluate-dictionary", options, tmp_path / "run")
    monkeypatch.setattr(Folder, "save", lambda self, part, **kept: (
        fitted.append(part), done(self, part, **kept)))  # fmt: skip
    execute("evaluate-dictionary", options, tmp_path / "run")
    assert [part for part in fitted if part.startswith("rivals")] == [
        f"rivals.layers.{n}" for n in LAYERS
    ]


def test_rows_to_fit_on_must_fit_into_memory(tiny, folders):
    subject, windows = tiny
    made = seated(load_dictionary(folders / "layers"), folders, "it")
    read = Read(subject=subject, fit=windows, held_out=windows)
    with pytest.raises(BadInput, match=r"tokens of 8 sites are \d+ MB and 1 MB may be used"):
        spread_rows(read, made, memory_mb=1, progress=silence, label="rows")


def test_sites_are_refused_of_what_names_its_own(generator, tmp_path):
    for made in (crosscoder(generator), cross_layer(generator)):
        with pytest.raises(BadInput, match="says itself which: leave the site out"):
            seated(made, tmp_path, "it", POST[0])
    with pytest.raises(BadInput, match="feature_output_hook"):
        seated(cross_layer(generator, feature_output_hook=None), tmp_path, "it")


def test_what_does_not_fit_is_refused_in_one_sentence(folders, generator, tmp_path, capsys):
    narrow = crosscoder(generator)
    said = {
        "crosscoder_sites": [vars(site) for site in narrow.sites], "model_name": "tiny",
    }  # fmt: skip
    path = saelens.save(replace(narrow.dictionary, metadata=said), tmp_path / "narrow")
    code, err = ask(capsys, "--dictionary", str(path))
    assert code == 2 and "reads rows of 12 values and blocks.0.resid_post of tiny has 128" in err
    two = [vars(replace(site, name=f"base:{site.name}")) for site in narrow.sites]
    path = saelens.save(
        replace(narrow.dictionary, metadata=said | {"crosscoder_sites": two}), tmp_path / "two"
    )
    code, err = ask(capsys, "--dictionary", str(path))
    assert code == 2 and "is a crosscoder of several models (base)" in err
