"""Labels in evaluate-dictionary: tables of a small run, described column by column, and drawn."""

import math
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
import torch

from energylens.activations.certify import wrap
from energylens.activations.stream import collect_rows
from energylens.features.attributes import feature_f1
from energylens.features.formats import saelens
from energylens.features.prompts import AttributedPrompts, states_and_run
from energylens.features.train import train
from energylens.features.training import TrainOptions
from energylens.report.figures import figures
from energylens.report.records import read
from energylens.run.execute import execute
from energylens.sources.attributed import ATTRIBUTED_TASKS
from energylens.sources.model import load_model
from energylens.sources.text import load_text
from energylens.sources.windows import tokenise
from energylens.studies.energy_lens.dictionaries import seed_of
from energylens.studies.evaluate_dictionary import EvaluateDictionary
from energylens.studies.evaluate_dictionary.labels import TABLES
from tests.common.compare import assert_close
from tests.common.run_directory import columns_there, described_tables

SITE = "blocks.1.resid_post"
SMALL = {"context": 64, "documents": 24, "loss_documents": 2, "train_tokens": 1_536,
         "match_draws": 20, "passages": 0, "threads": 1, "label_tokens": 1_200,
         "groups": 16}  # fmt: skip


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    place = tmp_path_factory.mktemp("labels")
    subject = wrap(load_model("tiny"))
    windows = tokenise(load_text("default"), subject.loaded.tokenizer, 64, documents=60,
                       generator=torch.Generator().manual_seed(9))  # fmt: skip
    rows = collect_rows(subject, windows.ids, windows.document, [SITE], budget_mb=300)[SITE]
    options = TrainOptions(width=96, k=6, epochs=3, batch=256)
    made, _ = train(rows, options, torch.Generator().manual_seed(0))
    made = replace(made, metadata={"hook_name": SITE, "model_name": "tiny"})
    saelens.save(made, place / "small")
    named = EvaluateDictionary(dictionary=(str(place / "small"),), **SMALL)
    return execute("evaluate-dictionary", named, place / "run"), subject, made


def rows_of(done, name):
    return pq.read_table(done[0].path / f"tables/{name}.parquet").to_pylist()


def test_every_column_of_labels_is_described(done):
    there, described = columns_there(done[0].path), described_tables()
    for name in TABLES:
        assert there[name] == described[name], name


def test_probes_are_of_every_label_and_contender(done):
    rows = rows_of(done, "evaluation_probes")
    kinds = {row["contender"] for row in rows}
    assert kinds == {"dictionary", "random", "short", "raw", "pca"}
    assert {row["labels"] for row in rows} == {"token class", "kind of text"}
    assert {row["k"] for row in rows} == {1, 2, 4, 16}
    known = [row for row in rows if not math.isnan(row["auroc"])]
    assert len(known) > len(rows) / 2
    for row in known:
        assert 0 <= row["auroc"] <= 1 and row["n_documents"] > 5
        assert_close(row["selectivity"], row["accuracy"] - row["control_accuracy"])


def test_what_the_model_can_do_is_edited_and_the_rest_is_told(done):
    tasks = {row["task"]: row for row in rows_of(done, "evaluation_tasks")}
    assert tasks["form_and_noun"]["can"] and not tasks["names_and_order"]["can"]
    assert "several tokens" in tasks["names_and_order"]["why"]
    control = rows_of(done, "evaluation_control")
    assert {row["task"] for row in control} == {"form_and_noun"}
    form = {(row["contender"], row["method"], row["most"]): row for row in control
            if row["attribute"] == "form"}  # fmt: skip
    assert len(form) == 2 * 17 + 4
    turned = {key: row["turned"] for key, row in form.items()}
    assert turned["labels", "no edit", 0] == 0.0
    assert turned["labels", "supervised, means", 0] > 0.7
    assert turned["dictionary", "greedy", 8] > turned["dictionary", "random features", 2]
    kept = {row["contender"]: row["share"] for row in rows_of(done, "evaluation_kept")}
    assert kept["nothing changed"] == 1.0 and kept["mean ablation"] == 0.0
    assert kept["dictionary"] > kept["random"]


def test_the_summary_tells_edits_and_what_was_left_out(done):
    summary = done[0].summary
    turned = summary.figures["turned_form.small.form_and_noun"]
    (row,) = [row for row in rows_of(done, "evaluation_control")
              if (row["contender"], row["method"], row["most"]) == ("dictionary", "greedy", 2)
              and row["attribute"] == "form"]  # fmt: skip
    assert turned.value == row["turned"] and turned.n == row["turning"]
    assert any("names_and_order" in limit for limit in summary.limits)


def test_f1_of_a_row_is_that_of_its_feature(done):
    """Made again from the seed of the task, without what chose it."""
    _, subject, dictionary = done
    generator = torch.Generator().manual_seed(seed_of(0, "small", "form_and_noun"))
    made = ATTRIBUTED_TASKS["form_and_noun"].generate(subject.loaded.tokenizer, generator, 16)
    prompts = AttributedPrompts.of(made)
    states, _ = states_and_run(subject, SITE, made)
    rows = [
        row for row in rows_of(done, "evaluation_attributes")
        if row["contender"] == "dictionary" and row["place"] == "last"
        and row["attribute"] == "form" and row["union"] == 1
    ]  # fmt: skip
    active = dictionary.encode(states[:, -1]).dense() > 0
    f1 = feature_f1(active, prompts.labels)
    for value, row in enumerate(rows):
        both = [row["f1_chosen"], row["f1"]]
        assert min(both) - 0.1 <= float(f1[row["feature"], value]) <= max(both) + 0.1
    assert len(rows) == 2


def test_absorption_is_undefined_where_nothing_stands_for_a_letter(done):
    for row in rows_of(done, "evaluation_absorption"):
        assert math.isnan(row["rate"]) or row["stands"]
        assert row["absorbed"] <= row["silent"] <= row["known"]


def test_the_page_shows_labels(done):
    asked = {figure.name for figure in figures(read(done[0].path))}
    assert {"evaluation_probes", "evaluation_control"} <= asked
