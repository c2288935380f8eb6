"""A conversion is proven by reading back, and says in words what did not fit."""

import json
import re
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file

from energylens.cli import main
from energylens.core.errors import ArtifactRefused, BadInput
from energylens.core.files import sha256
from energylens.features.agreement import agreement, agreement_across_layers, telling_rows
from energylens.features.crosscoder import SITES
from energylens.features.dictionary import Dictionary
from energylens.features.formats import own_layers, saelens
from energylens.features.formats.convert import PICKLES, WRITTEN
from energylens.features.formats.recognise import FORMATS, load_dictionary
from energylens.report.page import build
from energylens.run.execute import execute
from energylens.studies.convert import Convert
from tests.common.run_directory import columns_there, described_tables
from tests.features.formats.made import INFERENCE, D, dictionary, draw
from tests.features.formats.test_cross_layer import transcoder
from tests.features.formats.test_recognise import WRITERS

# What each program holds, besides what SAELens does.
HELD = {
    "saelens": set(INFERENCE), "sparsify": {"topk", "groupmax"},
    "gemma_scope": {"standard", "jumprelu"}, "circuit_tracer": {"standard", "jumprelu"},
    "dictionary_learning": {"standard", "gated", "jumprelu", "topk"}, "openai": {"standard"},
}  # fmt: skip


ACROSS = {name for name in FORMATS if name.endswith("across layers")}


def test_all_layers_become_circuit_tracers_or_are_refused(generator, tmp_path):
    path, _ = WRITERS["circuit-tracer across layers"](tmp_path / "d", generator)
    with pytest.raises(BadInput, match="saelens has no CrossLayerTranscoder: convert it to circ"):
        converted(path, "saelens", tmp_path / "run")
    assert not (tmp_path / "run").exists()
    jump = own_layers.save(load_dictionary(path), tmp_path / "own")
    summary = converted(jump, "circuit_tracer", tmp_path / "run")
    assert all(control.passed for control in summary.controls.values())
    assert (
        "to the bit" in summary.finding and settings(tmp_path / "run")["layers"]["state"] == "same"
    )
    kept = json.loads((tmp_path / "run/records/conversion.json").read_bytes())
    assert {"W_dec_2.safetensors", "config.yaml"} <= set(kept["written"]["files"])
    topk, _ = WRITERS["Energylens across layers"](tmp_path / "topk", generator)
    with pytest.raises(BadInput, match="a topk of layers 0, 1, 2"):
        converted(topk, "circuit_tracer", tmp_path / "no")


def test_a_changed_layer_is_no_agreement(generator):
    made = transcoder("jumprelu", generator)
    assert agreement_across_layers(made, made, 64, generator).identical
    other = replace(made, W_dec=(made.W_dec[0], 1.5 * made.W_dec[1], made.W_dec[2]))
    found = agreement_across_layers(made, other, 64, generator)
    assert not found.identical and abs(found.difference - 0.5) < 1e-3
    assert found.rows == 3 * 64 and found.dealt_out > 0.5


def test_a_crosscoder_stays_one_or_is_refused(generator, tmp_path):
    wide = dictionary("topk", generator, subtracts_b_dec=False)
    sites = [{"name": "a", "width": 2, "spread": 1.0},
             {"name": "b", "width": wide.d_in - 2, "spread": 2.0}]  # fmt: skip
    saelens.save(replace(wide, metadata={SITES: sites}), tmp_path / "d")
    assert converted(tmp_path / "d", "saelens", tmp_path / "run").limits == ()
    assert load_dictionary(tmp_path / "run/dictionary").names == ("a", "b")
    with pytest.raises(BadInput, match="sparsify has no Crosscoder: convert it to saelens"):
        converted(tmp_path / "d", "sparsify", tmp_path / "no")


def converted(path, to, out, **options):
    options = Convert(dictionary=str(path), to=to, rows=64, **options)
    return execute("convert", options, out).summary


