import pytest
import torch

from energylens.core.errors import BadInput, UnknownName
from energylens.features.dictionary import Dictionary
from tests.common.compare import assert_close
from tests.features.planted import random_weights, topk_dictionary


@pytest.fixture
def dictionary(generator) -> Dictionary:
    return topk_dictionary(random_weights(generator, width=40, d=8), 5, hook_name="embed")


@pytest.fixture
def rows(generator) -> torch.Tensor:
    return torch.randn(17, 8, generator=generator, dtype=torch.float64)


def test_decode_is_the_dense_product(dictionary, rows):
    code = dictionary.encode(rows)
    assert_close(dictionary.decode(code), code.dense() @ dictionary.W_dec + dictionary.b_dec)
    assert_close(dictionary.reconstruct(rows), dictionary.decode(code))


def test_pre_activations_are_the_values_before_selection(dictionary, rows):
    features = torch.tensor([7, 0, 39])
    expected = (rows - dictionary.b_dec) @ dictionary.W_enc[features].T + dictionary.b_enc[features]
    assert_close(dictionary.pre_activations(rows, features), expected)
    code = dictionary.encode(rows)
    every = dictionary.pre_activations(rows, torch.arange(40))
    assert_close(every.gather(1, code.indices).relu(), code.values)


def test_to_changes_every_tensor_and_keeps_the_rest(dictionary, rows):
    single = dictionary.to(dtype=torch.float32)
    assert {single.W_enc.dtype, single.b_enc.dtype, single.W_dec.dtype, single.b_dec.dtype} == {
        torch.float32
    }
    assert single.metadata == dictionary.metadata and single.k == 5
    assert_close(single.reconstruct(rows.float()), dictionary.reconstruct(rows).float(), rtol=1e-4)


def test_reconstruction_is_differentiable_by_the_rows(dictionary, rows):
    x = rows.clone().requires_grad_()
    assert torch.autograd.gradcheck(dictionary.reconstruct, x)


def test_inference_mode_gives_the_same(dictionary, rows):
    expected = dictionary.reconstruct(rows)
    with torch.inference_mode():
        assert_close(dictionary.reconstruct(rows.clone()), expected)
    assert not expected.requires_grad


def test_rows_of_another_width_or_type_are_refused(dictionary):
    with pytest.raises(BadInput, match=r"reads rows of 8 .* found 9"):
        dictionary.encode(torch.zeros(3, 9, dtype=torch.float64))
    with pytest.raises(BadInput, match=r"found 8 torch\.float32"):
        dictionary.encode(torch.zeros(3, 8))


def test_code_of_another_dictionary_is_refused(dictionary, rows, generator):
    other = topk_dictionary(random_weights(generator, width=41, d=8), 5)
    with pytest.raises(BadInput, match="41 features, the dictionary 40"):
        dictionary.decode(other.encode(rows))


def test_unknown_architecture_names_the_known(generator, rows):
    weights = random_weights(generator, width=10, d=8)
    with pytest.raises(UnknownName, match="topk"):
        Dictionary(architecture="top_k", k=2, **weights).encode(rows)
