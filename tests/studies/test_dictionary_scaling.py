"""A sweep of dictionaries: its tasks, its laws, and what it says of them."""

import json
from importlib.util import find_spec

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from energylens.core.errors import BadInput
from energylens.core.ports import silence
from energylens.report.page import build
from energylens.run.edges.store.folder import Folder
from energylens.run.execute import execute
from energylens.run.launch import LAUNCHERS, Means
from energylens.studies.dictionary_scaling import DictionaryScaling
from energylens.studies.dictionary_scaling.laws import law_rows, slope_rows
from energylens.studies.dictionary_scaling.points import tasks_of, tell
from energylens.studies.dictionary_scaling.work import run
from tests.common.run_directory import columns_there, described_tables

SITE = "blocks.1.resid_post"
SMALL = DictionaryScaling(
    widths=(16, 32, 64, 128), ks=(2, 4), tokens=(1_000,), seeds=(0,), epochs=2, batch=64,
    context=32, held_out=20, threads=1,
)  # fmt: skip


def dictionaries(task, law, sd: float) -> list[dict]:
    """The rows that train-dictionary leaves, of dictionaries that follow a law."""
    rows = []
    for width in task.widths:
        for k in task.ks:
            seed = task.seeds[0]
            noise = torch.Generator().manual_seed(1 + width * k * (seed + 1) + task.tokens)
            factor = float((sd * torch.randn((), generator=noise)).exp()) * (1 + 0.2 * seed)
            fvu = law(width, task.tokens) * factor
            rows.append({
                "site": SITE, "architecture": "topk", "width": width, "k": k, "seed": seed,
                "fvu": fvu, "fvu_low": 0.9 * fvu, "fvu_high": 1.1 * fvu, "fvu_null": 0.9 + fvu / 9,
                "l0": float(k), "dead_share": 0.0, "loss_recovered": 0.9, "documents": 20,
                "seconds": 1.0,
            })  # fmt: skip
    return rows


