"""A cache gives the rows of the model, whatever stops its writer, and refuses what it is not."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from energylens.activations import cache as caching
from energylens.activations.buffer import ShuffleBuffer
from energylens.activations.cache import open_cache, write_cache
from energylens.activations.stream import ModelRows
from energylens.core.errors import ArtifactRefused, BadInput, NoRoom
from tests.activations.models import subject, tokens
from tests.activations.test_buffer import SITES, kept, windows_of

IDS = tokens(70, 8)
SUBJECT = subject()


def source(ids=IDS, *, sites=SITES, dtype=torch.float32, found=SUBJECT):
    return ModelRows(found, lambda: [windows_of(ids)], sites, budget_mb=50, dtype=dtype)


def write(folder, made=None, *, text="t", **options):
    """Shards of two passes: 96 rows, five of them, the last of 36."""
    return write_cache(made or source(), folder, text=text, shard_mb=0.04, **options)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache") / "c"
    write(folder)
    return folder


@pytest.fixture
def copied(written, tmp_path):
    return shutil.copytree(written, tmp_path / "copy")


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def manifest(folder):
    return json.loads((folder / "manifest.json").read_text())


def test_shards_hold_the_rows_of_the_model_in_order(written):
    expected = list(source().blocks(0, 0))
    names = sorted(path.name for path in written.glob("*.safetensors"))
    assert len(names) == 5
    for site in SITES:
        rows = torch.cat([load_file(written / name)[site] for name in names])
        assert torch.equal(rows, torch.cat([block[site] for block in expected]))
    found = open_cache(written, verify=True)
    assert found.total == 70 * 6 and found.largest == 96
    assert [shard.rows for shard in found.manifest.shards] == [96, 96, 96, 96, 36]


def test_shards_are_read_in_the_order_of_the_seed(written):
    found = open_cache(written)
    stored = [load_file(path)[SITES[0]] for path in sorted(written.glob("*.safetensors"))]

    def order(seed, first=0):
        return [
            next(i for i, rows in enumerate(stored) if torch.equal(rows, block[SITES[0]]))
            for block in found.blocks(seed, first)
        ]

    assert sorted(order(1)) == list(range(5)) and order(1) == order(1)
    assert len({tuple(order(seed)) for seed in range(20)}) > 10
    assert order(3, first=2) == order(3)[2:]


def test_the_buffer_serves_a_cache_and_goes_on_bit_for_bit(written):
    rows = torch.cat([block[SITES[0]] for block in source().blocks(0, 0)])

    def fresh(seed):
        return ShuffleBuffer(
            open_cache(written), 32, torch.Generator().manual_seed(seed), budget_mb=0.16, epochs=2
        )

    whole = kept(fresh(0))
    assert fresh(0).capacity < 420, "several shards, not all of them"
    served = torch.cat([batch[SITES[0]] for batch in whole])
    assert torch.equal(served.sort(dim=0).values, rows.repeat(2, 1).sort(dim=0).values)
    for stop in range(0, len(whole), 3):
        first, again = fresh(0), fresh(1)
        for _ in range(stop):
            next(first)
        again.restore(first.state())
        rest = kept(again)
        assert len(rest) == len(whole) - stop
        for batch, expected in zip(rest, whole[stop:], strict=True):
            assert all(torch.equal(batch[site], expected[site]) for site in SITES)


def test_a_window_of_less_than_two_shards_is_refused(written):
    with pytest.raises(NoRoom, match="two blocks of 96 .* smaller shards"):
        ShuffleBuffer(open_cache(written), 32, torch.Generator(), budget_mb=0.05)


@pytest.mark.parametrize("stop", range(1, 12))
def test_a_writer_that_was_killed_goes_on(written, tmp_path, monkeypatch, stop):
    """It dies at its `stop`-th write, before or after the file is in place."""
    real, done = caching.write_atomic, []

    def dying(path, fill):
        done.append(path)
        if len(done) == stop:
            (path.parent / f".{path.name}.1.tmp").write_bytes(b"half")
            raise KeyboardInterrupt
        return real(path, fill)

    folder = tmp_path / "c"
    folder.mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(caching, "write_atomic", dying)
        patch.setattr(caching, "write_bytes", lambda p, b: dying(p, lambda x: x.write_bytes(b)))
        with pytest.raises(KeyboardInterrupt):
            write(folder)
    with pytest.raises(ArtifactRefused, match="unfinished" if stop > 2 else "no manifest"):
        open_cache(folder)
    made = source()
    computed = []
    monkeypatch.setattr(
        made, "rows", lambda batch: computed.append(1) or ModelRows.rows(made, batch)
    )
    write(folder, made)
    assert files(folder) == files(written)
    assert len(computed) == max(0, 9 - 2 * ((stop - 1) // 2)), (
        "finished shards are not computed again"
    )


def test_a_writer_repairs_what_is_damaged_and_nothing_else(copied, written):
    (copied / "shard-00001.safetensors").unlink()
    flip(copied / "shard-00003.safetensors", -5)
    stamps = {path.name: path.stat().st_ino for path in copied.glob("*.safetensors")}
    write(copied)
    assert files(copied) == files(written)
    same = {n for n, inode in stamps.items() if (copied / n).stat().st_ino == inode}
    assert same >= {f"shard-0000{i}.safetensors" for i in (0, 2, 4)}


def flip(path, place):
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


# ---- refusals


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"model": "0" * 64}, "written for model .* and 0000"),
        ({"text": "u"}, "written for text t and u was asked for"),
        ({"sites": ["embed", SITES[0]]}, "written for sites .* and embed was asked for"),
        ({"dtype": torch.bfloat16}, "written for dtype float32 and bfloat16"),
        ({"context": 9}, "written for context 8 and 9"),
    ],
)
def test_a_cache_of_something_else_is_refused(written, asked, message):
    with pytest.raises(ArtifactRefused, match=message) as error:
        open_cache(written, **asked)
    assert "\n" not in str(error.value)


def test_a_cache_of_what_was_asked_for_is_taken(written):
    found = open_cache(
        written, model=SUBJECT.loaded.sha256, text="t", sites=SITES[1:], dtype=torch.float32,
        context=8, verify=True,
    )  # fmt: skip
    assert list(found.layout) == SITES[1:]
    assert list(next(found.blocks(0, 0))) == SITES[1:]


@pytest.mark.parametrize("name", ["shard-00000.safetensors", "shard-00004.safetensors"])
def test_missing_truncated_and_flipped_shards_are_refused(copied, name):
    path = copied / name
    whole = path.read_bytes()
    path.unlink()
    with pytest.raises(ArtifactRefused, match=f"{name} is missing"):
        open_cache(copied)
    path.write_bytes(whole[:-1])
    with pytest.raises(ArtifactRefused, match=f"{name} has {len(whole) - 1:,} bytes and not"):
        open_cache(copied)
    path.write_bytes(whole)
    flip(path, 0)  # the length of the header
    with pytest.raises(ArtifactRefused, match=f"{name} is not safetensors"):
        open_cache(copied)
    for place in (-1, len(whole) // 2):
        path.write_bytes(whole)
        flip(path, place)
        open_cache(copied)  # size and shape are right
        with pytest.raises(ArtifactRefused, match=f"{name} is not as it was written"):
            open_cache(copied, verify=True)


def test_a_shard_of_other_shapes_is_refused(copied):
    shutil.copy(copied / "shard-00001.safetensors", copied / "shard-00000.safetensors")
    open_cache(copied)
    with pytest.raises(ArtifactRefused, match="not as it was written"):
        open_cache(copied, verify=True)
    path = copied / "shard-00000.safetensors"
    data = path.read_bytes()
    path.write_bytes(data.replace(b"[96,32]", b"[32,96]", 1))
    with pytest.raises(ArtifactRefused, match="not as it was written"):
        open_cache(copied)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(format=2), "is of format 2 and this version reads 1"),
        (lambda m: m["manifest"].pop("dtype"), "not what this version writes"),
        (lambda m: m["manifest"]["shards"][0].update(rows="9"), "rows is '9'"),
        (lambda m: m["manifest"].update(dtype="float31"), "not as it was written"),
        (lambda m: m["manifest"].update(sites=[]), "not what this version writes"),
        (lambda m: m.update(manifest=3), "not what this version writes"),
        (lambda m: m["manifest"].update(complete=False), "unfinished"),
    ],
)
def test_a_manifest_that_is_damaged_is_one_sentence(copied, change, message):
    content = manifest(copied)
    change(content)
    (copied / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(ArtifactRefused, match=message) as error:
        open_cache(copied)
    assert "\n" not in str(error.value)


def test_no_cache_is_continued_as_another(copied, written):
    other = subject("gpt2")
    for made, text, message in (
        (source(found=other), "t", "written for model"),
        (source(), "u", "written for text t and u"),
        (source(sites=SITES[:1]), "t", "written for sites"),
        (source(dtype=torch.bfloat16), "t", "written for dtype float32 and bfloat16"),
        (source(IDS[:, :7]), "t", "written for context 8 and 7"),
        (source(IDS.flip(0)), "t", "other tokens in shard 0"),
        (source(torch.cat([IDS, IDS])), "t", "other tokens in shard 4"),
        (source(IDS[:32]), "t", "of 5 shards and one of 2"),
    ):
        with pytest.raises(ArtifactRefused, match=message):
            write(copied, made, text=text)
    with pytest.raises(ArtifactRefused, match="written for passes per shard 2 and 1"):
        write_cache(source(), copied, text="t", shard_mb=0.01)
    assert files(copied) == files(written)


def test_dtypes_that_a_cache_does_not_hold_are_refused(tmp_path):
    with pytest.raises(BadInput, match="rows of float8_e5m2 were asked for"):
        write(tmp_path, source(dtype=torch.float8_e5m2))
    with pytest.raises(BadInput, match=r"torch.int32 were asked for: name a floating-point type"):
        source(dtype=torch.int32)
    half = write(tmp_path, source(dtype=torch.bfloat16))
    assert half.layout[SITES[0]].dtype == torch.bfloat16
    assert next(half.blocks(0, 0))[SITES[0]].dtype == torch.bfloat16
