"""Discovery over many architectures and on modules planted to mislead it."""

from dataclasses import fields, replace

import pytest
import torch
from tools.family_table import CAUSAL, ENCODERS, LAYERS, discovered, random_module, redrawn
from torch import nn

from energylens.activations.batch import Batch
from energylens.activations.certify import probe_batch, wrap
from energylens.core.errors import BadInput, SiteNotAvailable
from energylens.core.sites import BLOCK_SITES
from energylens.sources.family import family_of
from energylens.sources.model import load_model
from tests.activations.models import tokens
from tests.common.compare import assert_close

pytestmark = pytest.mark.filterwarnings("ignore")  # of architectures that are not ours

# One block called three times; a block that answers with a list.
WITHOUT_BLOCKS = {"albert", "openai-gpt"}
KINDS = [kind for kind in (*CAUSAL, *ENCODERS) if kind not in WITHOUT_BLOCKS]
POST_NORM = {"bert", "deberta-v2", "distilbert", "electra", "mpnet", "roberta", "xlm-roberta"}
NO_ATTENTION = {"gpt_oss", "mamba", "qwen3_next", "rwkv"}  # sinks, state space, linear, decay
# Read off the library's source: where attention and MLP are added to the stream.
WRITERS = {
    "bloom": ("self_attention.dense:out", "mlp.dense_4h_to_h:out"),  # they add inside
    "biogpt": ("self_attn:out[0]", "fc2:out"),
    "cohere": ("self_attn:out[0]", "mlp:out"),
    "falcon": ("self_attention:out[0]", "mlp:out"),
    "gemma": ("self_attn:out[0]", "mlp:out"),
    "gemma2": ("post_attention_layernorm:out", "post_feedforward_layernorm:out"),
    "gemma3_text": ("post_attention_layernorm:out", "post_feedforward_layernorm:out"),
    "glm4": ("post_self_attn_layernorm:out", "post_mlp_layernorm:out"),
    "gpt_neo": ("attn:out[0]", "mlp:out"),
    "gptj": ("attn:out[0]", "mlp:out"),
    "mixtral": ("self_attn:out[0]", "mlp:out"),
    "modernbert": ("attn:out[0]", "mlp:out"),
    "mpt": ("attn:out[0]", "ffn.down_proj:out"),
    "olmo2": ("post_attention_layernorm:out", "post_feedforward_layernorm:out"),
    "phi": ("self_attn:out[0]", "mlp:out"),
    "qwen2_moe": ("self_attn:out[0]", "mlp:out"),
}
PARALLEL = {"codegen", "cohere", "cohere2", "falcon", "gpt_neox", "gptj", "phi"}


def test_there_are_more_than_twenty_architectures():
    assert len(CAUSAL) >= 20 and len(ENCODERS) >= 5


@pytest.mark.parametrize("kind", KINDS)
def test_residual_streams_are_found_and_chain(kind):
    found = discovered(kind)
    assert found.n_layers == LAYERS and found.loaded.d_model == 32
    batch = probe_batch(found.loaded)
    bare = found.forward(batch)
    with found.capture("blocks.*.resid_pre", "blocks.*.resid_post") as seen:
        assert torch.equal(found.forward(batch), bare)
    assert len(seen) == 2 * LAYERS
    for layer in range(1, LAYERS):
        assert torch.equal(
            seen[f"blocks.{layer}.resid_pre"], seen[f"blocks.{layer - 1}.resid_post"]
        )
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in found.module.modules())


@pytest.mark.parametrize("kind", KINDS)
def test_every_claim_holds_on_other_text_than_it_was_certified_on(kind):
    found = discovered(kind)
    batch = Batch.full(tokens(2, 9, seed=7))
    output = found.forward(batch)
    with found.capture(*found.sites) as seen:
        found.forward(batch)
    for layer in range(LAYERS):
        at = {n.split(".", 2)[2]: v for n, v in seen.items() if n.startswith(f"blocks.{layer}.")}
        if {"attn_out", "mlp_out"} <= at.keys():
            assert_close(at["attn_out"] + at["mlp_out"], at["resid_post"] - at["resid_pre"],
                         rtol=1e-3, atol=1e-3)  # fmt: skip
        if {"attn_out", "resid_mid"} <= at.keys():
            assert_close(at["resid_pre"] + at["attn_out"], at["resid_mid"], rtol=1e-3, atol=1e-3)
    if "lens" not in found.lacks:
        assert_close(found.lens(seen[f"blocks.{LAYERS - 1}.resid_post"]), output,
                     rtol=1e-3, atol=1e-3)  # fmt: skip
    if "logits" in seen:
        assert torch.equal(seen["logits"], output)


