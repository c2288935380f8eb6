import pytest
import torch

from energylens.core.errors import BadInput, EnergylensError, InsufficientData
from energylens.features import course as training
from energylens.features.chance import random_dictionary_like
from energylens.features.evaluate import fvu
from energylens.features.order import Order
from energylens.features.ordinary import Ordinary
from energylens.features.step import step
from energylens.features.train import train, train_many
from energylens.features.training import TrainOptions, move, ramp_of
from tests.common.compare import assert_close
from tests.features.planted import planted_rows, random_weights, topk_dictionary

SMALL = TrainOptions(width=64, k=3, epochs=4, batch=128)


@pytest.fixture
def rows(generator) -> torch.Tensor:
    return planted_rows(generator, n=1500)[0]


def _seeded() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def test_dictionary_is_in_the_units_of_the_rows(rows):
    dictionary, _ = train(rows, SMALL, _seeded())
    assert_close(dictionary.W_dec.norm(dim=1), torch.ones(64), rtol=1e-5)
    assert not dictionary.W_enc.requires_grad and dictionary.W_enc.is_contiguous()
    assert dictionary.W_enc.data_ptr() != dictionary.W_dec.data_ptr()
    assert float(fvu(rows, dictionary.reconstruct(rows))) < 0.35


def test_scaled_and_shifted_rows_give_the_same_dictionary_scaled_and_shifted(rows):
    x = rows.double()
    one, _ = train(x, SMALL, _seeded())
    other, _ = train(100 * x + 7, SMALL, _seeded())
    assert_close(other.W_dec, one.W_dec, rtol=1e-4, atol=1e-6)
    assert_close(other.reconstruct(100 * x + 7), 100 * one.reconstruct(x) + 7, rtol=1e-4, atol=1e-3)


def test_seed_decides(rows):
    (one, a), (two, b) = (train(rows, SMALL, _seeded()) for _ in range(2))
    assert torch.equal(one.W_enc, two.W_enc) and a.loss == b.loss
    other, _ = train(rows, SMALL, torch.Generator().manual_seed(4))
    assert not torch.equal(one.W_enc, other.W_enc)


def test_record_has_an_entry_a_step_and_the_loss_falls(rows):
    _, record = train(rows, SMALL, _seeded())
    assert record.steps == len(record.loss) == len(record.fvu) == len(record.dead_share) == 47
    assert (record.tokens, record.rows, record.massive_rows) == (47 * 128, 1500, 0)
    assert record.fvu[-1] < 0.6 * record.fvu[0]
    assert record.seconds > 0


def test_trained_beats_chance(rows):
    dictionary, _ = train(rows, SMALL, _seeded())
    chance = random_dictionary_like(dictionary, _seeded())
    found, by_chance = (float(fvu(rows, d.reconstruct(rows))) for d in (dictionary, chance))
    assert found < 0.5 * by_chance


def test_every_row_is_seen_once_an_epoch(generator):
    batches = Order(10, 4, generator)
    seen = torch.cat([next(batches) for _ in range(5)])
    assert sorted(seen[:10].tolist()) == sorted(seen[10:].tolist()) == list(range(10))
    assert seen[:10].tolist() != seen[10:].tolist()
    wide = next(Order(3, 8, generator))
    assert sorted(wide[:3].tolist()) == sorted(wide[3:6].tolist()) == [0, 1, 2]


def test_dead_latents_revive_only_with_the_auxiliary_loss(rows, monkeypatch):
    start = training.initial

    def partly_dead(*arguments):
        dictionary = start(*arguments)
        dictionary.W_enc[32:] *= 1e-2  # never among the k largest, though not below 0
        return dictionary

    monkeypatch.setattr(training, "initial", partly_dead)
    dead = {}
    for aux_k in (0, 8):
        options = TrainOptions(width=64, k=3, epochs=15, batch=128, aux_k=aux_k, aux_weight=0.25,
                               dead_after_tokens=512)  # fmt: skip
        dictionary, record = train(rows, options, _seeded())
        assert record.dead_share[6] >= 0.45
        counts = dictionary.encode(rows).column_counts()
        dead[aux_k] = float((counts[32:] == 0).double().mean())
    assert dead[0] > 0.9
    assert dead[8] < 0.1


