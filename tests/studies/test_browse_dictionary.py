"""A dictionary browsed from end to end, on the packaged tiny model."""

from importlib.util import find_spec
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from energylens.core.errors import BadInput, NoRoom
from energylens.features.cross_layer import CrossLayerTranscoder
from energylens.features.crosscoder import SITES, Crosscoder
from energylens.features.dictionary import Dictionary
from energylens.features.formats import saelens
from energylens.features.formats.convert import own_files
from energylens.features.formats.disk import write_folder
from energylens.report.page import build
from energylens.run.execute import execute
from energylens.studies.browse_dictionary import BrowseDictionary, reading
from tests.common.run_directory import columns_there, described_tables, of_browsing

SITE, WIDTH, D = "blocks.1.resid_post", 96, 128
pytestmark = pytest.mark.skipif(find_spec("glassllm") is None, reason="glassllm is not installed")


def dictionary(d: int = D, d_out: int | None = None, **metadata) -> Dictionary:
    generator = torch.Generator().manual_seed(0)
    W = torch.randn(WIDTH, d, generator=generator)
    W = W / W.norm(dim=1, keepdim=True)
    out = torch.randn(WIDTH, d_out or d, generator=generator) if d_out else W
    return Dictionary(architecture="topk", k=4, W_enc=W, b_enc=torch.zeros(WIDTH), W_dec=out,
                      b_dec=torch.zeros(d_out or d), subtracts_b_dec=d_out is None,
                      metadata=metadata)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return saelens.save(dictionary(hook_name=SITE), tmp_path_factory.mktemp("d") / "own")


def options(folder: Path, **changed) -> BrowseDictionary:
    small = dict(model="tiny", documents=24, context=32, draws=39, threads=1)
    return BrowseDictionary(dictionary=folder, **{**small, **changed})


