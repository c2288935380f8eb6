"""Dictionaries that read and write parts of a row, as one: beside a dense decode of each part."""

import pytest
import torch

from energylens.features.code import SparseCode
from energylens.features.cross_layer import CrossLayerTranscoder
from energylens.features.dictionary import Dictionary
from energylens.features.layered import Layered, one_a_layer
from tests.common.compare import assert_close

LAYERS, WIDTHS, D_IN, D_OUT = 3, (10, 6, 8), 5, 4


@pytest.fixture
def transcoder(generator) -> CrossLayerTranscoder:
    def drawn(*shape):
        return torch.randn(*shape, generator=generator)

    return CrossLayerTranscoder(
        architecture="topk", k=2, layers=(2, 3, 5),
        W_enc=tuple(drawn(w, D_IN) for w in WIDTHS), b_enc=tuple(drawn(w) for w in WIDTHS),
        W_dec=tuple(drawn(w, LAYERS - n, D_OUT) for n, w in enumerate(WIDTHS)),
        b_dec=drawn(LAYERS, D_OUT),
    )  # fmt: skip


def test_it_is_the_transcoder_whose_layers_lie_side_by_side(transcoder, generator):
    layered = Layered.of(transcoder)
    rows = torch.randn(7, LAYERS * D_IN, generator=generator)
    inputs = dict(zip(transcoder.layers, rows.split(D_IN, 1), strict=True))
    made = torch.cat(list(transcoder.reconstruct(inputs).values()), 1)
    assert_close(layered.reconstruct(rows), made, rtol=1e-5, atol=1e-6)
    codes = [code.dense() for code in transcoder.encode(inputs).values()]
    assert_close(layered.encode(rows).dense(), torch.cat(codes, 1))
    assert (layered.width, layered.d_in, layered.d_out, layered.k) == (24, 15, 12, 6)


def test_a_code_is_decoded_by_the_decoder_as_a_matrix(transcoder, generator):
    """Rows have entries of any feature in any order, of value 0, or none of a part."""
    layered = Layered.of(transcoder)
    indices = torch.tensor([[23, 0, 12], [3, 1, 2], [11, 15, 10]])
    values = torch.tensor([[1.0, -2.0, 0.5], [1.0, 0.0, 2.0], [0.0, 0.0, 3.0]])
    code = SparseCode(indices=indices, values=values, width=24)
    assert_close(layered.decode(code), code.dense() @ layered.decoder + layered.b_dec)
    nothing = SparseCode(indices=indices[:, :0], values=values[:, :0], width=24)
    assert_close(layered.decode(nothing), layered.b_dec.expand(3, -1))
    assert_close(layered.decoder[:10], transcoder.W_dec[0].flatten(1))
    assert_close(layered.decoder[16:, -D_OUT:], transcoder.W_dec[2][:, 0])
    assert_close(layered.decoder[16:, :-D_OUT], torch.zeros(8, 2 * D_OUT))


def test_layers_of_their_own_write_only_there(generator):
    def part(width):
        return Dictionary(
            architecture="topk", k=2, W_enc=torch.randn(width, D_IN, generator=generator),
            b_enc=torch.zeros(width), W_dec=torch.randn(width, D_OUT, generator=generator),
            b_dec=torch.randn(D_OUT, generator=generator), subtracts_b_dec=False,
        )  # fmt: skip

    parts = [part(9), part(7)]
    layered = one_a_layer(parts)
    rows = torch.randn(5, 2 * D_IN, generator=generator)
    alone = [p.reconstruct(r.contiguous()) for p, r in zip(parts, rows.split(D_IN, 1), strict=True)]
    assert_close(layered.reconstruct(rows), torch.cat(alone, 1), rtol=1e-5, atol=1e-6)
    half = layered.to(dtype=torch.float64)
    assert half.encode(rows.double()).values.dtype == torch.float64
    assert set(layered.weights) == {"b_dec"} | {
        f"{name}.{n}" for name in ("W_enc", "b_enc", "W_dec", "b_dec") for n in (0, 1)
    }
