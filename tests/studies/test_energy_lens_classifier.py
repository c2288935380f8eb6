"""The study of image classifiers from end to end, with planted truths and bad inputs."""

import json
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch import nn
from transformers import BertConfig, BertForMaskedLM, ViTConfig, ViTForImageClassification

from energylens.activations.subject import Subject
from energylens.core.errors import ArtifactRefused, BadInput, InsufficientData, UnknownName
from energylens.core.ports import silence
from energylens.features.training import TrainOptions
from energylens.report.page import build
from energylens.run.edges.store.folder import Folder
from energylens.run.execute import execute
from energylens.sources.images import Images
from energylens.sources.model import load_classifier
from energylens.studies.energy_lens_classifier import EnergyLensClassifier
from energylens.studies.energy_lens_classifier.material import Material
from energylens.studies.energy_lens_classifier.scoring import (
    MARGIN,
    WRONG_LABELS,
    infer_images,
    score_images,
)
from energylens.studies.energy_lens_classifier.tables import own_rows
from tests.common.compare import assert_close
from tests.common.run_directory import columns_there, described_tables, of_images

SMALL = dict(width=24, k=4, proof_features=3, proof_images=8, accuracy_features=3, draws=1_000,
             most_images=1_000, threads=1)  # fmt: skip


def rows(run: Path, name: str) -> list[dict]:
    return pq.read_table(run / "tables" / f"{name}.parquet").to_pylist()


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("run") / "mlp"
    execute("energy-lens-classifier", EnergyLensClassifier(**SMALL), out)
    return out


def test_the_summary_counts_what_the_tables_hold(finished):
    summary = json.loads((finished / "summary.json").read_text())
    features = rows(finished, "features")
    assert len(features) == 3 * 24 and {row["layer"] for row in features} == {0, 1, 2}
    found = summary["figures"][f"features_beyond_chance.{MARGIN}"]
    assert found["value"] == sum(row["beyond"] for row in features)
    assert found["n"] == 500 and found["n_unit"] == "images"
    covary = sum(row["p_documents"] <= 0.05 for row in features if row["status"] == "scored")
    assert summary["finding"].startswith(f"{covary} of ")
    accuracy = sum(row["accuracy"] * row["n_images"] for row in rows(finished, "classes")) / 500
    assert_close(summary["figures"]["accuracy"]["value"], accuracy)
    assert accuracy > 0.8


def test_every_control_stands_beside_the_real_thing(finished):
    assert {row["control"] for row in rows(finished, "controls")} == {
        "permuted decoder", "matched random directions", "activations of another image",
        "labels of other images", "random-weight model",
    }  # fmt: skip
    found = rows(finished, "own_rows")
    for name in ("labels of other images", "activations of another image"):
        assert all(row["p"] > 0.01 for row in found if row["analysis"] == name)
    assert min(row["p"] for row in found if row["analysis"] == MARGIN) < 0.01


def test_the_margin_is_linear_behind_the_last_hidden_layer(finished):
    """There the prediction to first order is what is measured, up to rounding."""
    last = [row for row in rows(finished, "effects") if row["site"] == "hidden3:out"]
    assert last
    for row in last:
        assert_close(row["measured_class_margin"], row["predicted_class_margin"], rtol=1e-4,
                     atol=1e-5)  # fmt: skip


def test_effects_on_classes_are_against_their_mean(finished):
    sums: dict[tuple, float] = {}
    for row in rows(finished, "class_effects"):
        key = row["site"], row["feature"]
        sums[key] = sums.get(key, 0.0) + row["change"]
        assert row["verdict"] in ("", "raises", "lowers")
        assert (row["verdict"] == "raises") == (row["q"] <= 0.05 and row["change"] < 0)
    assert sums and all(abs(total) < 1e-9 for total in sums.values())


def test_the_page_speaks_of_images(finished):
    page = build(finished).read_text()
    for said in ("Which classes does a feature speak for?", "Is a feature&#39;s own direction",
                 "unit: image", "labels of other images"):  # fmt: skip
        assert said in page
    assert "unit: document" not in page


def test_every_column_is_described(finished):
    described = described_tables()
    for name, columns in columns_there(finished).items():
        if f"{name}_of_images" in described:
            assert columns <= described[f"{name}_of_images"]
        elif of_images(name):
            assert columns == described[name]
        else:
            assert columns <= described[name]


@pytest.mark.slow
def test_an_interrupted_run_ends_the_same(finished, tmp_path, monkeypatch):
    out = tmp_path / "broken"
    done = Folder.save
    saved: list[str] = []

    def stops(self, part, **what):
        done(self, part, **what)
        saved.append(part)
        if len(saved) in (1, 4, 7):
            raise KeyboardInterrupt

    monkeypatch.setattr(Folder, "save", stops)
    for _ in range(3):
        with pytest.raises(BaseException):  # noqa: B017
            execute("energy-lens-classifier", EnergyLensClassifier(**SMALL), out)
    execute("energy-lens-classifier", EnergyLensClassifier(**SMALL), out)
    assert saved.count("network") == 1
    assert (out / "summary.json").read_bytes() == (finished / "summary.json").read_bytes()