@pytest.mark.parametrize("kind", KINDS)
def test_what_attention_and_mlp_write_is_found_or_told_apart(kind):
    found = discovered(kind)
    for layer in range(LAYERS):
        for site in BLOCK_SITES:
            name = f"blocks.{layer}.{site}"
            assert (name in found.sites) != (name in found.absent)
    attention = kind not in POST_NORM | NO_ATTENTION | {"granite"}
    assert ("blocks.1.attn_out" in found.sites) is attention
    assert ("blocks.1.attn.z" in found.sites) is (attention or kind == "granite")
    if kind in POST_NORM:
        assert "stream itself is normed" in found.absent["blocks.1.attn_out"]
    if kind in WRITERS:
        block = found.loaded.family.block(1)
        here = [str(found.port(f"blocks.1.{name}")) for name in ("attn_out", "mlp_out")]
        assert here == [f"{block}.{port}" for port in WRITERS[kind]]
    assert found.loaded.family.parallel is (kind in PARALLEL)
    assert "same stream" in found.absent["blocks.1.resid_mid"] if kind in PARALLEL else True


@pytest.mark.parametrize(
    "kind", ["llama", "mistral", "qwen2", "qwen3", "smollm3", "gpt2", "gpt_neox"]
)
def test_discovery_equals_the_table_written_by_hand(kind):
    table, found = family_of(kind), discovered(kind).loaded.family
    for field in fields(table):
        if field.name not in ("name", "model_types", "absent"):
            assert getattr(found, field.name) == getattr(table, field.name), field.name
    assert set(found.absent) == ({"resid_mid"} if table.parallel else set())


@pytest.mark.parametrize("kind", ["gemma2", "bloom", "mpt", "modernbert"])
def test_in_float64_the_same_is_found(kind):
    """Though the library rounds the weights of attention to float32 inside.

    Padding is left aside: in float64 it makes the library's eager attention nan.
    """
    found = wrap(replace(load_model(random_module(kind).double()), family=None))
    assert found.sites == discovered(kind).sites
    assert set(found.lacks) - {"padding"} == set(discovered(kind).lacks)


def test_logits_that_are_scaled_are_reproduced_and_capped_ones_refused():
    scaled, capped = discovered("granite"), discovered("gemma2")
    assert_close(scaled.loaded.family.logit_scale, 1 / 8, rtol=1e-5)
    assert_close(scaled.loaded.family.writer_scale, 0.25, rtol=1e-5)
    assert "lens" not in scaled.lacks and "0.25 times" in scaled.absent["blocks.0.mlp_out"]
    with pytest.raises(
        SiteNotAvailable, match="no lens.*capped; the energies that remain are down"
    ):
        capped.lens(torch.zeros(1, 32))


@pytest.mark.parametrize("kind", [*CAUSAL, *ENCODERS])
def test_an_encoder_has_no_next_token_loss(kind):
    assert ("loss" in discovered(kind).lacks) is (kind in ENCODERS)


def test_a_model_without_its_head_says_which_energies_remain():
    from transformers import AutoModel

    whole = random_module("llama")
    found = wrap(redrawn(AutoModel.from_config(whole.config).eval()))
    assert found.loaded.model_type == "llama" and "blocks.2.mlp.post" in found.sites
    assert found.energies == ("class_energy", "hopfield", "energy_transformer")
    for ask in (lambda: found.lens(torch.zeros(1, 32)), lambda: found.require("loss")):
        with pytest.raises(
            SiteNotAvailable, match="no unembedding; the energies that remain are c"
        ):
            ask()


def test_energies_that_remain_are_registered():
    from tools.measure_pages import measures

    known = {measure.name for measure in measures()}
    assert set(discovered("llama").energies) <= known


# ---- planted modules


class Mean(nn.Module):
    """Attention with equal weights; `total` sums instead, as a recurrence does."""

    def __init__(self, *, total: bool = False, causal: bool = True) -> None:
        super().__init__()
        self.read, self.write = nn.Linear(8, 6), nn.Linear(6, 8)
        self.total, self.causal = total, causal

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        value, count = self.read(x), torch.arange(1, x.shape[1] + 1)[:, None]
        mixed = value.cumsum(1) / count if self.causal else value.mean(1, True).expand_as(value)
        return self.write(mixed * count if self.total else mixed)


class Block(nn.Module):
    """Mean and MLP, and `leak` times something that no module gives."""

    def __init__(self, *, leak: float = 0.0, scale: float = 1.0, **given: bool) -> None:
        super().__init__()
        self.one, self.two = (
            nn.Sequential(nn.Linear(8, 9), nn.GELU(), nn.Linear(9, 8)),
            Mean(**given),
        )
        self.norm, self.leak, self.scale = nn.LayerNorm(8), leak, scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.scale * self.two(x)
        return x + self.scale * self.one(self.norm(x)) + self.leak * x.tanh()


class Toy(nn.Module):
    """A language model of lists of blocks, one after the other, with a norm between the lists."""

    def __init__(self, *lists: list[nn.Module], twice: bool = False, normed: bool = False) -> None:
        super().__init__()
        self.lists = nn.ModuleDict({str(i): nn.ModuleList(each) for i, each in enumerate(lists)})
        self.between, self.twice, self.normed = nn.LayerNorm(8), twice, normed
        self.embed, self.last, self.head = nn.Embedding(20, 8), nn.LayerNorm(8), nn.Linear(8, 20)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.embed(ids)
        for blocks in self.lists.values():
            x = self.between(x)
            for block in blocks:
                x = block(block(x)) if self.twice else block(x)
                x = self.between(x) if self.normed else x
        return self.head(self.last(x))


