"""Several models side by side: tiny random ones of three families, with tokenisers of their own."""

import pyarrow.parquet as pq
import pytest
import torch

from energylens.core.errors import BadInput
from energylens.report.page import build
from energylens.run.execute import execute
from energylens.sources import hub
from energylens.sources.model import load_model
from energylens.sources.quiet import quiet
from energylens.studies.energy_lens_models import EnergyLensModels, subjects
from tests.common.run_directory import columns_there, described_tables
from tests.sources.conftest import small_tokenizer

KINDS = {
    "small": ("llama", dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2,
                            num_attention_heads=4, num_key_value_heads=2)),
    "wide": ("gpt_neox", dict(hidden_size=48, intermediate_size=64, num_hidden_layers=3,
                              num_attention_heads=4)),
    "gpt": ("gpt2", dict(n_embd=40, n_layer=2, n_head=4)),
}  # fmt: skip
SMALL = dict(
    depths=1, width=48, k=4, context=24, train_tokens=4_000, score_documents=40, passages=30,
    passage=160, segment=20, match_draws=99, draws=1_000, threads=1,
)  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    from transformers import AutoConfig, AutoModelForCausalLM

    root = tmp_path_factory.mktemp("models")
    for seed, (name, (kind, given)) in enumerate(KINDS.items()):
        length = "n_positions" if kind == "gpt2" else "max_position_embeddings"
        config = AutoConfig.for_model(
            kind, vocab_size=64, bos_token_id=1, eos_token_id=2, **{length: 128}, **given
        )
        with torch.random.fork_rng(devices=[]), quiet():
            torch.manual_seed(seed)
            module = AutoModelForCausalLM.from_config(config)
            for parameter in module.parameters():
                if parameter.ndim > 1:
                    torch.nn.init.normal_(parameter, std=0.3)
            module.save_pretrained(root / name)
            small_tokenizer(64).save_pretrained(root / name)
    return root


def refused(words, out, **options):
    with pytest.raises(BadInput, match=words):
        execute("energy-lens-models", EnergyLensModels(**{**SMALL, **options}), out)


def test_bad_input_is_one_sentence(folders, tmp_path):
    small, wide = str(folders / "small"), str(folders / "wide")
    out = tmp_path / "out"
    refused("two models or more, and 1 was given", out, models=(small,))
    refused("is named twice: give each model once", out, models=(small, small))
    refused("is a control, and each model's control is run", out, models=(small, "random:tiny"))
    link = tmp_path / "again"
    link.symlink_to(folders / "small")
    refused("is the same model as .* give each model once", out, models=(small, str(link)))
    refused("--k 60 active features of --width 48", out, models=(small, wide), k=60)
    assert not out.exists()


def test_windows_that_cannot_be_aligned_are_refused_before_the_long_work(folders, tmp_path):
    models = tuple(str(folders / name) for name in ("small", "wide"))
    refused("cannot be aligned: .* 0 have 96 tokens for small and 20 are needed: raise --passage",
            tmp_path / "out", models=models, context=96, passage=80)  # fmt: skip


def test_a_default_model_that_cannot_be_had_is_left_out_in_one_sentence(monkeypatch):
    def away(name, **options):
        raise BadInput(f"model {name!r} is not on this machine and the hub gave no answer: connect")

    monkeypatch.setattr(subjects, "fetch", away)
    said: list[str] = []
    names, told = subjects.available(EnergyLensModels(), said.append)
    assert names == ["tiny", "smollm2"] and said == [told]
    assert told == (
        "model 'EleutherAI/pythia-70m' is not on this machine and the hub gave no answer, so it is"
        " left out and tiny and smollm2 remain."
    )
    assert hub.fetch is not away


def test_random_before_a_name_is_its_architecture_with_other_weights(folders):
    real, drawn, again = (
        load_model(f"{prefix}{folders / 'small'}") for prefix in ("", "random:", "random:")
    )
    assert drawn.sha256 == again.sha256 != real.sha256
    assert drawn.name == "small (random weights)" and drawn.n_layers == real.n_layers


@pytest.mark.slow
def test_it_resumes_model_by_model_and_leaves_what_it_promises(folders, tmp_path):
    class Killed(BaseException):
        pass

    def kill(line: str) -> None:
        if line == "run wide":
            raise Killed

    options = EnergyLensModels(models=tuple(str(folders / name) for name in KINDS), **SMALL)
    out = tmp_path / "out"
    with pytest.raises(Killed):
        execute("energy-lens-models", options, out, say=kill)
    said: list[str] = []
    summary = execute("energy-lens-models", options, out, say=said.append).summary
    assert [line for line in said if line.startswith("run ")] == [
        "run wide", "run wide-random", "run gpt", "run gpt-random",
    ]  # fmt: skip
    assert not (out / "scratch").exists()
    there = columns_there(out)
    assert there == {name: described_tables()[name] for name in there}
    matching = pq.read_table(out / "tables/models_matching.parquet").to_pylist()
    assert {(r["model"], r["other"]) for r in matching if r["weights"] == "trained"} <= {
        ("small", "wide"), ("small", "gpt"), ("wide", "gpt"),
    }  # fmt: skip
    assert all(-1 <= row["correlation"] <= 1 and row["features"] <= 48 for row in matching)
    assert summary.subject.startswith("small, wide, gpt · ")
    page = build(out).read_text()
    assert "Does training put them there?" in page and 'id="features"' not in page