def settings(out):
    return {row["setting"]: row for row in
            pq.read_table(out / "tables/conversion_settings.parquet").to_pylist()}  # fmt: skip


@pytest.mark.parametrize("to", sorted(WRITTEN))
@pytest.mark.parametrize("name", sorted(set(FORMATS) - ACROSS))
def test_every_format_becomes_every_other_or_is_refused(name, to, generator, tmp_path):
    path, architecture = WRITERS[name](tmp_path / "d", generator)
    if architecture not in HELD[to]:
        with pytest.raises(BadInput, match="cannot be written"):
            converted(path, to, tmp_path / "run", allow_pickle=True)
        assert not (tmp_path / "run").exists()
        return
    summary = converted(path, to, tmp_path / "run", allow_pickle=True)
    assert all(control.passed for control in summary.controls.values())
    kept = json.loads((tmp_path / "run/records/conversion.json").read_bytes())
    found = load_dictionary(tmp_path / "run" / kept["written"]["name"], allow_pickle=True)
    source = load_dictionary(path, allow_pickle=True)
    x = draw(generator, 20, D)
    torch.testing.assert_close(found.reconstruct(x), source.reconstruct(x), rtol=1e-4, atol=1e-4)
    assert kept["source"]["format"] == name
    for file, digest in kept["written"]["files"].items():
        assert sha256(tmp_path / "run/dictionary" / file) == digest
    place = path if path.is_dir() else path.parent
    for file, digest in kept["source"]["files"].items():
        assert sha256(place / file) == digest


def test_what_does_not_fit_is_said_and_nothing_else(generator, tmp_path):
    about = {"hook_name": "blocks.5.resid_post", "model_name": "tiny"}
    saelens.save(dictionary("standard", generator, **about), tmp_path / "d")
    assert converted(tmp_path / "d", "saelens", tmp_path / "same").limits == ()
    told = " ".join(converted(tmp_path / "d", "gemma_scope", tmp_path / "run").limits)
    for words in (
        r"no place for some metadata.*: hook_name \(blocks.5.resid_post\), model_name \(tiny\)",
        "no standard, which is written as a jumprelu", "no place for k = 5: read back it is 40",
        "folded into b_enc",
    ):  # fmt: skip
        assert re.search(words, told)
    states = {name: row["state"] for name, row in settings(tmp_path / "run").items()}
    assert states == {
        "architecture": "changed", "k": "changed", "subtracts_b_dec": "changed", "dtype": "same",
        "metadata.hook_name": "not held", "metadata.model_name": "not held",
    }  # fmt: skip


def test_a_place_that_a_program_names_by_folder_or_file_is_kept(generator, tmp_path):
    saelens.save(dictionary("topk", generator, hook_name="blocks.5.resid_post"), tmp_path / "d")
    converted(tmp_path / "d", "sparsify", tmp_path / "run")
    assert (tmp_path / "run/dictionary/layers.5/sae.safetensors").is_file()
    assert settings(tmp_path / "run")["metadata.hook_name"]["state"] == "same"


def test_files_beside_a_dictionary_that_were_not_read_are_named(generator, tmp_path):
    saelens.save(dictionary("topk", generator), tmp_path / "d")
    save_file({"sparsity": draw(generator, 4)}, tmp_path / "d" / saelens.SPARSITY)
    summary = converted(tmp_path / "d", "sparsify", tmp_path / "run")
    assert "lay sparsity.safetensors, which was not read" in " ".join(summary.limits)


