"""What is pushed to a hub, and what its card says: numbers of the run, or that there are none."""

import json
import re
from dataclasses import replace

import pytest
import torch
import yaml

import energylens as el
from energylens.core.errors import BadInput
from energylens.features.card import NOT_EVALUATED, model_card, read_judged
from energylens.features.crosscoder import SITES, Crosscoder
from energylens.features.dictionary import weights_sha256
from energylens.features.formats import saelens
from energylens.features.formats.convert import own_files
from energylens.features.formats.disk import write_folder
from energylens.features.publish import push_to_hub
from energylens.results.record import Control, Estimate, Summary
from tests.common.hub import COMMIT, TOKEN, FakeHub, point_at, serving
from tests.features.formats.made import D, dictionary, draw
from tests.features.formats.test_cross_layer import transcoder as across

SITE = "blocks.5.resid_post"
ABOUT = {"hook_name": SITE, "model_name": "HuggingFaceTB/SmolLM2-135M"}


@pytest.fixture
def fake_hub(tmp_path, monkeypatch):
    (tmp_path / "hub").mkdir()
    with serving(tmp_path / "hub") as address:
        point_at(monkeypatch, address, tmp_path / "cache")
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield FakeHub


def a_run(folder, *, inputs=None, figures=None, **summary):
    """A finished run that says this much."""
    figures = figures or {
        "fvu": Estimate(0.31, "share", low=0.29, high=0.33, null_mean=0.94, null_sd=0.01, n=100,
                        n_unit="documents", label="Variance unexplained"),
        "l0": Estimate(5, "features", undefined=2, label="Active a row"),
    }  # fmt: skip
    made = Summary(
        study="evaluate-dictionary", subject="x", finding="It keeps 69 % of the variance.",
        figures=figures, cards=("fvu",) if "fvu" in figures else (),
        controls={"shuffled": Control(label="s", value=1, expected=1, passed=False,
                                      sentence="Shuffled rows do as well.")},
        limits=("Only English text.",), **summary,
    )  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "summary.json").write_bytes(made.to_json())
    text = {"name": "speeches", "sha256": "ab" * 32, "documents": 1200}
    (folder / "run.json").write_text(json.dumps({
        "inputs": {"model": {"name": "SmolLM2", "sha256": "cd" * 32}, "text": text,
                   **(inputs or {})},
        "options": {"train_tokens": 20480}, "seeds": [0], "versions": {"energylens": "0.1.0"},
        "finished": "2026-01-02T03:04:05+00:00",
    }))  # fmt: skip
    return folder


def head_of(card):
    return yaml.safe_load(card.split("---")[1])


def test_what_is_pushed_comes_back_by_name(fake_hub, generator):
    made = dictionary("batchtopk", generator, **ABOUT)
    url = el.push_to_hub(made, "some/model", private=True)
    assert url.endswith(f"some/model/commit/{COMMIT}")
    assert "private" in (fake_hub.made[0].get("visibility"), *fake_hub.made[0])
    files = {p.relative_to(fake_hub.folder).as_posix() for p in fake_hub.folder.rglob("*.*")
             if p.is_file()}  # fmt: skip
    folder = {f"{SITE}/{n}" for n in ("cfg.json", "sae_weights.safetensors", "README.md")}
    assert files == folder | {"README.md"}
    x = draw(generator, 9, D)
    found = el.from_pretrained("some/model", subfolder=SITE)
    assert torch.equal(found.reconstruct(x), saelens.load(fake_hub.folder / SITE).reconstruct(x))
    assert found.architecture == "jumprelu" and found.metadata == ABOUT


def test_a_repository_is_as_private_as_the_account_says_by_default(fake_hub, generator):
    push_to_hub(dictionary("topk", generator), "some/model")
    assert "private" not in fake_hub.made[0] and "visibility" not in fake_hub.made[0]


def test_a_crosscoder_comes_back_with_its_sites(fake_hub, generator):
    wide = dictionary("topk", generator, subtracts_b_dec=False)
    half = wide.d_in // 2
    sites = [{"name": "blocks.1.resid_post", "width": half, "spread": 2.0},
             {"name": "blocks.3.resid_post", "width": wide.d_in - half, "spread": 5.0}]  # fmt: skip
    made = Crosscoder.of(replace(wide, metadata={SITES: sites, "model_name": "some/lm"}))
    el.push_to_hub(made, "some/model")
    card = (fake_hub.folder / "crosscoder" / "README.md").read_text().replace("\\_", "_")
    assert "A sparse crosscoder of blocks.1.resid_post and blocks.3.resid_post in some/lm" in card
    assert f"| site 2 | blocks.3.resid_post, {wide.d_in - half} values |" in card
    assert head_of(card)["library_name"] == "energylens"
    found = el.from_pretrained("some/model", subfolder="crosscoder")
    x = {site.name: draw(generator, 9, site.width) for site in made.sites}
    assert found.sites == made.sites
    for site, rows in made.reconstruct(x).items():
        assert torch.equal(found.reconstruct(x)[site], rows)


