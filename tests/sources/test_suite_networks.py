"""Networks of the suite: their sizes, what they compute, and what they refuse."""

import pytest
import torch
from torch import nn

from energylens.core.errors import BadInput, UnknownName
from energylens.sources.small_transformer import DROPPED, Block, Dropout, token_shape
from energylens.sources.suite_networks import (
    ARCHITECTURES,
    architecture,
    network,
    tracked_sites,
)
from tests.common.compare import assert_close

# Counted from the definitions: 784 inputs, 10 classes.
PARAMETERS = {
    "cnn_shallow": 50_186, "cnn_medium": 104_202, "cnn_deep": 390_410, "mlp_shallow_2": 109_386,
    "mlp_medium_5": 65_130, "mlp_deep_10": 34_954, "mlp_verydeep_15": 27_490,
    "mlp_narrow": 28_618, "mlp_medium": 130_058, "mlp_wide": 317_450, "mlp_verywide": 864_266,
    "transformer_shallow": 406_282, "transformer_medium": 802_826, "transformer_deep": 1_199_370,
    "transformer_narrow": 204_810,
}  # fmt: skip


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", PARAMETERS)
def test_sizes_are_those_of_the_definition(name):
    made = network(ARCHITECTURES[name], (1, 28, 28), 10, seeded())
    assert sum(weights.numel() for weights in made.parameters()) == PARAMETERS[name]
    assert made(torch.randn(2, 1, 28, 28, generator=seeded())).shape == (2, 10)


def test_every_architecture_is_named():
    assert set(PARAMETERS) == set(ARCHITECTURES)
    with pytest.raises(UnknownName, match="mlp_wide"):
        architecture("mlp_wid")


@pytest.mark.parametrize(
    ("name", "shape", "words"),
    [
        ("cnn_deep", (1, 8, 8), 0), ("cnn_deep", (1, 1, 40), 0), ("cnn_shallow", (3, 32, 32), 0),
        ("mlp_narrow", (30,), 0), ("mlp_narrow", (64,), 50), ("transformer_narrow", (64,), 50),
        ("transformer_narrow", (1, 1, 40), 0), ("transformer_narrow", (1, 8, 8), 0),
    ],
)  # fmt: skip
def test_other_inputs_fit_and_every_parameter_learns(name, shape, words):
    made = network(ARCHITECTURES[name], shape, 3, seeded(), words=words)
    inputs = (
        torch.randint(1, words, (5, *shape), generator=seeded()) if words
        else torch.randn(5, *shape, generator=seeded())
    )  # fmt: skip
    made(inputs)[:, 0].sum().backward()
    for name_of, weights in made.named_parameters():
        assert weights.grad is not None and weights.grad.isfinite().all(), name_of


def test_a_seed_gives_the_same_network_and_leaves_the_global_state():
    before = torch.random.get_rng_state()
    one, same, other = (
        network(ARCHITECTURES["transformer_narrow"], (1, 8, 8), 10, seeded(s)) for s in (0, 0, 1)
    )
    assert torch.equal(before, torch.random.get_rng_state())
    inputs = torch.randn(4, 1, 8, 8, generator=seeded())
    assert torch.equal(one(inputs), same(inputs))  # what is dropped comes from the generator too
    assert not torch.equal(one.head.weight, other.head.weight)


def test_first_weights_follow_the_rules_they_name():
    made = network(ARCHITECTURES["transformer_shallow"], (1, 28, 28), 10, seeded())
    attention = made.blocks[0].attention
    assert attention.qkv.weight.abs().max() <= (6 / (128 + 384)) ** 0.5
    assert attention.qkv.weight.std() > 0.9 * (2 / (128 + 384)) ** 0.5
    assert not attention.qkv.bias.any() and not attention.out.bias.any()
    assert made.blocks[0].linear1.weight.abs().max() <= 128**-0.5
    assert made.positions.std() > 0.9


def test_a_block_is_torchs_encoder_layer():
    mine = Block(8, 2, seeded()).eval()
    theirs = nn.TransformerEncoderLayer(8, 2, 32, batch_first=True)
    names = {
        "attention.qkv.weight": "self_attn.in_proj_weight",
        "attention.qkv.bias": "self_attn.in_proj_bias",
        "attention.out.weight": "self_attn.out_proj.weight",
        "attention.out.bias": "self_attn.out_proj.bias",
    }
    state = {
        names.get(name, name): torch.randn(weights.shape, generator=seeded(i))
        for i, (name, weights) in enumerate(mine.state_dict().items())
    }
    theirs.load_state_dict(state)
    mine.load_state_dict({name: state[names.get(name, name)] for name in mine.state_dict()})
    stream = torch.randn(3, 5, 8, generator=seeded(9))
    with torch.enable_grad():  # keeps theirs off the fast path
        assert_close(mine(stream), theirs.eval()(stream), atol=1e-5)


def test_dropout_drops_its_share_and_keeps_the_mean():
    dropout = Dropout(seeded())
    given = torch.ones(500, 1003)
    kept = dropout(given)
    assert (kept == 0).float().mean().item() == pytest.approx(DROPPED, abs=2e-3)
    assert kept.mean().item() == pytest.approx(1, abs=5e-3)
    assert dropout.eval()(given) is given


def test_pooling_before_the_relu_is_pooling_after_it():
    made = network(ARCHITECTURES["cnn_shallow"], (1, 9, 9), 4, seeded())
    inputs = torch.randn(3, 1, 9, 9, generator=seeded())
    after = inputs
    for number in (1, 2):
        after = nn.functional.max_pool2d(made.get_submodule(f"conv{number}")(after).relu(), 2)
    assert_close(made(inputs), made.head(after.flatten(1)), atol=1e-6)


def test_sites_go_from_input_to_output():
    cnn = network(ARCHITECTURES["cnn_medium"], (1, 8, 8), 10, seeded())
    assert tracked_sites(cnn) == ("conv1", "conv2", "conv3", "head")
    former = network(ARCHITECTURES["transformer_shallow"], (1, 8, 8), 10, seeded())
    sites = tracked_sites(former)
    assert sites == (
        "project", "blocks.0.attention", "blocks.0.linear2", "blocks.0",
        "blocks.1.attention", "blocks.1.linear2", "blocks.1", "head",
    )  # fmt: skip
    fired: list[str] = []
    for site in sites:
        former.get_submodule(site).register_forward_hook(lambda *_, s=site: fired.append(s))
    former.eval()(torch.randn(2, 1, 8, 8))
    assert tuple(fired) == sites  # in evaluation too, and in this order


def test_what_cannot_be_read_is_refused():
    with pytest.raises(BadInput, match="cnn_deep was asked for with inputs of shape"):
        network(ARCHITECTURES["cnn_deep"], (30,), 2, seeded())
    with pytest.raises(BadInput, match="cannot be cut into equal tokens"):
        network(ARCHITECTURES["transformer_narrow"], (37,), 2, seeded())


def test_thirty_numbers_are_fifteen_tokens():
    assert token_shape(30) == (15, 2)
