import pytest
import torch

from energylens.activations.batch import Batch
from energylens.activations.stream import collect_rows, rows_per_batch
from energylens.activations.suffix import run_from
from energylens.core.errors import BadInput, NoRoom
from tests.activations.models import SHAPES, subject, tokens
from tests.common.compare import assert_close


@pytest.mark.parametrize("family", SHAPES)
@pytest.mark.parametrize(
    "site", ["blocks.0.resid_pre", "blocks.0.resid_post", "blocks.2.resid_post"]
)
def test_running_from_a_site_equals_editing_it(family, site):
    found, batch = subject(family), Batch.full(tokens(3, 9))
    with found.capture(site) as seen:
        bare = found.forward(batch)
    assert torch.equal(run_from(found, site, seen[site], batch), bare)
    moved = seen[site] + 0.1
    with found.edit({site: lambda h: moved}):
        expected = found.forward(batch)
    assert torch.equal(run_from(found, site, moved, batch), expected)
    assert torch.equal(found.forward(batch), bare)  # nothing is left behind


def test_blocks_below_the_site_do_not_compute():
    found, batch = subject(), Batch.full(tokens(1, 5))
    fired = []
    handle = found.module.model.layers[0].mlp.register_forward_hook(lambda *a: fired.append(1))
    with found.capture("blocks.1.resid_post") as seen:
        found.forward(batch)
    run_from(found, "blocks.1.resid_post", seen["blocks.1.resid_post"], batch)
    handle.remove()
    assert len(fired) == 1


def test_other_sites_are_refused():
    found = subject()
    with pytest.raises(BadInput, match="not at 'blocks.0.mlp_out'"):
        run_from(found, "blocks.0.mlp_out", torch.zeros(1, 5, 32), Batch.full(tokens(1, 5)))


def test_rows_are_the_scored_states_in_order():
    found = subject()
    ids = tokens(11, 8)
    rows = collect_rows(
        found, ids, torch.arange(11), ["blocks.0.resid_post", "blocks.1.resid_post"], budget_mb=50
    )
    batch = Batch.full(ids)
    with found.capture("blocks.1.resid_post") as seen:
        found.forward(batch)
    assert_close(rows["blocks.1.resid_post"], seen["blocks.1.resid_post"][batch.scored], rtol=1e-9)
    assert len(rows["blocks.0.resid_post"]) == 11 * 6


def test_a_budget_that_cannot_hold_a_sequence_is_refused():
    found = subject()
    with pytest.raises(NoRoom, match="raise the memory budget"):
        rows_per_batch(found, 10_000, 2, budget_mb=1)
    with pytest.raises(NoRoom, match="fewer tokens or sites"):
        collect_rows(found, tokens(4000, 32), torch.arange(4000), ["blocks.0.resid_post"],
                     budget_mb=5)  # fmt: skip