@pytest.mark.parametrize(
    ("name", "first", "words"),
    [("batchtopk", "W_enc_0.safetensors", "files are those of circuit-tracer"),
     ("topk", "cross_layer.safetensors", "circuit-tracer has no transcoder of this kind")],
)  # fmt: skip
def test_all_layers_come_back(name, first, words, fake_hub, generator, tmp_path):
    made = across("jumprelu" if name == "batchtopk" else "standard", generator, model_name="m")
    made = made if name == "batchtopk" else replace(made, architecture=name)
    run = a_run(tmp_path / "run")
    write_folder(run / "dictionaries" / "mine", own_files(made))
    el.push_to_hub(made, "some/model", run=run)
    assert (fake_hub.folder / "cross_layer" / first).is_file()
    card = (fake_hub.folder / "cross_layer" / "README.md").read_text()
    assert words in card and "A cross-layer transcoder of layers 0 to 2 in m" in card
    assert "The run holds these very weights." in card
    found = el.from_pretrained("some/model/cross_layer")
    assert found.layers == made.layers and found.metadata["model_name"] == "m"
    assert found.weights.keys() == made.weights.keys()
    assert all(torch.equal(found.weights[n], w) for n, w in made.weights.items())


@pytest.mark.parametrize(
    ("above", "replaced"),
    [(None, True), ("# Mine\nby hand", False),
     (model_card(dictionary("topk", torch.Generator()), "some/model", SITE), True),
     (model_card(dictionary("topk", torch.Generator()), "some/model", "other"), False)],
)  # fmt: skip
def test_a_card_that_is_not_of_this_dictionary_is_left(above, replaced, fake_hub, generator):
    if above is not None:
        (fake_hub.folder / "README.md").write_text(above)
    push_to_hub(dictionary("gated", generator, **ABOUT), "some/model")
    own = (fake_hub.folder / SITE / "README.md").read_text()
    there = (fake_hub.folder / "README.md").read_text()
    assert "gated" in own and (there == own if replaced else there == above)


@pytest.mark.parametrize(
    ("token", "where", "how", "message"),
    [
        (None, "some/model", {}, "pushed to with a token, found none: log in with `hf auth login`"),
        ("hf_other", "some/model", {}, r"the hub refused 'some/model' \(401, Invalid username"),
        (TOKEN, "some/model", {"license": "none such"}, "license is not allowed"),
        (TOKEN, "model", {}, "should be a hub id"),
        (TOKEN, "some/model", {"subfolder": "../x"}, "a folder of plain names"),
        (TOKEN, "some/model", {"run": "nowhere"}, "nowhere holds no finished run"),
    ],
)
def test_refusals_are_one_sentence(
    token, where, how, message, fake_hub, generator, monkeypatch, tmp_path
):
    monkeypatch.delenv("HF_TOKEN")
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(BadInput, match=message) as error:
        push_to_hub(dictionary("topk", generator), where, **how)
    assert "\n" not in str(error.value) and TOKEN not in str(error.value)
    assert list(fake_hub.folder.iterdir()) == []


def test_a_hub_out_of_reach_or_switched_off_is_said(monkeypatch, tmp_path, generator):
    point_at(monkeypatch, "http://127.0.0.1:9", tmp_path)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with pytest.raises(BadInput, match="'some/model' was not pushed, the hub cannot be reached"):
        push_to_hub(dictionary("topk", generator), "some/model")
    monkeypatch.setenv("TRANSFORMERS_OFFLINE", "1")
    with pytest.raises(BadInput, match="the hub is switched off: unset HF_HUB_OFFLINE"):
        push_to_hub(dictionary("topk", generator), "some/model")


# ---- the card


def test_without_a_run_the_card_says_so(generator):
    card = model_card(dictionary("topk", generator, **ABOUT), "me/my-sae", SITE, license="mit")
    assert NOT_EVALUATED in card
    assert head_of(card) == {
        "library_name": "saelens", "license": "mit", "base_model": ABOUT["model_name"],
        "tags": ["energylens", "sparse-autoencoder", "mechanistic-interpretability", "saelens"],
    }  # fmt: skip
    assert 'el.from_pretrained("me/my-sae", subfolder="blocks.5.resid_post")' in card
    assert 'SAE.from_pretrained("me/my-sae", "blocks.5.resid_post")' in card
    assert "| features | 40 |" in card and weights_sha256(dictionary("topk", generator)) not in card


