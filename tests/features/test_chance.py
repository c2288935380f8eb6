import torch

from energylens.features.chance import random_dictionary_like
from energylens.features.evaluate import fvu
from tests.common.compare import assert_close
from tests.features.planted import random_weights, topk_dictionary


def test_keeps_shape_and_offset_and_nothing_else(generator):
    trained = topk_dictionary(random_weights(generator, width=64, d=12), 4, hook_name="embed")
    chance = random_dictionary_like(trained, generator)
    assert (chance.width, chance.k, chance.architecture) == (64, 4, "topk")
    assert_close(chance.b_dec, trained.b_dec)
    assert_close(chance.W_dec.norm(dim=1), torch.ones(64))
    assert float((chance.W_dec * trained.W_dec).sum(1).abs().mean()) < 0.4


def test_encoder_scale_is_the_best_for_rows_of_any_direction(generator):
    trained = topk_dictionary(random_weights(generator, width=1024, d=24), 8)
    chance = random_dictionary_like(trained, generator)
    low_rank = torch.randn(2000, 8, generator=generator, dtype=torch.float64)
    rows = low_rank @ torch.randn(8, 24, generator=generator, dtype=torch.float64) + trained.b_dec
    made = chance.reconstruct(rows) - chance.b_dec
    centered = rows - chance.b_dec
    slope = (centered * made).sum() / made.square().sum()
    assert_close(slope, 1.0, rtol=0.05)
    assert float(fvu(rows, chance.reconstruct(rows))) < 1


def test_seed_decides(generator):
    trained = topk_dictionary(random_weights(generator, width=16, d=6), 2)
    one, two = (
        random_dictionary_like(trained, torch.Generator().manual_seed(7)).W_enc for _ in range(2)
    )
    assert_close(one, two)