PROBE = Batch.full(torch.arange(16).reshape(2, 8))


def toy(*lists: list[nn.Module], **given: bool):
    return wrap(redrawn(Toy(*lists, **given)).double().eval(), probe=PROBE)


def test_an_own_module_has_its_sites_by_what_they_do_not_by_their_names():
    found = toy([Block() for _ in range(3)])
    assert not found.absent and set(found.lacks) == {"padding"}  # it takes no mask
    assert (found.n_layers, found.loaded.d_model) == (3, 8)
    ports = {name: str(port) for name, port in found.sites.items()}
    assert ports["blocks.1.attn_out"] == "lists.0.1.two:out"
    assert ports["blocks.1.attn.z"] == "lists.0.1.two.write:in"
    assert ports["blocks.1.mlp.post"] == "lists.0.1.one.2:in"
    assert ports["blocks.1.resid_mid"] == "lists.0.1.norm:in"
    assert ports["embed"] == "between:out" and found.loaded.family.unembed == "head"


def test_children_that_do_not_sum_to_the_difference_leave_the_sites_absent():
    found = toy([Block(leak=0.01) for _ in range(3)])
    assert set(found.sites) == {
        "embed", "ln_final.normalized", "logits",
        *(f"blocks.{i}.{name}" for i in range(3) for name in ("resid_pre", "resid_post")),
    }  # fmt: skip
    with pytest.raises(SiteNotAvailable, match="no outputs of the block's modules sum"):
        found.port("blocks.1.mlp_out")


def test_a_claim_that_fails_in_one_block_is_absent_there_alone():
    found = toy([Block(), Block(), Block(leak=0.01)])
    assert "blocks.0.mlp_out" in found.sites and "blocks.1.mlp_out" in found.sites
    with pytest.raises(SiteNotAvailable, match="writers sum to the residual difference is off by"):
        found.port("blocks.2.mlp_out")


def test_outputs_that_are_multiplied_before_they_are_added_say_so():
    found = toy([Block(scale=0.5) for _ in range(3)])
    assert "blocks.1.resid_mid" in found.sites and "blocks.1.attn.z" in found.sites
    assert found.absent["blocks.1.attn_out"].startswith("0.5 times lists.0.1.two:out")


def test_a_sum_over_positions_is_not_attention():
    found = toy([Block(total=True) for _ in range(3)])
    assert "blocks.1.mlp_out" in found.sites
    assert "lists.0.1.two:out mixes positions in another way" in found.absent["blocks.1.attn_out"]


def test_of_two_lists_the_longer_is_taken_and_a_tie_is_refused():
    found = toy([Block() for _ in range(2)], [Block() for _ in range(3)])
    assert found.n_layers == 3 and found.loaded.family.blocks == "lists.1"
    tie = toy([Block() for _ in range(2)], [Block() for _ in range(2)])
    with pytest.raises(
        SiteNotAvailable, match=r"'lists.0' and 'lists.1' are both lists of 2 blocks"
    ):
        tie.port("blocks.0.resid_post")


def test_blocks_between_which_the_stream_is_changed_are_no_list_of_blocks():
    found = toy([Block() for _ in range(3)], normed=True)
    assert not found.sites and "hands states on" in found.lacks["blocks"]


def test_blocks_that_run_twice_are_no_list_of_blocks():
    found = toy([Block() for _ in range(3)], twice=True)
    assert not found.sites and "hands states on" in found.lacks["blocks"]
    assert "loss" not in found.lacks


def test_a_toy_that_reads_both_ways_has_no_next_token_loss():
    found = toy([Block(causal=False) for _ in range(3)])
    assert "blocks.1.attn_out" in found.sites
    assert found.lacks["loss"] == "it reads the text in both directions"


def test_blocks_inside_a_sequence_are_counted_from_the_first():
    body = [nn.Embedding(20, 8), *(Block() for _ in range(3)), nn.LayerNorm(8), nn.Linear(8, 20)]
    found = wrap(redrawn(nn.Sequential(*body)).double().eval(), probe=PROBE)
    assert not found.absent and str(found.port("blocks.0.resid_post")) == "1:out"
    assert found.loaded.family.final_norm == ("4",)


def test_a_module_that_cannot_run_on_ids_says_so():
    found = wrap(nn.Sequential(nn.Linear(4, 4)).double(), probe=PROBE)
    with pytest.raises(BadInput, match="cannot be run on token ids alone"):
        found.port("blocks.0.resid_post")


def test_a_wrong_family_is_caught_on_any_architecture():
    good = discovered("gemma2")
    sites = dict(good.loaded.family.block_sites)
    sites["attn_out"] = "{block}.self_attn:out[0]"  # before the norm: not what is added
    family = replace(good.loaded.family, block_sites=sites)
    wrong = wrap(replace(load_model(good.module), family=family))
    with pytest.raises(SiteNotAvailable, match="is off by"):
        wrong.port("blocks.1.attn_out")
