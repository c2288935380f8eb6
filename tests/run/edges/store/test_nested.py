"""A run inside a run: its parts are apart, are scratch, and go when they are asked to."""

import pyarrow as pa
import pytest
import torch

from energylens.core.errors import UnknownName
from energylens.core.ports import Nested, Store
from energylens.run.edges.store.folder import Folder


def save(store: Store, value: float) -> None:
    store.save(
        "part", tensors={"t": {"x": torch.tensor([value])}}, records={"r": {"value": value}},
        tables={"rows": pa.table({"x": [value]})},
        files={"dictionaries/site/cfg.json": lambda path: path.write_text(str(value))},
    )  # fmt: skip


def test_children_do_not_see_each_other(tmp_path):
    store = Folder(tmp_path)
    one, two = Nested(store, "one"), Nested(store, "two")
    save(one, 1.0)
    assert one.done("part") and not two.done("part") and not store.done("part")
    save(two, 2.0)
    again = Nested(Folder(tmp_path), "one")  # another sitting
    assert again.done("part") and again.record("r") == {"value": 1.0}
    assert again.tensor("t", "x").item() == again.tensors("t")["x"].item() == 1.0
    assert again.table("rows").to_pydict() == {"x": [1.0]}
    assert (again.folder("dictionaries/site") / "cfg.json").read_text() == "1.0"
    assert isinstance(again, Store)


def test_a_child_that_is_cleared_leaves_no_file_and_its_sibling_whole(tmp_path):
    store = Folder(tmp_path)
    one, two = Nested(store, "one"), Nested(store, "one-more")
    save(one, 1.0)
    save(two, 2.0)
    one.clear()
    left = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert left and all("one-more" in str(path) for path in left)
    assert two.done("part") and not one.done("part")
    with pytest.raises(UnknownName):
        one.record("r")
    save(one, 3.0)
    assert one.record("r") == {"value": 3.0}


def test_what_a_child_saves_is_gone_when_the_run_is_done(tmp_path):
    store = Folder(tmp_path)
    save(Nested(store, "one"), 1.0)
    store.save("mine", records={"mine": 1})
    store.finish()
    assert store.done("mine") and not Nested(store, "one").done("part")
    assert not (tmp_path / "scratch").exists()


@pytest.mark.parametrize("name", ["", "a.b"])
def test_a_name_that_could_be_anothers_prefix_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match="without a dot"):
        Nested(Folder(tmp_path), name)
