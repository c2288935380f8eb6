import pytest
import torch

from energylens.core.errors import UnknownName
from energylens.core.sites import BLOCK_SITES, MODEL_SITES
from energylens.sources.family import FAMILIES, Family, family_of, register
from tests.common.compare import assert_close
from tests.sources.conftest import configurations, random_model
from tests.sources.hooks import ports_of, read_ports

CONFIGURATIONS = configurations()


@pytest.fixture(params=CONFIGURATIONS)
def model(request):
    return random_model(CONFIGURATIONS[request.param])


@pytest.fixture
def ids(generator):
    return torch.randint(0, 64, (2, 9), generator=generator)


def test_every_covered_architecture_is_tried_here():
    assert set(FAMILIES) == {config.model_type for config in CONFIGURATIONS.values()}


def test_every_site_fires_once_and_watching_changes_nothing(model, ids):
    ports = ports_of(family_of(model.config.model_type), 2)
    seen, watched = read_ports(model, ports, ids)
    assert {name: len(values) for name, values in seen.items()} == dict.fromkeys(ports, 1)
    with torch.no_grad():
        assert torch.equal(model(ids).logits, watched)


def test_writers_sum_to_what_a_block_adds(model, ids):
    family = family_of(model.config.model_type)
    seen, _ = read_ports(model, ports_of(family, 2), ids)
    for layer in range(2):
        at = {site: seen[f"blocks.{layer}.{site}"][0] for site in family.block_sites}
        added = sum(at[writer] for writer in family.writers)
        assert_close(added, at["resid_post"] - at["resid_pre"], atol=1e-10)
        if "resid_mid" in at:
            assert_close(at["resid_pre"] + at["attn_out"], at["resid_mid"], atol=1e-10)


def test_embedding_enters_and_final_norm_leaves(model, ids):
    family = family_of(model.config.model_type)
    seen, logits = read_ports(model, ports_of(family, 2), ids)
    assert_close(seen["embed"][0], seen["blocks.0.resid_pre"][0])
    assert_close(seen["blocks.0.resid_post"][0], seen["blocks.1.resid_pre"][0])
    normalise = model.get_submodule(family.final_norm[0])
    unembed = model.get_submodule(family.unembed)
    with torch.no_grad():
        final = normalise(seen["blocks.1.resid_post"][0])
        assert_close(final, seen["ln_final.normalized"][0])
        assert_close(unembed(final), logits)
    assert_close(seen["logits"][0], logits)


def test_head_outputs_and_hidden_activations_are_what_is_projected(model, ids):
    family = family_of(model.config.model_type)
    seen, _ = read_ports(model, ports_of(family, 2), ids)
    for inner, outer in (("attn.z", "attn_out"), ("mlp.post", "mlp_out")):
        path = family.block_sites[inner].format(block=f"{family.blocks}.1").removesuffix(":in")
        with torch.no_grad():
            projected = model.get_submodule(path)(seen[f"blocks.1.{inner}"][0])
        assert_close(projected, seen[f"blocks.1.{outer}"][0])


def test_parallel_blocks_have_no_middle(model):
    family = family_of(model.config.model_type)
    assert family.parallel is ("resid_mid" not in family.block_sites)


def test_names_are_canonical():
    for family in FAMILIES.values():
        assert set(family.block_sites) <= set(BLOCK_SITES)
        assert set(family.model_sites) == set(MODEL_SITES)


def test_an_architecture_without_a_table_is_said_to_be_discovered():
    with pytest.raises(UnknownName, match=r"'gpt3'.*gpt2.*by hand are .*llama.*discovered"):
        family_of("gpt3")


def test_an_architecture_has_one_family():
    twin = Family(
        name="twin", model_types=("gpt2",), blocks="h", block_sites={}, model_sites={},
        final_norm=("n",), unembed="u",
    )  # fmt: skip
    assert family_of("gpt2").name == "gpt2"
    with pytest.raises(ValueError, match="two model familys are named 'gpt2'"):
        register(twin)