# ---- planted truth


class Planted(nn.Module):
    """The first directions of the hidden layer decide, one a class; all others carry noise."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.hidden = nn.Identity()
        weight = torch.zeros(classes, 16)
        weight[1:, : classes - 1] = 2.0 * torch.eye(classes - 1)
        self.register_buffer("weight", weight)
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.hidden(pixels.flatten(1)) @ self.weight.T


def planted(generator: torch.Generator, classes: int = 2) -> Material:
    """Images of 4 × 4 pixels, each a sparse sum of axes; pixel c − 1 is on in images of class c."""
    on = (torch.rand(1200, 16, generator=generator) < 0.25).float()
    labels = torch.randint(classes, (1200,), generator=generator)
    on[:, : classes - 1] = torch.nn.functional.one_hot(labels, classes)[:, 1:].float()
    pixels = on * (1 + torch.rand(1200, 16, generator=generator))
    # One image in five is labelled blindly: the slope of the energy goes both ways.
    blind = torch.rand(1200, generator=generator) < 0.2
    labels = torch.where(blind, torch.randint(classes, (1200,), generator=generator), labels)
    images = Images(
        pixels=pixels.view(-1, 1, 4, 4), labels=labels, classes=[str(c) for c in range(classes)],
        name="planted", source="made here", sha256="0",
    )  # fmt: skip
    train, held_out = images.take(torch.arange(600)), images.take(torch.arange(600, 1200))
    shares = torch.bincount(held_out.labels).double()
    return Material(
        subject=Subject(loaded=load_classifier(Planted(classes)), sites={}), sites=("hidden:out",),
        train=train, held_out=held_out, shares=shares / shares.sum(),
        dictionaries={"hidden:out": TrainOptions(width=16, k=6, batch=128, epochs=200)},
    )  # fmt: skip


def test_the_direction_that_decides_is_found_and_no_other(tmp_path, generator):
    material = planted(generator)
    trained = score_images(material, Folder(tmp_path / "run"), model="trained", seed=0,
                           progress=silence)  # fmt: skip
    found = infer_images(trained, None, draws=2_000, seed=0)
    scores = found.energies[MARGIN]["hidden:out"]
    axis = trained.benches["hidden:out"].dictionary.W_dec.abs().argmax(1)
    assert axis.unique().numel() == 16  # the dictionary has found every axis
    # With two classes the gradient has one direction, so other rows cannot be worse: the first
    # null alone can find it.
    covary = (scores.p_documents <= 0.05).nonzero()[:, 0]
    assert axis[covary].tolist() == [0] and float(scores.efas[covary]) > 0.3
    for name in (WRONG_LABELS, "activations of another image"):
        assert not bool((found.controls[name]["hidden:out"].p_documents <= 0.05).any())


def test_the_directions_of_several_classes_are_told_from_noise(tmp_path, generator):
    material = planted(generator, classes=5)
    trained = score_images(material, Folder(tmp_path / "run"), model="trained", seed=0,
                           progress=silence)  # fmt: skip
    found = infer_images(trained, None, draws=2_000, seed=0)
    scores = found.energies[MARGIN]["hidden:out"]
    axis = trained.benches["hidden:out"].dictionary.W_dec.abs().argmax(1)
    covary = scores.p_documents <= 0.05
    assert sorted(axis[covary].tolist()) == [0, 1, 2, 3] and bool((scores.efas[covary] > 0.5).all())
    assert bool((scores.efas[~covary].abs() < 0.2).all())
    for name in (WRONG_LABELS, "activations of another image"):
        assert not bool((found.controls[name]["hidden:out"].p_documents <= 0.05).any())


def test_with_labels_that_mean_nothing_nothing_is_found(tmp_path, generator):
    material = planted(generator)
    order = torch.randperm(600, generator=generator)
    blind = replace(material.held_out, labels=material.held_out.labels[order])
    trained = score_images(replace(material, held_out=blind), Folder(tmp_path / "run"),
                           model="trained", seed=0, progress=silence)  # fmt: skip
    found = infer_images(trained, None, draws=2_000, seed=0)
    assert not bool((found.energies[MARGIN]["hidden:out"].p_documents <= 0.05).any())
    own = {row["analysis"]: row["p"] for row in own_rows(trained, None, found, seed=0)}
    assert own[MARGIN] > 0.01


# ---- a Hugging Face classifier, and images of one's own


@pytest.fixture(scope="module")
def vit(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        image_size=8, patch_size=4, num_channels=3, num_labels=4,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("models") / "vit"
    ViTForImageClassification(config).save_pretrained(folder)
    said = {"image_mean": [0.5] * 3, "image_std": [0.25] * 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(said))
    return folder


def npz(path: Path, images: np.ndarray, labels: np.ndarray) -> str:
    np.savez(path, images=images, labels=labels)
    return str(path)


def noise(count: int = 240, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (count, 10, 10), dtype=np.uint8)
    return pixels, random.integers(0, classes, count)


def test_a_vision_transformer_from_a_folder(vit, tmp_path):
    out = tmp_path / "run"
    options = {**SMALL, "width": 32, "k": 2, "random_weights": False, "proof_images": 5}
    execute("energy-lens-classifier",
            EnergyLensClassifier(model=str(vit), images=npz(tmp_path / "a.npz", *noise()),
                                 **options), out)  # fmt: skip
    features = rows(out, "features")
    assert {row["site"] for row in features} == {"vit.layers.0:out", "vit.layers.1:out"}
    # Of the last layer only the class token is read: no other position has a slope.
    assert {row["class"] for row in rows(out, "classes")} == {f"LABEL_{c}" for c in range(4)}
    record = json.loads((out / "run.json").read_text())
    assert record["inputs"]["model"]["name"] == "vit"
    assert record["inputs"]["images"]["images"] == 120
    assert (out / "dictionaries" / "vit.layers.0-out" / "cfg.json").is_file()


# ---- bad input


def refused(error, words, tmp_path, **options):
    with pytest.raises(error, match=words) as caught:
        execute("energy-lens-classifier", EnergyLensClassifier(**{**SMALL, **options}),
                tmp_path / "bad")  # fmt: skip
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "bad").exists()


@pytest.mark.parametrize(
    ("images", "labels", "error", "words"),
    [
        (np.zeros((300, 8)), np.zeros(300), BadInput, "shape 300×8"),
        (np.zeros((300, 5, 8, 8)), np.zeros(300), BadInput, "1, 3 or 4 channels"),
        (np.zeros((300, 8, 8)), np.zeros(299), BadInput, "there are 300 images"),
        (np.zeros((300, 8, 8)), np.full(300, 0.5), BadInput, "whole numbers from 0"),
        (np.zeros((300, 8, 8)), np.arange(300) - 1, BadInput, "whole numbers from 0"),
        (np.full((300, 8, 8), np.nan), np.arange(300) % 3, BadInput, "nan or infinite"),
        (np.zeros((199, 8, 8)), np.arange(199) % 3, InsufficientData, "need 200 images"),
        (np.zeros((300, 8, 8)), np.zeros(300), InsufficientData, "one class"),
        (np.array([None] * 300), np.zeros(300), ArtifactRefused, "pickled objects"),
    ],
)
def test_images_that_cannot_be_used(images, labels, error, words, tmp_path):
    refused(error, words, tmp_path, images=npz(tmp_path / "a.npz", images, labels))


def test_files_that_hold_no_images(tmp_path):
    refused(BadInput, "no images are at", tmp_path, images=str(tmp_path / "none.npz"))
    (tmp_path / "text.npz").write_text("no archive")
    refused(ArtifactRefused, "cannot be read|pickled", tmp_path, images=str(tmp_path / "text.npz"))
    np.savez(tmp_path / "b.npz", pictures=np.zeros(3))
    refused(BadInput, "no array 'images', only pictures", tmp_path, images=str(tmp_path / "b.npz"))


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"sites": ("hiden2:out",)}, UnknownName, "hidden2"),
        ({"k": 50}, BadInput, "k must be less"),
        ({"model": "./nowhere"}, BadInput, "needs images"),
        ({"width": 5_000}, InsufficientData, "lower --width"),
        ({"device": "tpu"}, BadInput, "no device 'tpu'"),
    ],
)
def test_options_that_cannot_be_met(options, error, words, tmp_path):
    refused(error, words, tmp_path, **options)


def test_labels_beyond_the_classes_of_a_model(vit, tmp_path):
    images = npz(tmp_path / "a.npz", *noise(classes=6))
    refused(BadInput, "go up to 5 and vit has 4 classes", tmp_path, model=str(vit), images=images)


def test_a_model_that_is_no_image_classifier(tmp_path):
    config = BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1,
                        intermediate_size=8, vocab_size=20)  # fmt: skip
    BertForMaskedLM(config).save_pretrained(tmp_path / "bert")
    refused(BadInput, "not an image classifier: language models go through", tmp_path,
            model=str(tmp_path / "bert"), images=npz(tmp_path / "a.npz", *noise()))  # fmt: skip


def test_a_module_without_scores_of_classes():
    from energylens.energy.energies.class_energy import must_classify

    maps = nn.Sequential(OrderedDict(conv=nn.Conv2d(1, 2, 3)))(torch.zeros(3, 1, 8, 8))
    with pytest.raises(BadInput, match="no classifier: for 3 images it gives a tensor of shape"):
        must_classify(maps, 3, "maps")
