"""Pairs of features, counted against an oracle that looks at every pair on every sample."""

import pytest
import torch

from energylens.features import coactivation
from energylens.features.coactivation import firing, strongest_partners, together_of
from energylens.features.nearest import nearest_rows
from energylens.stats.association import expected_together, phi
from tests.oracles import browsing

WIDTH, SAMPLES = 14, 60


@pytest.fixture
def active(generator):
    found = torch.rand(SAMPLES, WIDTH, generator=generator) < 0.25
    found[:, 3] = found[:, 5]  # always together
    found[:, 7] = False
    found[:, 9] = True  # never apart from any, and φ undefined
    return found


def fires(active):
    row, feature = active.nonzero(as_tuple=True)
    return firing(feature, row, width=WIDTH, samples=SAMPLES)


@pytest.mark.parametrize(("cells", "additions"), [(2**22, 2**22), (40, 2**22), (2**22, 9)])
def test_partners_are_the_oracles_however_the_blocks_are_cut(
    active, generator, monkeypatch, cells, additions
):
    monkeypatch.setattr(coactivation, "CELLS", cells)
    monkeypatch.setattr(coactivation, "ADDITIONS", additions)
    elsewhere = active[torch.randperm(SAMPLES, generator=generator)]
    for other in (active, elsewhere):
        found = strongest_partners(fires(active), fires(other), phi, partners=4, least=2)
        counts = browsing.together(active.tolist(), other.tolist(), WIDTH)
        for f in range(WIDTH):
            scores = {
                g: browsing.phi(active[:, f].tolist(), other[:, g].tolist())
                for g in range(WIDTH)
                if g != f
                and 9 not in (f, g)
                and counts[f][g]
                and active[:, f].sum() >= 2
                and other[:, g].sum() >= 2
            }
            best = sorted(scores.values(), reverse=True)[:4]
            there = found.feature[f] >= 0
            assert found.score[f][there].tolist() == pytest.approx(best, abs=1e-12)
            for g, n in zip(found.feature[f][there], found.together[f][there], strict=True):
                assert int(n) == counts[f][int(g)]
        asked = together_of(fires(active), fires(other), found.feature)
        assert torch.equal(asked, found.together)


def test_what_is_always_together_is_found_first(active):
    found = strongest_partners(fires(active), fires(active), phi, partners=2, least=2)
    assert found.feature[3, 0] == 5 and found.feature[5, 0] == 3
    assert float(found.score[3, 0]) == pytest.approx(1.0)
    assert (found.feature[7] == -1).all() and found.score[7].isnan().all()


def test_a_feature_that_is_seldom_active_is_no_partner(active):
    found = strongest_partners(fires(active), fires(active), phi, partners=3, least=SAMPLES)
    assert (found.feature == -1).all()


def test_independence_gives_the_product_of_shares_and_no_phi():
    assert float(expected_together(torch.tensor(20), torch.tensor(30), 100)) == 6.0
    assert float(phi(torch.tensor(6), torch.tensor(20), torch.tensor(30), 100)) == 0.0
    assert phi(torch.tensor(0), torch.tensor(0), torch.tensor(30), 100).isnan()


def test_nearest_rows_are_those_of_the_whole_matrix(generator, monkeypatch):
    from energylens.features import nearest

    monkeypatch.setattr(nearest, "ROWS_AT_ONCE", 5)
    rows = torch.randn(13, 6, generator=generator)
    rows[4] = 0
    found = nearest_rows(rows, 3)
    for f in range(13):
        each = [(float(torch.cosine_similarity(rows[f], rows[g], dim=0)), g) for g in range(13)
                if g != f]  # fmt: skip
        best = sorted(each, reverse=True)[:3]
        if f == 4:
            assert found.cosine[f].isnan().all()
        else:
            assert found.feature[f].tolist() == [g for _, g in best]
            assert found.cosine[f].tolist() == pytest.approx([c for c, _ in best], abs=1e-6)
