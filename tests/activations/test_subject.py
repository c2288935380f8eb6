import pytest
import torch
from torch import nn

from energylens.activations.batch import Batch
from energylens.activations.certify import wrap
from energylens.activations.subject import Subject
from energylens.core.errors import BadInput, SiteNotAvailable, UnknownName
from tests.activations.models import SHAPES, subject, tokens
from tests.common.compare import assert_close


@pytest.mark.parametrize("family", SHAPES)
def test_every_site_of_a_family_is_certified(family):
    found = subject(family)
    assert not found.absent
    assert max(found.certificate.values()) < 1e-12
    assert "blocks.2.resid_post" in found.sites


@pytest.mark.parametrize("family", SHAPES)
def test_watching_changes_nothing_and_leaves_no_hook(family):
    found, batch = subject(family), Batch.full(tokens(2, 9))
    bare = found.forward(batch)
    with found.capture("blocks.*.resid_post") as seen:
        watched = found.forward(batch)
    assert torch.equal(bare, watched)
    assert len(seen) == 3
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in found.module.modules())


def test_a_wrong_table_is_caught_and_says_why():
    """A family that takes the MLP's output for the attention's must not pass."""
    from dataclasses import replace

    good = subject()
    sites = dict(good.loaded.family.block_sites)
    sites["attn_out"] = sites["mlp_out"]
    wrong = wrap(replace(good.loaded, family=replace(good.loaded.family, block_sites=sites)))
    assert "blocks.1.attn_out" in wrong.absent
    with pytest.raises(SiteNotAvailable, match="is off by"):
        wrong.port("blocks.1.attn_out")


def test_names_that_do_not_exist_name_the_nearest():
    found = subject()
    with pytest.raises(UnknownName, match="resid_post"):
        found.port("blocks.1.resid_pots")
    with pytest.raises(BadInput, match="layers 0 to 2"):
        found.port("blocks.7.resid_post")
    with pytest.raises(UnknownName, match="model.layers.1.mlp"):
        found.port("model.layers.1.mpl:out")


def test_published_names_are_aliases():
    found = subject()
    assert found.port("blocks.1.hook_resid_post") == found.port(("resid_post", 1))


def test_a_module_that_never_runs_is_an_error():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.spare = nn.Linear(3, 3), nn.Linear(3, 3)

        def forward(self, x):
            return self.used(x.float())

    found = wrap(Two())
    batch = Batch.full(tokens(2, 3))
    with pytest.raises(SiteNotAvailable, match="spare:out never fired"):
        with found.capture("used:out", "spare:out"):
            found.forward(batch)
    with found.capture("used:in") as seen:
        found.forward(batch)
    assert_close(seen["used:in"], batch.ids.float())


def test_stop_ends_the_pass_at_the_last_site():
    found, batch = subject(), Batch.full(tokens(2, 9))
    reached = []
    handle = found.module.lm_head.register_forward_hook(lambda *a: reached.append(1))
    with found.capture("blocks.0.resid_post", "blocks.1.resid_post", stop=True) as seen:
        assert found.run(batch) is None
    handle.remove()
    assert not reached
    with found.capture("blocks.1.resid_post") as full:
        found.run(batch)
    assert torch.equal(seen["blocks.1.resid_post"], full["blocks.1.resid_post"])


def test_gradients_at_several_sites_come_from_one_pass():
    """Against finite differences of an edit at each site."""
    found, batch = subject(), Batch.full(tokens(1, 6))
    sites = ["blocks.0.resid_post", "blocks.2.resid_post"]
    with torch.enable_grad(), found.capture(*sites, grad=True) as seen:
        energy = found.forward(batch).logsumexp(-1).sum()
        gradients = torch.autograd.grad(energy, [seen[s] for s in sites])
    direction = torch.randn(seen[sites[0]].shape, dtype=torch.float64)
    for site, gradient in zip(sites, gradients, strict=True):
        moved = []
        for step in (1e-5, -1e-5):
            with found.edit({site: lambda h, step=step: h + step * direction}):
                moved.append(found.forward(batch).logsumexp(-1).sum())
        slope = (moved[0] - moved[1]) / 2e-5
        assert_close((gradient * direction).sum(), slope, rtol=1e-6)


@pytest.mark.parametrize("family", SHAPES)
def test_padding_on_either_side_leaves_the_logits_alone(family):
    found = subject(family)
    sequences = [tokens(9).tolist(), tokens(5, seed=1).tolist()]
    alone = found.forward(Batch.padded(sequences[1:]))[0]
    right = found.forward(Batch.padded(sequences, side="right"))[1, :5]
    left = found.forward(Batch.padded(sequences, side="left"))[1, -5:]
    assert_close(right, alone, atol=1e-10)
    assert_close(left, alone, atol=1e-10)


def test_a_model_of_no_family_keeps_module_paths():
    found = wrap(nn.Sequential(nn.Linear(4, 4)))
    assert isinstance(found, Subject) and not found.sites
    with pytest.raises(SiteNotAvailable, match="give probe=.*module.path:out"):
        found.port("blocks.0.resid_post")
    with pytest.raises(BadInput, match="has no lens.*remain are class_energy, hopfield and"):
        found.lens(torch.zeros(1, 4))
