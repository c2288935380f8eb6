"""Which models energy-lens takes, beside those whose sites are written by hand."""

import json
import re

import pytest
from tools.family_table import CAUSAL, ENCODERS, redrawn

from energylens.core.errors import BadInput
from energylens.run.execute import execute
from energylens.sources.quiet import quiet
from energylens.studies.energy_lens import EnergyLens
from tests.sources.conftest import small_tokenizer

BERT_READS_BOTH_WAYS = (
    "energy-lens needs a next-token loss, and model has none: it reads the text in both directions;"
    " from Python its sites can be watched, edited and given dictionaries (el.load, capture, edit,"
    " el.train), and the energies that remain are surprisal, free_energy, entropy, tuned,"
    " class_energy, hopfield and energy_transformer"
)


@pytest.fixture
def folder_of(tmp_path):
    """A folder with a tiny random model of an architecture, as `save_pretrained` writes it."""

    def make(kind: str):
        from transformers import AutoConfig, AutoModelForCausalLM

        given = {**(CAUSAL.get(kind) or ENCODERS[kind]), "max_position_embeddings": 128}
        with quiet():
            module = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **given))
            redrawn(module).save_pretrained(tmp_path / "model")
            small_tokenizer(60).save_pretrained(tmp_path / "model")
        return str(tmp_path / "model")

    return make


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("bert", re.escape(BERT_READS_BOTH_WAYS)),
        ("gemma2", "needs a lens .*capped; .*energies that remain are downstream_energy, class"),
    ],
)
def test_a_model_it_cannot_read_is_refused_before_the_long_work(kind, words, folder_of, tmp_path):
    with pytest.raises(BadInput, match=words):
        execute("energy-lens", EnergyLens(model=folder_of(kind)), tmp_path / "out")


@pytest.mark.slow
def test_a_family_that_was_discovered_runs_to_the_end(folder_of, tmp_path):
    """Granite has no table, and scales its embeddings, its residuals and its logits."""
    options = EnergyLens(
        model=folder_of("granite"), sites=("blocks.1.resid_post",), width=128, k=6, context=48,
        train_tokens=20_000, score_documents=60, proof_features=3, draws=1_000, threads=1,
    )  # fmt: skip
    execute("energy-lens", options, tmp_path / "out")
    inputs = json.loads((tmp_path / "out/records/inputs.json").read_text())
    assert inputs["model"]["family"] == "discovered"