def pretended(options, path, law, sd: float = 0.01):
    """A sweep whose tasks were not trained but made up."""

    def launch(tasks):
        found = {}
        for task in tasks:
            store = Folder(path / task.folder)
            windows = -(-task.options.tokens // (options.context - 2))
            store.save(
                "made",
                tables={"trained_dictionaries": pa.Table.from_pylist(
                    dictionaries(task.options, law, sd)
                )},
                records={"inputs": {
                    "model": {"name": "made up", "sha256": "0"},
                    "text": {"name": "none", "sha256": task.folder.name, "windows": windows,
                             "documents_held_out": 20},
                }},
            )  # fmt: skip
            found[task.folder.name] = store
        return found

    store = Folder(path / "all")
    summary = run(options, store=store, progress=silence, say=lambda line: None, launch=launch)
    return summary, store


def both(width: int, tokens: int) -> float:
    return 0.05 + 0.2 * (width / 128) ** -0.6 + 0.1 * (tokens / 12_000) ** -0.5


def test_a_planted_law_is_found_and_told(tmp_path):
    options = DictionaryScaling(shuffled=False)
    summary, store = pretended(options, tmp_path, both)
    laws = store.table("scaling_laws").to_pylist()
    assert [(row["site"], row["k"], row["axes"]) for row in laws] == [
        (SITE, 4, "width and tokens"), (SITE, 8, "width and tokens"),
    ]  # fmt: skip
    for row in laws:
        assert row["width_exponent_low"] < 0.6 < row["width_exponent_high"] < 1
        assert row["tokens_exponent_low"] < 0.5 < row["tokens_exponent_high"]
        # Seeds differ by a fifth, in level alone: that widens nothing.
        assert row["points"] == 24 and row["error"] < 0.02 and row["why"] == ""
    assert "FVU falls with width by an exponent of" in summary.finding and "k 8" in summary.finding
    assert summary.figures["width_exponent.blocks_1_resid_post.k8"].low > 0
    assert summary.controls["beyond_chance"].passed and len(summary.suspicious) == 0
    inputs = store.record("inputs")
    assert len(inputs["text"]["sha256_by_task"]) == 6


def test_without_a_law_it_says_so(tmp_path):
    summary, _ = pretended(DictionaryScaling(shuffled=False), tmp_path, lambda n, t: 0.3, 0.03)
    assert "no power law in width can be told from none" in summary.finding
    assert summary.figures["width_exponent.blocks_1_resid_post.k8"].low == 0


def test_too_few_sizes_are_told_and_leave_the_slope(tmp_path):
    options = DictionaryScaling(shuffled=False, widths=(64, 128, 256), tokens=(12_000,), seeds=(0,))
    summary, store = pretended(options, tmp_path, both)
    (first, *_) = store.table("scaling_laws").to_pylist()
    assert first["why"] == "a law needs 4 different sizes, and there are 3"
    assert "no law can be fitted: a law needs 4 different sizes" in summary.finding
    assert summary.figures["width_exponent.blocks_1_resid_post.k8"].undefined == 1
    assert summary.figures["slope.blocks_1_resid_post.k8"].value < -0.2
    assert any("laws are undefined" in line for line in summary.suspicious)


def test_nulls_stand_at_the_least_text_alone():
    points = [
        {"site": "a", "k": 1, "tokens": tokens, "width": width, "fvu": width**-0.5, "seed": 0,
         "fvu_null": width**-0.1} for tokens in (10, 20) for width in (1, 2, 4)
    ]  # fmt: skip
    null = [
        {"site": "a", "k": 1, "width": width, "tokens": 9, "fvu": width**-0.2, "seed": 0}
        for width in (1, 2, 4)
    ]
    least, most = slope_rows(points, null)
    assert least["slope"] == pytest.approx(-0.5) and least["shuffled"] == pytest.approx(-0.2)
    assert most["random"] == pytest.approx(-0.1) and most["shuffled"] != most["shuffled"]


def test_seeds_whose_text_ran_out_are_still_fitted():
    points = [
        {"site": "a", "k": 1, "tokens": 100 + 9 * seed, "width": width, "seed": seed,
         "fvu": both(width, 12_000)} for width in (64, 128, 256, 512) for seed in (0, 1)
    ]  # fmt: skip
    (row,) = law_rows(points)
    assert "3 different sizes along each axis, and there are 2" in row["why"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"widths": (64, 128, 64)}, "option --widths has 64 twice: give each value once"),
        ({"ks": (4, 65)}, "--ks 65 of --widths 64 was asked for: k is at most the width"),
        ({"tokens": (6_000, 6_000)}, "option --tokens has 6000 twice"),
        ({"sites": ("blocks.9.resid_post",)}, "blocks.9.resid_post"),
        ({"architecture": "topkk"}, "topk"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(change, words, tmp_path):
    with pytest.raises(BadInput, match=words):
        execute("dictionary-scaling", DictionaryScaling(**change), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_text_is_a_task_and_widths_can_be_apart():
    options = DictionaryScaling()
    assert [str(task.folder) for task in tasks_of(options)][:3] == [
        "tokens-6000-seed-0", "tokens-6000-seed-1", "tokens-12000-seed-0",
    ]  # fmt: skip
    assert {task.options.widths for task in tasks_of(options)} == {options.widths}
    apart = tasks_of(DictionaryScaling(apart=True))
    assert len(apart) == 24 and len({task.folder for task in apart}) == 24
    said: list[str] = []
    tell(options, said.append)
    assert said[0].startswith("6 tasks of train-dictionary, each of 8 dictionaries")


@pytest.mark.slow
@pytest.mark.skipif(find_spec("glassllm") is None, reason="glassllm is not installed")
def test_a_real_sweep_runs_in_processes_and_leaves_what_it_promises(tmp_path):
    out = tmp_path / "out"
    launcher = LAUNCHERS["local"](Means(workers=2))
    summary = execute("dictionary-scaling", SMALL, out, launcher=launcher).summary
    there = columns_there(out)
    assert there == {name: described_tables()[name] for name in there}
    assert len(pq.read_table(out / "tables/scaling_points.parquet")) == 8
    shuffled = pq.read_table(out / "tables/scaling_shuffled.parquet").to_pylist()
    points = pq.read_table(out / "tables/scaling_points.parquet").to_pylist()
    # Nothing that coordinates share is left to be rebuilt.
    for mine, null in zip(points, shuffled, strict=True):
        assert (mine["width"], mine["k"]) == (null["width"], null["k"])
        assert null["fvu"] > mine["fvu"] + 0.2
    assert summary.figures["slope.blocks_1_resid_post.k4"].null_mean > -0.2
    assert not (out / "scratch").exists()
    assert json.loads((out / "run.json").read_text())["inputs"]["model"]["name"] == "tiny"
    page = build(out).read_text()
    assert "Is it a power law?" in page and "What does a smaller loss cost" in page
