"""Who sees which rows: everyone some, nobody twice, and as many of those that wake the dead."""

import pytest
import torch

from energylens.core.errors import BadInput
from energylens.core.ports import Solo
from energylens.features.mesh import ALONE, Mesh


class Place(Solo):
    """A process that says where it is, and asks nobody."""

    def __init__(self, rank: int, world: int) -> None:
        self.rank, self.world = rank, world


@pytest.mark.parametrize("world", [1, 2, 3, 4])
def test_rows_are_dealt_like_cards(world):
    batch = torch.arange(50.0).unsqueeze(1)
    meshes = [Mesh(rows=Place(rank, world)) for rank in range(world)]
    hands = [mesh.deal(batch) for mesh in meshes]
    assert sorted(torch.cat(hands).flatten().tolist()) == list(range(50))
    for mesh, hand in zip(meshes, hands, strict=True):
        assert mesh.dealt(17) == int((hand < 17).sum())


@pytest.mark.parametrize("world", [1, 2, 4])
def test_one_row_in_four_is_the_same_rows_for_any_number_of_processes(world):
    batch = torch.arange(64.0).unsqueeze(1)
    expected = batch[ALONE.every(4, 64, like=batch)].flatten().tolist()
    hands = []
    for rank in range(world):
        mesh = Mesh(rows=Place(rank, world))
        own = mesh.deal(batch)
        hands.append(own[mesh.every(4, len(own), like=own)].flatten().tolist())
    assert sorted(row for hand in hands for row in hand) == expected and len(expected) == 16
    assert {len(hand) for hand in hands} == {16 // world}


@pytest.mark.parametrize("shards", [0, 2])
def test_shards_must_fit_the_processes(shards):
    with pytest.raises(BadInput, match=f"{shards} shards were asked of 3 processes"):
        Mesh.of(Place(0, 3), shards=shards)
