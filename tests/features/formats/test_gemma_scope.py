"""Files of Gemma Scope and Gemma Scope 2, by the formula that their authors give."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from energylens.core.errors import ArtifactRefused, BadInput
from energylens.features.formats import gemma_scope
from energylens.features.formats.recognise import load_dictionary
from tests.common.compare import assert_close
from tests.features.formats.made import WIDTH, D, changed, dictionary, draw, same, write_json


def params(generator, *, d_out=D):
    return {
        "W_enc": draw(generator, D, WIDTH), "W_dec": draw(generator, WIDTH, d_out),
        "b_enc": 0.3 * draw(generator, WIDTH), "b_dec": draw(generator, d_out),
        "threshold": draw(generator, WIDTH).abs(),
    }  # fmt: skip


def write_npz(path, kept):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **{name: np.asarray(w) for name, w in kept.items()})
    return path


def formula(kept, x):
    z = x @ kept["W_enc"] + kept["b_enc"]
    acts = (z > kept["threshold"]) * z.relu()
    return acts, acts @ kept["W_dec"] + kept["b_dec"]


@pytest.mark.parametrize("d_out", [D, 6])
@pytest.mark.parametrize("lower", [True, False])
def test_gemma_scope(d_out, lower, generator, tmp_path):
    kept = params(generator, d_out=d_out)
    named = {n.replace("W_", "w_") if lower else n: w for n, w in kept.items()}
    write_npz(tmp_path / "params.npz", named | {"scaling_factor": np.ones(WIDTH)})
    found = gemma_scope.load(tmp_path)
    x = draw(generator, 30, D)
    acts, made = formula(kept, x)
    assert found.architecture == "jumprelu" and not found.subtracts_b_dec
    assert_close(found.encode(x).dense(), acts, rtol=1e-5, atol=1e-5)
    assert_close(found.reconstruct(x), made, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("skip", [True, False])
def test_gemma_scope_2(skip, generator, tmp_path):
    kept = params(generator, d_out=6)
    named = {n.replace("W_", "w_"): w for n, w in kept.items()}
    x = draw(generator, 30, D)
    acts, made = formula(kept, x)
    if skip:
        named["affine_skip_connection"] = draw(generator, D, 6)
        made = made + x @ named["affine_skip_connection"]
    save_file(named, tmp_path / "params.safetensors")
    write_json(tmp_path / "config.json", model_name="gemma-3-270m", architecture="jump_relu")
    found = gemma_scope.load(tmp_path)
    assert_close(found.encode(x).dense(), acts, rtol=1e-5, atol=1e-5)
    assert_close(found.reconstruct(x), made, rtol=1e-4, atol=1e-4)
    assert found.metadata == {"model_name": "gemma-3-270m"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"threshold": None}, "threshold not found"),
        ({"other": np.zeros(2)}, "found other as well"),
        ({"b_enc": np.zeros(39, np.float32)}, r"b_enc should have shape \(40,\) .*found \(39,\)"),
        ({"W_dec": np.zeros((40, 3, 8), np.float32)}, r"w_dec should have shape \(40, d_out\)"),
        ({"b_dec": np.zeros(8, np.int64)}, "b_dec as torch.int64"),
        ({"b_dec": np.full(8, np.nan, np.float32)}, "b_dec holds 8 values"),
        ({"b_dec": np.array(["a"] * 8)}, "no readable npz file of numbers"),
        ({"b_dec": np.array([None] * 8)}, "no readable npz file of numbers"),
        ({"scaling_factor": np.full(40, 2.0)}, "scaling_factor other than 1"),
    ],
)
def test_what_is_not_read_is_named(changes, message, generator, tmp_path):
    kept = {name: np.asarray(w) for name, w in params(generator).items()}
    with pytest.raises(ArtifactRefused, match=message):
        gemma_scope.load(write_npz(tmp_path / "params.npz", changed(kept, **changes)))


@pytest.mark.parametrize("name", ["jumprelu", "standard"])
@pytest.mark.parametrize("how", [{}, {"subtracts_b_dec": False, "d_out": 6}, {"skip": True}])
def test_what_is_saved_does_the_same(name, how, generator, tmp_path):
    made = dictionary(name, generator, model_name="tiny", **how)
    folder = gemma_scope.save(made, tmp_path / "d")
    assert (folder / gemma_scope.FILES["skip" in how]).is_file()
    found = load_dictionary(folder)
    x = draw(generator, 30, D)
    assert found.architecture == "jumprelu"
    assert_close(found.encode(x).dense(), made.encode(x).dense(), rtol=1e-5, atol=1e-5)
    assert_close(found.reconstruct(x), made.reconstruct(x), rtol=1e-4, atol=1e-4)
    again = gemma_scope.save(found, tmp_path / "again")  # nothing left to fold
    same(load_dictionary(again), found, x)
    assert [p.read_bytes() for p in sorted(folder.iterdir())] == [
        p.read_bytes() for p in sorted(gemma_scope.save(made, tmp_path / "twice").iterdir())
    ]


def test_bfloat16_is_written_where_it_fits(generator, tmp_path):
    made = dictionary("jumprelu", generator, subtracts_b_dec=False).to(dtype=torch.bfloat16)
    found = gemma_scope.load(gemma_scope.save(made, tmp_path / "d"))
    same(found, made, draw(generator, 30, D, dtype=torch.bfloat16))


@pytest.mark.parametrize("name", ["topk", "gated", "groupmax"])
def test_what_gemma_scope_does_not_have_is_not_written(name, generator, tmp_path):
    with pytest.raises(BadInput, match=f"jumprelu alone: a {name} cannot be written"):
        gemma_scope.save(dictionary(name, generator), tmp_path / "d")
    assert list(tmp_path.iterdir()) == []


def test_an_archive_that_fills_the_memory_is_not_unfolded(tmp_path, generator):
    kept = {name: np.asarray(w) for name, w in params(generator).items()}
    path = tmp_path / "params.npz"
    np.savez_compressed(path, **kept | {"b_dec": np.zeros(2**24, np.float32)})
    with pytest.raises(ArtifactRefused, match="would unfold to 67 MB"):
        gemma_scope.load(path)


def test_a_pickled_array_is_not_run(tmp_path, generator):
    ran = tmp_path / "ran"

    class Code:
        def __reduce__(self):
            return (open, (str(ran), "w"))

    kept = {name: np.asarray(w) for name, w in params(generator).items()}
    path = write_npz(tmp_path / "params.npz", kept | {"b_dec": np.array([Code()], dtype=object)})
    with pytest.raises(ArtifactRefused, match="no readable npz"):
        gemma_scope.load(path)
    assert not ran.exists()


def test_a_file_cut_short_is_refused_wherever_it_ends(tmp_path, generator):
    path = write_npz(tmp_path / "params.npz", params(generator))
    whole = path.read_bytes()
    for end in [*range(0, 300, 7), *range(300, len(whole), 211)]:
        path.write_bytes(whole[:end])
        with pytest.raises(ArtifactRefused):
            gemma_scope.load(path)
    for place in range(0, 600, 11):  # headers of the archive and of the first array
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            found = gemma_scope.load(path)
        except ArtifactRefused:
            continue
        assert torch.isfinite(found.W_enc).all()


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ArtifactRefused, match="params.npz is missing"):
        gemma_scope.load(tmp_path / "params.npz")