@pytest.mark.parametrize(
    ("made", "changed", "words"),
    [
        (dictionary(d=16, hook_name=SITE), {}, "rows of 16 values and blocks.1.resid_post of tiny"
         " has 128: name its own model with --model, or its place with --site"),
        (dictionary(d_out=16, hook_name="blocks.1.resid_mid", hook_name_out="blocks.1.mlp_out"), {},
         "transcoder writes rows of 16 values and blocks.1.mlp_out of tiny has 128: name its own"
         " model with --model, or its place with --target-site"),
        (dictionary(d=16, d_out=8, hook_name=SITE), {}, "is a transcoder from 16 to 8 values"),
        (dictionary(), {}, "does not say where it reads .no hook_name.: name the place with"),
        (dictionary(hook_name="blocks.9.hook_resid_post"), {}, "layers 0 to 3"),
    ],
)  # fmt: skip
def test_what_cannot_be_browsed_is_refused_in_a_sentence(made, changed, words, tmp_path):
    where = saelens.save(made, tmp_path / "d")
    with pytest.raises(BadInput, match=words):
        execute("browse-dictionary", options(where, **changed), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_too_many_features_for_the_budget_are_refused():
    with pytest.raises(NoRoom, match=r"of 262,144 features takes .* MB and the budget is 1,500 MB"):
        reading._refuse_too_wide(262_144, 1_500)
    assert reading._refuse_too_wide(16_384, 1_500) < 200


def test_a_run_that_was_killed_ends_like_one_that_was_not(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "PIECE_TOKENS", 256)  # eight windows: three pieces

    class Killed(BaseException):
        pass

    original, calls = reading._read_piece, []

    def killed_in_the_third(*arguments, **keywords):
        calls.append(arguments[5])
        if calls == [0, 1, 2]:
            raise Killed
        return original(*arguments, **keywords)

    monkeypatch.setattr(reading, "_read_piece", killed_in_the_third)
    chosen = options(folder)
    with pytest.raises(Killed):
        execute("browse-dictionary", chosen, tmp_path / "killed")
    killed = execute("browse-dictionary", chosen, tmp_path / "killed")
    assert calls == [0, 1, 2, 2], "what was read is not read again"
    whole = execute("browse-dictionary", chosen, tmp_path / "whole")
    assert killed.summary.finding == whole.summary.finding
    there = columns_there(whole.path)
    assert there == {n: c for n, c in described_tables().items() if of_browsing(n)}
    for name in there:
        one, other = (pq.read_table(r.path / "tables" / f"{name}.parquet") for r in (killed, whole))
        assert one.equals(other) or str(one.to_pylist()) == str(other.to_pylist()), name
    _check_tables(whole.path)
    page = build(whole.path).read_text(encoding="utf-8")
    assert 'data-shows="dictionary"' in page and "blocks.1.resid_post" in page


def _check_tables(run: Path) -> None:
    features = pq.read_table(run / "tables/browse_features.parquet").to_pylist()
    whole = pq.read_table(run / "tables/browse_dictionary.parquet").to_pylist()[0]
    assert len(features) == whole["width"] == WIDTH
    assert sum(row["n_active"] for row in features) == pytest.approx(whole["l0"] * whole["tokens"])
    contexts = pq.read_table(run / "tables/browse_contexts.parquet").to_pylist()
    windows = {row["window"]: row for row in
               pq.read_table(run / "tables/browse_windows.parquet").to_pylist()}  # fmt: skip
    assert {row["window"] for row in contexts} == set(windows)
    for row in contexts:
        at = row["first"] + row["peak"]
        feature = features[row["feature"]]
        assert row["first"] + len(row["activation"]) <= len(windows[row["window"]]["tokens"]) == 32
        assert row["activation"][row["peak"]] == pytest.approx(max(row["activation"]), rel=1e-6)
        if (row["group"], row["rank"]) == ("top", 0):
            assert row["activation"][row["peak"]] == pytest.approx(feature["max_activation"])
        assert 0 < at < 31, "the first and the last place are not read"
    for row in features:
        assert sum(row["histogram"]) == row["n_active"]
        assert row["label"] in ("", row["class"])
        assert len(row["raised_tokens"]) == 10 and row["raised_logits"][0] > 0
        assert row["raised_logits"] == sorted(row["raised_logits"], reverse=True)


def test_logits_are_what_a_step_along_the_direction_changes():
    from energylens.activations.certify import wrap
    from energylens.activations.logit_effects import logit_effects
    from energylens.sources.model import load_model

    subject = wrap(load_model("tiny"))
    generator = torch.Generator().manual_seed(1)
    state = 5 * torch.randn(D, generator=generator)
    directions = torch.randn(3, D, generator=generator)
    found = logit_effects(subject, state, directions)
    with torch.no_grad():
        step = 0.02 * directions  # its square is beyond the digits that the norm computes in
        change = (subject.lens(state + step) - subject.lens(state - step)) / 0.04
    assert torch.allclose(found, change - change.mean(1, keepdim=True), atol=2e-3)
    assert float(found.mean(1).abs().max()) < 1e-5


def crosscoder() -> Crosscoder:
    sites = [{"name": n, "width": D, "spread": 1.5} for n in (SITE, "blocks.3.resid_post")]
    return Crosscoder.of(dictionary(d=2 * D, **{SITES: sites}))


def cross_layer() -> CrossLayerTranscoder:
    g = torch.Generator().manual_seed(2)
    return CrossLayerTranscoder(
        architecture="topk", k=4, layers=(0, 1, 2, 3), b_dec=torch.zeros(4, D),
        W_enc=tuple(torch.randn(WIDTH, D, generator=g) for _ in range(4)),
        b_enc=(torch.zeros(WIDTH),) * 4,
        W_dec=tuple(torch.randn(WIDTH, 4 - n, D, generator=g) for n in range(4)),
        metadata={"feature_input_hook": "resid_mid", "feature_output_hook": "mlp_out"},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("made", "asked", "where", "sites"),
    [
        (dictionary(d_out=D, hook_name="blocks.1.resid_mid", hook_name_out="blocks.1.mlp_out"), {},
         "features of a transcoder from blocks.1.resid_mid to blocks.1.mlp_out, read on", 1),
        (crosscoder(), {}, "of a crosscoder at blocks.1.resid_post, blocks.3.resid_post, read", 2),
        (cross_layer(), {"layer": 2}, "features of layer 2 of a cross-layer transcoder from"
         " blocks.2.resid_mid to blocks.2.mlp_out, blocks.3.mlp_out, read on", 2),
    ],
    ids=["transcoder", "crosscoder", "cross-layer"],
)  # fmt: skip
def test_every_kind_of_dictionary_has_its_features_browsed(made, asked, where, sites, tmp_path):
    folder = write_folder(tmp_path / "d", own_files(made))
    run = execute("browse-dictionary", options(folder, **asked), tmp_path / "out")
    assert where in run.summary.detail
    features = pq.read_table(run.path / "tables/browse_features.parquet").to_pylist()
    assert len(features) == WIDTH and any(row["n_active"] for row in features)
    for row in features:
        assert len(row["site_norms"]) == sites and len(row["raised_tokens"]) == 10
        assert sum(n * n for n in row["site_norms"]) == pytest.approx(row["decoder_norm"] ** 2)
    (whole,) = pq.read_table(run.path / "tables/browse_dictionary.parquet").to_pylist()
    assert whole["fvu"] > whole["fvu_random"] and 0 < whole["fvu_random"] < 1
    assert not run.summary.controls["dictionary_fits"].passed  # directions drawn at random
    build(run.path)


def test_a_transcoder_on_too_little_text_is_held_against_the_mean_alone(tmp_path):
    made = dictionary(d_out=D, hook_name="blocks.1.resid_mid", hook_name_out="blocks.1.mlp_out")
    folder = saelens.save(made, tmp_path / "d")
    run = execute("browse-dictionary", options(folder, documents=5, context=16), tmp_path / "out")
    fits = run.summary.controls["dictionary_fits"]
    assert fits.expected == "below 1" and "too few for a linear map" in fits.sentence
    build(run.path)


def test_a_place_that_no_lens_reads_has_no_logits(tmp_path):
    where = saelens.save(dictionary(hook_name="blocks.1.attn.hook_z"), tmp_path / "z")
    run = execute("browse-dictionary", options(where), tmp_path / "out")
    features = pq.read_table(run.path / "tables/browse_features.parquet").to_pylist()
    assert all(row["raised_tokens"] == [] for row in features)
    assert any("no logits are attributed" in limit for limit in run.summary.limits)
    build(run.path)
