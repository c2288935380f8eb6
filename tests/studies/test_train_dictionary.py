"""Dictionaries trained by the study: whole, killed, refused, and as others read them."""

import json
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

import energylens as el
from energylens.core.errors import ArtifactRefused, BadInput, UnknownName
from energylens.report.page import build
from energylens.results.record import Summary
from energylens.run.execute import execute
from energylens.sources.default_text import presidential_messages
from energylens.studies.train_dictionary import TrainDictionary, work
from tests.common.run_directory import columns_there, described_tables

TEXT = Path(tempfile.mkdtemp()) / "speeches.jsonl"
SMALL = TrainDictionary(
    model="tiny", text=(str(TEXT),), sites=("blocks.1.resid_post",), widths=(48,), ks=(8,),
    architectures=("topk", "batchtopk"), tokens=2_000, epochs=4, batch=128, context=32, aux_k=16,
    dead_after=1_000, held_out=20, memory_mb=120, threads=1,
    checkpoint_seconds=0.0,
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def text():
    """A hundred beginnings of speeches: reading the default text takes longer than learning."""
    with TEXT.open("w") as file:
        file.writelines(
            json.dumps({"text": document.text[:2_000]}) + "\n"
            for document in presidential_messages()[:100]
        )
    yield
    shutil.rmtree(TEXT.parent)


class Killed(BaseException):
    """As a kill: no handler may tidy up after it."""


class Deadly:
    """Progress of a run that dies when a stage has advanced so often."""

    def __init__(self, stage, count):
        self.stage, self.left = stage, count

    @contextmanager
    def task(self, label, total, unit=""):
        def advance(amount, note=""):
            if label == self.stage and amount:
                self.left -= 1
                if not self.left:
                    raise Killed

        yield advance


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("trained") / "run"
    said = []
    execute("train-dictionary", SMALL, out, say=said.append)
    return out, said


def read(out, name):
    return pq.read_table(out / f"tables/{name}.parquet").to_pylist()


def test_every_combination_is_trained_judged_and_beyond_chance(finished):
    out, said = finished
    rows = read(out, "trained_dictionaries")
    assert [(row["architecture"], row["width"]) for row in rows] == [
        ("topk", 48), ("batchtopk", 48),
    ]  # fmt: skip
    for row in rows:
        assert row["fvu_low"] < row["fvu"] < row["fvu_high"] < row["fvu_null"], row["label"]
        assert 0 < row["loss_recovered"] < 1 and row["loss_ablated"] > row["loss_reconstructed"]
        assert 4 < row["l0"] < 12 and row["documents"] == 20
        assert row["architecture"] == "batchtopk" or row["l0"] <= 8
    summary = Summary.from_json((out / "summary.json").read_bytes())
    assert summary.controls["beyond_chance"].passed
    assert "training 2 dictionaries on" in said[-1]
    there = columns_there(out)
    assert there == {name: described_tables()[name] for name in there}
    assert not (out / "work").exists() and not (out / "scratch").exists()


def test_the_steps_are_in_the_table_and_live_in_lines(finished):
    out, _ = finished
    steps = read(out, "training_steps")
    for row in read(out, "trained_dictionaries"):
        mine = [step for step in steps if step["label"] == row["label"]]
        assert [step["step"] for step in mine] == list(range(1, row["steps"] + 1))
        assert mine[-1]["fvu"] < mine[0]["fvu"]
        lines = (out / "live" / f"{row['label']}.jsonl").read_text().splitlines()
        assert [json.loads(line)["fvu"] for line in lines] == [step["fvu"] for step in mine]


def test_the_folders_are_dictionaries_that_are_loaded_and_measure_the_same(finished):
    out, _ = finished
    row = read(out, "trained_dictionaries")[0]
    dictionary = el.load_dictionary(out / "dictionaries" / row["label"])
    assert (dictionary.width, dictionary.k) == (48, 8)
    assert dictionary.metadata["hook_name"] == "blocks.1.resid_post"
    page = build(out).read_text()
    assert "How did training go?" in page and "How much of the states" in page


@pytest.mark.parametrize(("stage", "count"), [
    ("states of the model", 1), ("training", 30), ("held-out documents", 2),
])  # fmt: skip
def test_killed_and_resumed_is_uninterrupted(finished, tmp_path, stage, count):
    whole, out = finished[0], tmp_path / "run"
    with pytest.raises(Killed):
        execute("train-dictionary", SMALL, out, progress=Deadly(stage, count))
    execute("train-dictionary", SMALL, out)
    assert (out / "summary.json").read_bytes() == (whole / "summary.json").read_bytes()
    weights = sorted(path.relative_to(whole) for path in whole.glob("dictionaries/*/*"))
    assert len(weights) == 4
    for file in [*weights, *(path.relative_to(whole) for path in whole.glob("live/*"))]:
        assert (out / file).read_bytes() == (whole / file).read_bytes(), file
    assert read(out, "training_steps") == read(whole, "training_steps")


def test_a_stream_is_read_once_and_a_cache_serves_other_trainings(tmp_path):
    once = replace(SMALL, epochs=1, widths=(48,), architectures=("topk",))
    execute("train-dictionary", once, tmp_path / "once")
    (row,) = read(tmp_path / "once", "trained_dictionaries")
    assert row["steps"] == -(-row["tokens"] // 128) or row["steps"] == row["tokens"] // 128
    cache = tmp_path / "cache"
    kept = replace(once, epochs=2, cache=str(cache))
    execute("train-dictionary", kept, tmp_path / "kept")
    written = (cache / "manifest.json").stat().st_mtime_ns
    execute("train-dictionary", replace(kept, ks=(4,)), tmp_path / "other")
    assert (cache / "manifest.json").stat().st_mtime_ns >= written
    with pytest.raises(ArtifactRefused, match=r"was written for sites .*another folder"):
        execute("train-dictionary", replace(kept, sites=("blocks.0.resid_post",)), tmp_path / "no")
    with pytest.raises(ArtifactRefused, match=r"was written for text"):
        execute("train-dictionary", replace(kept, tokens=1_500), tmp_path / "neither")


def test_a_transcoder_is_trained_from_what_a_block_reads_to_what_its_mlp_writes(tmp_path):
    options = replace(
        SMALL, sites=("blocks.1.resid_mid",), targets=("blocks.1.mlp_out",), skip=True,
        widths=(64,), architectures=("topk",), tokens=2_000,
    )  # fmt: skip
    execute("train-dictionary", options, tmp_path / "run")
    (row,) = read(tmp_path / "run", "trained_dictionaries")
    assert row["target"] == "blocks.1.mlp_out" and row["fvu_high"] < row["fvu_null"]
    label = row["label"]
    dictionary = el.load_dictionary(tmp_path / "run" / "dictionaries" / label)
    assert dictionary.W_skip is not None and not dictionary.subtracts_b_dec


JOINED = {
    "crosscoder": (
        replace(SMALL, joined="crosscoder", sites=("blocks.*.resid_post",), epochs=2, widths=(64,),
                architectures=("topk",)),
        "blocks.{}.resid_post", "crosscoder", ("held-out documents", 2),
    ),
    "cross-layer": (
        replace(SMALL, joined="cross-layer", sites=(), epochs=2, widths=(32,),
                architectures=("topk", "jumprelu_tanh")),
        "blocks.{}.mlp_out", "cross-layer transcoder", ("training", 20),
    ),
}  # fmt: skip


@pytest.mark.parametrize("joined", JOINED)
def test_several_places_are_joined_judged_shown_and_resumed(joined, tmp_path):
    options, place, called, death = JOINED[joined]
    out = tmp_path / "whole"
    execute("train-dictionary", options, out)
    rows, sites = read(out, "trained_dictionaries"), read(out, "trained_sites")
    assert [row["map"] for row in rows] == [called] * len(options.architectures)
    depth = len(sites) // len(rows)
    for row in rows:
        mine = [site for site in sites if site["label"] == row["label"]]
        assert [site["site"] for site in mine] == [place.format(n) for n in range(depth)]
        mean = sum(site["fvu"] for site in mine) / depth
        assert abs(row["fvu"] - mean) < 1e-6 and row["fvu_low"] < row["fvu"] < row["fvu_high"]
        assert row["fvu_high"] < row["fvu_null"] and 1 < row["l0"] < 12
        assert all(site["fvu"] < site["fvu_null"] for site in mine)
    there = columns_there(out)
    assert there == {name: described_tables()[name] for name in there}
    assert "keep, by place?" in build(out).read_text()
    made = el.load_dictionary(out / "dictionaries" / rows[0]["label"])
    if joined == "crosscoder":
        assert made.names == tuple(place.format(n) for n in range(depth))
    else:
        assert made.layers == tuple(range(depth)) and made.widths == (32,) * depth
        assert made.metadata["feature_output_hook"] == "mlp_out"
    again = tmp_path / "again"
    with pytest.raises(Killed):
        execute("train-dictionary", options, again, progress=Deadly(*death))
    execute("train-dictionary", options, again)
    files = sorted(p.relative_to(out) for p in out.glob("dictionaries/*/*"))
    assert files and all((again / f).read_bytes() == (out / f).read_bytes() for f in files)
    assert (again / "summary.json").read_bytes() == (out / "summary.json").read_bytes()


def test_end_to_end_a_dictionary_keeps_more_of_the_loss_and_less_of_the_state(tmp_path):
    less = replace(SMALL, widths=(48,), architectures=("topk",), tokens=2_000, epochs=4, ks=(2,))
    found = {}
    for loss in ("reconstruction", "kl"):
        execute("train-dictionary", replace(less, loss=loss, batch=256), tmp_path / loss)
        (found[loss],) = read(tmp_path / loss, "trained_dictionaries")
    assert found["kl"]["loss_recovered"] > found["reconstruction"]["loss_recovered"]
    assert found["kl"]["fvu"] > found["reconstruction"]["fvu"]


@pytest.mark.parametrize(("change", "error", "words"), [
    (dict(architectures=("topk", "batchtopp")), UnknownName, "did you mean 'batchtopk'"),
    (dict(ks=(64,)), BadInput, "--ks 64 of --widths 48"),
    (dict(sites=("blocks.9.resid_post",)), BadInput, "layer 9 was asked for"),
    (dict(sites=("blocks.1.resid_pots",)), UnknownName, "resid_post"),
    (dict(targets=("blocks.1.mlp_out", "blocks.2.mlp_out")), BadInput, "1 sites and 2 targets"),
    (dict(loss="kl", architectures=("gated",)), BadInput, "cannot be trained end to end"),
    (dict(skip=True), BadInput, "--skip was given without --targets"),
    (dict(joined="crosscoder", targets=("blocks.1.mlp_out",)), BadInput, "makes what it reads"),
    (dict(joined="cross-layer"), BadInput, r"sites of layers \[1\] and targets of layers \[0, 1"),
    (dict(joined="cross-layer", sites=("embed",)), BadInput, "one kind of place"),
    (dict(joined="cross-layer", sites=(), architectures=("gated",)), BadInput, "loss of its own"),
    (dict(joined="crosscoder", loss="kl"), BadInput, "--loss kl was asked of a crosscoder"),
    (dict(resample=True), BadInput, "resampling was asked of topk"),
    (dict(context=4096), BadInput, "lower --context"),
    (dict(device="cuda:7"), BadInput, "device 'cuda:7' was asked for"),
    (dict(held_out=400), BadInput, "lower --held-out"),
    (dict(text=("nowhere.txt",)), BadInput, "does not exist"),
    (dict(memory_mb=0), BadInput, "option --memory-mb is 0"),
])  # fmt: skip
def test_bad_input_is_one_sentence_and_leaves_nothing(tmp_path, change, error, words):
    if "device" in change and torch.cuda.is_available():
        pytest.skip("this machine has such a device")
    out = tmp_path / "run"
    with pytest.raises(error, match=words) as told:
        execute("train-dictionary", replace(SMALL, **change), out)
    assert "\n" not in str(told.value) and not out.exists()


def test_states_that_are_not_finite_stop_the_step_and_say_where(tmp_path, monkeypatch):
    whole = work.ShuffleBuffer.__next__

    def sick(self):
        batch = whole(self)
        if batch["blocks.1.resid_post"].sum() and self._served > 1000:
            batch["blocks.1.resid_post"][3] = torch.nan
        return batch

    monkeypatch.setattr(work.ShuffleBuffer, "__next__", sick)
    with pytest.raises(BadInput, match=r"batch \d+ of blocks.1.resid_post: 1 of 128 rows hold nan"):
        execute("train-dictionary", SMALL, tmp_path / "run")
    assert list((tmp_path / "run" / "work" / "checkpoint").glob("*.safetensors"))
