"""Pieces of the held-out text: whole documents, and neighbours that make the control hard."""

from itertools import pairwise

import torch

from energylens.sources.windows import TokenWindows
from energylens.studies.energy_lens.scoring import pieces_of

KINDS = ("code", "prose", "code", "prose", "prose", "code", "code", "prose")


def _windows(each):
    document = torch.arange(len(KINDS)).repeat_interleave(each)
    return TokenWindows(
        ids=document[:, None].expand(-1, 6), document=document,
        starts=torch.arange(each).repeat(len(KINDS)),
        document_names=tuple(map(str, range(len(KINDS)))), kinds=KINDS,
    )  # fmt: skip


def test_a_neighbour_is_another_document_of_the_same_kind():
    for each in (1, 3):
        for piece in pieces_of(_windows(each), model="m", size=4):
            pairs = list(pairwise(piece.document.tolist()))
            assert all(a != b for a, b in pairs)
            changes = sum(KINDS[a] != KINDS[b] for a, b in pairs)
            assert changes == 2 * each - 1, "kinds lie together, once a round of windows"


def test_pieces_share_no_document_and_lose_no_window():
    windows = _windows(3)
    pieces = pieces_of(windows, model="m", size=4)
    assert [piece.name for piece in pieces] == ["score.m.0", "score.m.1"]
    documents = [set(piece.document.tolist()) for piece in pieces]
    assert not documents[0] & documents[1]
    assert sum(len(piece.ids) for piece in pieces) == len(windows.ids)
    for piece in pieces:
        assert torch.equal(piece.ids[:, 0], piece.document)
        assert piece.n_units == 4