@pytest.mark.parametrize("tensor", ["W_dec", "W_enc", "b_enc", "b_dec", "threshold"])
def test_a_wrong_file_is_not_called_the_same(tensor, generator, tmp_path, monkeypatch):
    def wrong(made: Dictionary):
        right = write(made)

        def spoil(path):
            right[saelens.WEIGHTS](path)
            kept = load_file(path)
            kept[tensor][..., 0] += 0.5
            save_file(kept, path)

        return {**right, saelens.WEIGHTS: spoil}

    write = WRITTEN["saelens"]
    monkeypatch.setitem(WRITTEN, "saelens", wrong)
    made = dictionary("jumprelu", generator)
    saelens.save(made, tmp_path / "d")
    summary = converted(tmp_path / "d", "saelens", tmp_path / "run")
    assert not summary.controls["round_trip"].passed and "is not the same" in summary.finding
    table = pq.read_table(tmp_path / "run/tables/conversion_tensors.parquet")
    states = {row["tensor"]: row["state"] for row in table.to_pylist()}
    assert states.pop(tensor) == "changed" and set(states.values()) == {"same bits"}


@pytest.mark.parametrize("architecture", INFERENCE)
def test_rows_wake_features_and_agreement_is_of_the_whole(architecture, generator):
    made = dictionary(architecture, generator)
    rows = telling_rows(made, 200, generator)
    found = agreement(made, made, rows, generator)
    assert found.identical and found.difference == 0 and found.fired >= 0.9 * made.width
    assert 0 < found.rounding < 1e-5 and found.dealt_out > 0.1


def test_silent_dictionaries_have_no_difference(generator):
    made = dictionary("standard", generator)
    made.b_enc.fill_(-1e9)
    found = agreement(made, made, draw(generator, 5, D), generator)
    assert found.silent == 5 and found.fired == 0 and found.difference != found.difference


@pytest.mark.parametrize("to", PICKLES)
def test_pickles_are_written_on_request_alone(to, generator, tmp_path):
    saelens.save(dictionary("standard", generator), tmp_path / "d")
    with pytest.raises(BadInput, match=f"{to} keeps pickles.*--allow-pickle.*convert to saelens"):
        converted(tmp_path / "d", to, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    summary = converted(tmp_path / "d", to, tmp_path / "run", allow_pickle=True)
    assert summary.controls["round_trip"].passed


def test_pickles_are_read_on_request_alone(generator, tmp_path):
    path, _ = WRITERS["dictionary_learning"](tmp_path / "d", generator)
    with pytest.raises(ArtifactRefused, match="allow_pickle=True"):
        converted(path, "saelens", tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"b_enc": None}, "should hold W_enc, b_enc, W_dec, b_dec: b_enc not found"),
        ({"extra": torch.zeros(2)}, "found extra as well"),
        ({"W_dec": torch.zeros(8, 40)}, r"W_dec should have shape \(40, 8\).*found \(8, 40\)"),
        ({"b_dec": torch.full((8,), float("nan"))}, "b_dec holds 8 values that are nan"),
    ],
)
def test_a_foreign_file_that_does_not_fit_is_one_sentence(
    changes, message, generator, tmp_path, capsys
):
    saelens.save(dictionary("topk", generator), tmp_path / "d")
    path = tmp_path / "d" / saelens.WEIGHTS
    kept = {n: w for n, w in (load_file(path) | changes).items() if w is not None}
    save_file(kept, path)
    words = ["--dictionary", str(tmp_path / "d"), "--to", "sparsify", "--out", str(tmp_path / "r")]
    assert main(["run", "convert", *words]) == 2
    said = capsys.readouterr().err
    assert re.search(message, said) and said.count("\n") == 1
    assert not (tmp_path / "r").exists()


def test_the_page_and_the_tables_are_described(generator, tmp_path):
    saelens.save(dictionary("jumprelu", generator), tmp_path / "d")
    converted(tmp_path / "d", "circuit_tracer", tmp_path / "run")
    page = build(tmp_path / "run").read_text(encoding="utf-8")
    for words in ("Is what was written the dictionary that was read?", "b_enc changed",
                  "Round trip of files", "A wrong file would be seen"):  # fmt: skip
        assert words in page
    own = {n: c for n, c in described_tables().items() if n.startswith("conversion")}
    assert own == columns_there(tmp_path / "run")
