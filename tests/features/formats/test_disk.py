"""Files that hold code, or nothing, or half of something."""

import os
import zipfile

import pytest
import torch

from energylens.core.errors import ArtifactRefused
from energylens.features.formats import disk
from tests.features.formats.made import save_pickle


class Code:
    """What runs when a pickle of it is read without care."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (os.mkdir, (str(self.mark),))


@pytest.mark.parametrize("legacy", [True, False])
def test_code_in_a_pickle_is_refused_and_not_run(legacy, tmp_path):
    path = tmp_path / "ae.pt"
    content = {"W_enc": torch.ones(2, 2), "bias": Code(tmp_path / "ran")}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)  # noqa: TID251
    with pytest.raises(ArtifactRefused, match="asks for more than tensors, numbers and text"):
        disk.read_pickle(path, allow_pickle=True)
    assert not (tmp_path / "ran").exists()
    torch.load(path, weights_only=False)  # noqa: TID251  # it would have run
    assert (tmp_path / "ran").exists()


def test_a_whole_module_is_refused(tmp_path):
    path = save_pickle(tmp_path / "ae.pt", torch.nn.Linear(2, 2))
    with pytest.raises(ArtifactRefused, match="asks for more than tensors"):
        disk.read_pickle(path, allow_pickle=True)


@pytest.mark.parametrize("content", [torch.ones(2), [torch.ones(2)], {1: torch.ones(2)}, None])
def test_a_pickle_without_names_is_refused(content, tmp_path):
    path = save_pickle(tmp_path / "ae.pt", content)
    with pytest.raises(ArtifactRefused, match="should hold tensors by name"):
        disk.read_pickle(path, allow_pickle=True)


@pytest.mark.parametrize("legacy", [True, False])
def test_a_pickle_cut_short_or_changed_is_refused(legacy, tmp_path):
    path = tmp_path / "ae.pt"
    content = {"W_enc": torch.ones(4, 4), "k": torch.tensor(3)}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)  # noqa: TID251
    whole = path.read_bytes()
    assert torch.equal(disk.read_pickle(path, allow_pickle=True)["W_enc"], torch.ones(4, 4))
    for end in range(0, len(whole), 23):
        path.write_bytes(whole[:end])
        with pytest.raises(ArtifactRefused):
            disk.read_pickle(path, allow_pickle=True)
    for place in range(0, len(whole), 13):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            disk.read_pickle(path, allow_pickle=True)
        except ArtifactRefused:
            continue


def test_another_archive_is_no_pickle(tmp_path):
    with zipfile.ZipFile(tmp_path / "ae.pt", "w") as archive:
        archive.writestr("hello.txt", "hello")
    with pytest.raises(ArtifactRefused):
        disk.read_pickle(tmp_path / "ae.pt", allow_pickle=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "is not JSON"), ("[" * 100_000, "is not JSON"), ("[1]", "settings by name, found list"),
     ("\xff", "is not JSON")],
)  # fmt: skip
def test_settings_that_are_none_are_refused(text, message, tmp_path):
    (tmp_path / "cfg.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ArtifactRefused, match=message):
        disk.read_json(tmp_path / "cfg.json")


def test_a_folder_in_place_of_a_file_is_refused(tmp_path):
    for read in (disk.read_json, disk.read_safetensors, disk.read_npz):
        with pytest.raises(ArtifactRefused):
            read(tmp_path)
    with pytest.raises(ArtifactRefused, match="is missing"):
        disk.read_pickle(tmp_path, allow_pickle=True)


def test_tensors_that_are_not_plain_are_refused(tmp_path):
    from energylens.features.formats.layout import layout, unpack

    wanted = layout(W_enc="W", b_enc="b")
    kept = {"W": torch.eye(3).to_sparse(), "b": torch.ones(3)}
    found = disk.read_pickle(save_pickle(tmp_path / "ae.pt", kept), allow_pickle=True)
    with pytest.raises(ArtifactRefused, match="W should be a tensor of numbers"):
        unpack("here", found, wanted, one_site=True)
    with pytest.raises(ArtifactRefused, match="found W as torch.complex64"):
        unpack("here", kept | {"W": torch.ones(3, 3) + 1j}, wanted, one_site=True)
    parameter = torch.nn.Parameter(torch.ones(3, 3))
    made = unpack("here", kept | {"W": parameter}, wanted, one_site=True)
    assert not made["W_enc"].requires_grad