def test_massive_rows_are_left_out_and_counted(rows):
    spoilt = torch.cat([rows, rows[:3] + 3000.0])
    massive = ~Ordinary.of(spoilt).holds(spoilt)
    assert massive.nonzero().flatten().tolist() == [1500, 1501, 1502]
    dictionary, record = train(spoilt, SMALL, _seeded())
    assert (record.rows, record.massive_rows) == (1500, 3)
    assert_close(dictionary.W_dec, train(rows, SMALL, _seeded())[0].W_dec)


def test_rows_captured_in_inference_mode_train(rows):
    with torch.inference_mode():
        captured = rows * 1.0
    dictionary, _ = train(captured, SMALL, _seeded())
    assert_close(dictionary.W_dec, train(rows, SMALL, _seeded())[0].W_dec)


def test_fewer_rows_than_a_batch_are_one_batch(rows):
    _, record = train(rows[:50], TrainOptions(width=64, k=3, epochs=2), _seeded())
    assert (record.steps, record.tokens) == (2, 100)


def test_loss_that_explodes_stops_at_its_step(rows):
    with pytest.raises(EnergylensError, match=r"step \d+ of 47 because the loss was (nan|inf)"):
        train(rows, TrainOptions(width=64, k=3, epochs=4, batch=128, lr=1e25), _seeded())


def test_rows_that_teach_nothing_are_refused(rows):
    with pytest.raises(InsufficientData, match="found 2 rows"):
        train(rows[:2], SMALL, _seeded())
    with pytest.raises(InsufficientData, match="rows are equal"):
        train(torch.ones(200, 4), SMALL, _seeded())
    rows[7, 1] = torch.inf
    with pytest.raises(BadInput, match="1 of 1500 rows hold nan or infinity"):
        train(rows, SMALL, _seeded())


@pytest.mark.parametrize(
    "wrong",
    [{"k": 0}, {"k": 5000}, {"epochs": 0}, {"lr": float("nan")}, {"batch": 0}, {"lr": -1.0},
     {"warmup": 1.5}, {"decay": -0.1}, {"aux_k": -1}, {"aux_weight": float("inf")},
     {"dead_after_tokens": 0}, {"massive": 0.0}],
)  # fmt: skip
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(BadInput, match="asked for"):
        TrainOptions(**wrong)


def test_learning_rate_falls_with_the_root_of_the_width():
    narrow, wide = (TrainOptions(width=w).learning_rate() for w in (1024, 4096))
    assert_close(narrow, 2 * wide)
    assert TrainOptions(lr=1e-3).learning_rate() == 1e-3


def test_gradient_along_a_decoder_row_reaches_neither_the_row_nor_adam(generator):
    weights = random_weights(generator, width=12, d=5)
    dictionary = topk_dictionary(weights, 2)
    x = torch.randn(8, 5, generator=generator, dtype=torch.float64)
    gradients = step(dictionary, x, 1.0).gradients
    before = dictionary.W_dec.clone()
    along = gradients | {"W_dec": 7 * dictionary.W_dec}
    optimizer = torch.optim.SGD(list(dictionary.weights.values()), lr=0.1, momentum=0.9)
    move(dictionary.weights, along, optimizer, unit_decoder=True)
    assert_close(dictionary.W_dec, before)
    assert_close(
        optimizer.state[dictionary.W_dec]["momentum_buffer"], torch.zeros(12, 5), atol=1e-12
    )


def test_ramp_rises_stays_and_falls():
    ramp = lambda done: ramp_of(done, TrainOptions(warmup=0.1, decay=0.5))
    assert_close([ramp(x) for x in (0.05, 0.1, 0.5, 0.75, 1.0)], [0.5, 1, 1, 0.5, 0])
    assert ramp_of(0.0, TrainOptions(warmup=0.0, decay=0.0)) == 1


def test_many_sites_are_trained_in_turn_under_their_names(rows):
    found = train_many({"a": rows, "b": 2 * rows}, SMALL, _seeded())
    assert list(found) == ["a", "b"]
    assert all(record.steps == 47 for _, record in found.values())


def test_progress_is_told_every_row(rows):
    class Counting:
        done = 0
        expected = 0

        def task(self, label, total, unit=""):
            from contextlib import nullcontext

            self.expected = total
            return nullcontext(self._advance)

        def _advance(self, amount: int) -> None:
            self.done += amount

    progress = Counting()
    train(rows, SMALL, _seeded(), progress=progress)
    assert progress.done == progress.expected == 47 * 128
