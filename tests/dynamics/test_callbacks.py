"""Trackers inside other libraries' loops see what they see in a plain one."""

import importlib.util

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from energylens.dynamics.callbacks import LightningCallback, TrainerCallback
from energylens.dynamics.tracker import Tracker
from tests.common.compare import assert_close
from tests.dynamics.networks import mlp, samples

COUNT, BATCH = 40, 8


def batches():
    x = samples(COUNT, seed=9)
    return [(x[at : at + BATCH], (x[at : at + BATCH, 0] > 0).long())
            for at in range(0, COUNT, BATCH)]  # fmt: skip


def without_dropout():
    model = mlp()
    model[2].p = 0.0
    return model


def plain(epochs=2, accumulated=1):
    model = without_dropout()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    tracker, step = Tracker(model, samples(), every=2), 0
    with tracker:
        for at, (x, y) in enumerate(batches() * epochs, start=1):
            loss = cross_entropy(model(x), y)
            (loss / accumulated).backward()
            if at % accumulated == 0:
                optimizer.step()
                step += 1
                tracker.after_step(step, loss=loss)
                optimizer.zero_grad()
    return tracker.history()


def assert_same(found, expected, *, loss=True):
    assert found.steps.tolist() == expected.steps.tolist()
    for name, series in expected.values.items():
        assert_close(found.values[name], series, rtol=1e-5)
    for name, series in expected.training.items():
        if name != "loss" or loss:
            assert_close(found.training[name], series, rtol=1e-5)


class Classifier(nn.Module):
    """What the Trainer of transformers calls."""

    def __init__(self):
        super().__init__()
        self.net = without_dropout()

    def forward(self, x, labels=None):
        logits = self.net(x)
        return {"logits": logits} if labels is None else {
            "loss": cross_entropy(logits, labels), "logits": logits
        }  # fmt: skip


@pytest.mark.filterwarnings("ignore")  # of the libraries
@pytest.mark.parametrize("logged", [1, 500])
def test_the_trainer_of_transformers(tmp_path, logged):
    transformers = pytest.importorskip("transformers")
    model = Classifier()
    data = [{"x": x, "labels": y} for some in batches() for x, y in zip(*some, strict=True)]
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path), num_train_epochs=2, per_device_train_batch_size=BATCH,
        learning_rate=0.1, lr_scheduler_type="constant", optim="sgd", max_grad_norm=0.0,
        logging_steps=logged, save_strategy="no", report_to=[], use_cpu=True, disable_tqdm=True,
        train_sampling_strategy="sequential",
    )  # fmt: skip
    tracker = Tracker(model, samples(), ["net.0", "net.3", "net.5"], every=2)
    transformers.Trainer(
        model, arguments, train_dataset=data, callbacks=[TrainerCallback(tracker)]
    ).train()
    # Unless it logs every step there is no loss of the step.
    assert_same(tracker.history(), plain(), loss=logged == 1)
    assert logged == 1 or tracker.history().training["loss"].isnan().all()


@pytest.mark.filterwarnings("ignore")  # of the libraries
@pytest.mark.parametrize("accumulated", [1, 2])
@pytest.mark.skipif(importlib.util.find_spec("lightning") is None, reason="needs lightning")
def test_lightning(tmp_path, accumulated):
    import lightning

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = without_dropout()

        def training_step(self, batch, index):
            x, y = batch
            return cross_entropy(self.net(x), y)

        def configure_optimizers(self):
            return torch.optim.SGD(self.net.parameters(), lr=0.1)

    module = Module()
    tracker = Tracker(module.net, samples(), every=2)
    x, y = (torch.cat(part) for part in zip(*batches(), strict=True))
    trainer = lightning.Trainer(
        max_epochs=2, accelerator="cpu", callbacks=[LightningCallback(tracker)], logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        default_root_dir=tmp_path, accumulate_grad_batches=accumulated,
    )  # fmt: skip
    trainer.fit(module, DataLoader(TensorDataset(x, y), batch_size=BATCH))
    if accumulated == 1:
        assert_same(tracker.history(), plain())
    else:  # an epoch of five batches ends with an update of one
        assert tracker.history().steps.tolist() == [0, 2, 4, 6]


def test_what_a_library_calls_beside_does_nothing():
    tracker = Tracker(mlp(), samples())
    for callback in (LightningCallback(tracker), TrainerCallback(tracker)):
        assert callback.on_something_new(1, two=2) is None
        with pytest.raises(AttributeError, match="has no attribute 'other'"):
            callback.other  # noqa: B018
