"""Triton kernels against dense products: on a GPU where there is one, else interpreted."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from energylens.core import sparse
from energylens.features.architecture import ARCHITECTURES
from energylens.features.dictionary import Dictionary
from energylens.features.step import step
from tests.common.compare import assert_close
from tests.features.planted import random_weights

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if DEVICE == "cpu":  # to be known when triton is imported
    if "triton.language" in sys.modules:
        pytest.skip("triton is there already, to be compiled", allow_module_level=True)
    os.environ["TRITON_INTERPRET"] = "1"
pytest.importorskip("triton")
from energylens.core import sparse_triton  # noqa: E402

TYPES = [torch.float32, torch.float64]
SHAPES = [
    (9, 6, 5, 0.4),  # d less than a block
    (20, 37, 200, 0.3),  # d no multiple of it, width no power of two
    (70, 3, 128, 0.9),  # more entries a feature than a program reads at once
    (3, 90, 33, 0.95),  # and more entries a row
    (6, 8, 1, 0.5),
]


def ragged(generator, n, m, d, share, dtype):
    """A code with rows and features that have no entry, and what it is multiplied with."""
    code = torch.randn(n, m, generator=generator, dtype=dtype)
    code *= torch.rand(n, m, generator=generator) < share
    code[n // 2] = 0
    code[:, m // 2] = 0
    W, rows = (torch.randn(k, d, generator=generator, dtype=dtype) for k in (m, n))
    return code.to(DEVICE), W.to(DEVICE), rows.to(DEVICE)


def bounds_of(count):
    return torch.cat([count.new_zeros(1), count.cumsum(0)])


@pytest.fixture
def by_triton(monkeypatch):
    """`core.sparse` as it is where tensors are on a CUDA device and Triton is there."""
    monkeypatch.setattr(sparse, "_fused", lambda *tensors: sparse_triton)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_kernels_are_the_dense_products(generator, shape, dtype):
    code, W, rows = ragged(generator, *shape, dtype)
    row, feature = code.nonzero(as_tuple=True)
    bounds = bounds_of((code != 0).sum(1))
    near = 1e-5 if dtype == torch.float32 else 1e-12
    made = sparse_triton.weighted_sums(feature, code[row, feature], bounds, W)
    assert made.dtype == dtype
    assert_close(made, code @ W, rtol=near, atol=near)
    read = sparse_triton.products_at(rows, feature, bounds, W)
    assert_close(read, (rows @ W.T)[row, feature], rtol=near, atol=10 * near)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_sparse_products_by_triton_are_the_dense_ones(generator, by_triton, shape):
    code, W, rows = ragged(generator, *shape, torch.float64)
    row, feature = code.nonzero(as_tuple=True)
    count = (code != 0).sum(1)
    start, values = count.cumsum(0) - count, code[row, feature]
    assert_close(sparse.combine(feature, values, W, start), code @ W, atol=1e-12)
    read = sparse.sampled_products(rows, feature, W, start)
    assert_close(read, (rows @ W.T)[row, feature], atol=1e-12)
    entries = sparse.by_feature(feature, len(W), start)
    assert_close(sparse.transposed_product(entries, values, rows), code.T @ rows, atol=1e-12)
    assert_close(sparse.sums_by_feature(entries, values), code.sum(0), atol=1e-12)


def test_codes_of_one_length_and_of_none(generator, by_triton):
    W = torch.randn(15, 7, generator=generator, dtype=torch.float64).to(DEVICE)
    rows = torch.randn(20, 7, generator=generator, dtype=torch.float64).to(DEVICE)
    indices = torch.rand(20, 15, generator=generator).topk(4, dim=1).indices.to(DEVICE)
    values = torch.randn(20, 4, generator=generator, dtype=torch.float64).to(DEVICE)
    dense = W.new_zeros(20, 15).scatter(1, indices, values)
    assert_close(sparse.combine(indices, values, W), dense @ W, atol=1e-12)
    assert_close(sparse.sampled_products(rows, indices, W), (rows @ W.T).gather(1, indices))
    entries = sparse.by_feature(indices, 15)
    assert_close(sparse.transposed_product(entries, values, rows), dense.T @ rows, atol=1e-12)
    nothing = indices[:, :0]
    assert_close(sparse.combine(nothing, values[:, :0], W), torch.zeros(20, 7))
    assert sparse.sampled_products(rows, nothing, W).shape == (20, 0)
    none = sparse.by_feature(nothing, 15)
    assert_close(sparse.transposed_product(none, values[:, :0], rows), torch.zeros(15, 7))


def test_the_same_call_gives_the_same_bits(generator):
    code, _, _ = ragged(generator, 70, 9, 128, 0.9, torch.float32)
    row, feature = code.T.nonzero(as_tuple=True)
    bounds = bounds_of((code.T != 0).sum(1))
    table = torch.randn(70, 128, generator=generator).to(DEVICE)
    values = code.T[row, feature]
    first = sparse_triton.weighted_sums(feature, values, bounds, table)
    assert first.equal(sparse_triton.weighted_sums(feature, values, bounds, table))


def test_half_types_are_summed_in_float32(generator):
    values = torch.full((3000,), 1.0, dtype=torch.bfloat16, device=DEVICE)
    index = torch.zeros(3000, dtype=torch.int64, device=DEVICE)
    bounds = torch.tensor([0, 3000], device=DEVICE)
    ones = torch.ones(1, 20, dtype=torch.bfloat16, device=DEVICE)
    made = sparse_triton.weighted_sums(index, values, bounds, ones).float()
    assert_close(made, torch.full((1, 20), 3000.0), rtol=1e-2)


def test_a_step_by_triton_is_the_step(generator, monkeypatch):
    weights = random_weights(generator, width=24, d=7)
    x = torch.randn(30, 7, generator=generator, dtype=torch.float64)
    for name in ("topk", "batchtopk", "jumprelu"):
        own = ARCHITECTURES[name].own(24, x)
        dictionary = Dictionary(architecture=name, k=3, **weights, own=own).to(DEVICE)
        here = x.to(DEVICE)
        monkeypatch.setattr(sparse, "_fused", lambda *tensors: None)
        plain = step(dictionary, here, 2.0, dense=False)
        monkeypatch.setattr(sparse, "_fused", lambda *tensors: sparse_triton)
        fused = step(dictionary, here, 2.0, dense=False)
        assert fused.loss == pytest.approx(plain.loss, rel=1e-12)
        for weight, gradient in plain.gradients.items():
            assert_close(fused.gradients[weight], gradient, rtol=1e-9, atol=1e-12)


COMPILE = """
import triton, triton.language as tl
from triton.backends.compiler import GPUTarget
from energylens.core import sparse_triton as made
for kernel in (made._weighted_sums, made._products_at):
    for kind, total in (("fp32", tl.float32), ("fp64", tl.float64)):
        given = {"ENTRIES": made.ENTRIES, "COLUMNS": made.COLUMNS, "SUM": total}
        types = {"d": "i32", "index": "*i64", "bounds": "*i64"} | dict.fromkeys(given, "constexpr")
        types = {name: types.get(name, f"*{kind}") for name in kernel.arg_names}
        source = triton.compiler.ASTSource(kernel, types, constexprs=given)
        built = triton.compile(
            source, target=GPUTarget("cuda", 90, 32), options={"enable_fp_fusion": True}
        )
        assert built.asm["cubin"] and "atom" not in built.asm["ptx"]
"""


@pytest.mark.slow
def test_kernels_compile_for_a_gpu_that_is_not_there_and_have_no_atomics():
    plain = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    paths = os.pathsep.join([str(Path(sparse.__file__).parents[2]), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", COMPILE], env=plain | {"PYTHONPATH": paths},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.gpu
def test_on_a_gpu_the_kernels_are_what_is_called(generator):
    W = torch.randn(15, 7, generator=generator).cuda()
    assert sparse._fused(W) is sys.modules["energylens.core.sparse_triton"]
    assert sparse._fused(W.requires_grad_()) is None, "autograd knows the torch operations"


def test_on_a_cpu_nothing_is_called():
    assert sparse._fused(torch.ones(3, 2)) is None