def test_a_kind_that_saelens_lacks_is_not_said_to_load_there(generator):
    for made in (dictionary("groupmax", generator), dictionary("topk", generator, skip=True)):
        card = model_card(made, "me/my-sae", "d")
        assert head_of(card)["library_name"] == "energylens" and "sae_lens" not in card
    assert "base_model" not in head_of(card)  # 'tiny' is no hub id, and nothing is none either


def test_numbers_stand_with_intervals_nulls_and_units(generator, tmp_path):
    made = dictionary("topk", generator, **ABOUT)
    run = a_run(tmp_path / "run")
    saelens.save(made, run / "dictionaries" / SITE)
    judged = read_judged(made, run)
    card = model_card(made, "me/my-sae", SITE, judged=judged)
    for line in (
        r"| Variance unexplained | .310 share | \[.29, .33\] | .940 ± .01 | 100 documents |",
        "| Active a row | 5 features | – | – | –, 2 undefined |",
        "| text | speeches abababababababab, 1,200 documents |", "| train tokens | 20,480 |",
        "| model | SmolLM2 cdcdcdcdcdcdcdcd |", "| seeds | 0 |",
        "- **Failed**: Shuffled rows do as well.", "- Limit: Only English text.",
        "The run holds these very weights.",
    ):  # fmt: skip
        assert line in card, card
    assert NOT_EVALUATED not in card


def test_a_run_of_other_weights_is_not_passed_off(generator, tmp_path):
    made = dictionary("topk", generator, **ABOUT)
    run = a_run(tmp_path / "run")
    saelens.save(dictionary("topk", generator, **ABOUT), run / "dictionaries" / SITE)
    card = model_card(made, "me/my-sae", SITE, judged=read_judged(made, run))
    assert "is the uploader's word" in card and "very weights" not in card


def test_of_several_dictionaries_the_right_figures_are_shown(generator, tmp_path):
    made = dictionary("topk", generator, **ABOUT)
    entry = {"name": "mine", "sha256": weights_sha256(made)}
    figures = {f"fvu.{name}": Estimate(value, "share", label=f"FVU, {name}")
               for name, value in (("mine", 0.25), ("theirs", 0.75))}  # fmt: skip
    run = a_run(tmp_path / "run", figures=figures, inputs={
        "dictionary theirs": {"name": "theirs", "sha256": "0" * 64}, "dictionary mine": entry,
    })  # fmt: skip
    card = model_card(made, "me/my-sae", SITE, judged=read_judged(made, run))
    assert "| FVU, mine | .25 share |" in card and "theirs" not in card
    assert "very weights" in card


def test_of_a_training_of_several_the_card_finds_its_own_folder(generator, tmp_path):
    label = f"{SITE}-topk-40-k5-s0"
    values = {"fvu.blocks_5_resid_post_topk_40_k5_s0": 0.25, "fvu.other": 0.75}
    figures = {name: Estimate(value, "share", label=f"FVU {value}")
               for name, value in values.items()}  # fmt: skip
    run = a_run(tmp_path / "run", figures=figures)
    made = dictionary("topk", generator, **ABOUT)
    saelens.save(dictionary("topk", generator, **ABOUT), run / "dictionaries" / "other")
    saelens.save(made, run / "dictionaries" / label)
    card = model_card(made, "me/my-sae", SITE, judged=read_judged(made, run))
    assert "| FVU 0.25 | .25 share |" in card and "FVU 0.75" not in card
    assert "Of the whole run: It keeps 69 % of the variance." in card and "very weights" in card


@pytest.mark.parametrize(
    "hostile",
    ["a | b", "<script>alert(1)</script>", "![x](http://x)", "`code`", "--- \n---\nlicense: x",
     "\u202egnp.exe", "[click](javascript:alert(1))", "# head", "a&lt;b"],
)  # fmt: skip
def test_names_that_a_run_took_from_outside_do_nothing_in_the_card(hostile, generator, tmp_path):
    about = {"hook_name": hostile, "model_name": hostile}
    figures = {"fvu": Estimate(1, "share", label=hostile)}
    run = a_run(tmp_path / "run", figures=figures, inputs={"text": {"name": hostile}})
    made = dictionary("topk", generator, **about)
    card = model_card(made, "me/my-sae", "d", judged=read_judged(made, run))
    clean = model_card(dictionary("topk", generator), "me/my-sae", "d")
    assert head_of(card) == head_of(clean)
    body = card.split("---", 2)[2].replace("<!-- card", "")
    for mark in ("<", "![", "]("):
        assert mark not in re.sub(r"\\[\\<>!\[\]`|#]", "", body)
    table = [line for line in card.splitlines() if line.startswith("|")]
    assert all(line.replace(r"\|", "").count("|") in (3, 6) for line in table)
    assert sum(line.startswith("#") for line in card.splitlines()) == 3
