"""Small models made on the spot."""

import pytest
import torch

SIZES = dict(
    hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
    vocab_size=64, max_position_embeddings=64,
)  # fmt: skip


def configurations():
    """One random configuration of each architecture that a family covers."""
    import transformers as t

    grouped = dict(**SIZES, num_key_value_heads=2)
    tokens = dict(pad_token_id=0, bos_token_id=1, eos_token_id=2)
    return {
        "llama": t.LlamaConfig(**grouped),
        "mistral": t.MistralConfig(**grouped),
        "qwen2": t.Qwen2Config(**grouped),
        "qwen3": t.Qwen3Config(**grouped, head_dim=8),
        "smollm3": t.SmolLM3Config(**grouped, **tokens),
        "gpt2": t.GPT2Config(
            n_embd=32, n_layer=2, n_head=4, vocab_size=64, n_positions=64,
            bos_token_id=1, eos_token_id=2,
        ),
        "gpt_neox": t.GPTNeoXConfig(**SIZES, bos_token_id=1, eos_token_id=2),
        "gpt_neox serial": t.GPTNeoXConfig(
            **SIZES, bos_token_id=1, eos_token_id=2, use_parallel_residual=False
        ),
    }  # fmt: skip


def random_model(config):
    """A model of a configuration in float64, with weights large enough that nothing is tiny."""
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = AutoModelForCausalLM.from_config(config)
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    return module.double().eval()


def small_tokenizer(tokens=64):
    """A byte-level tokenizer with a start token, as small vocabularies allow."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())[: tokens - 2]
    vocab = {piece: i for i, piece in enumerate(["<unk>", "<s>", *letters])}
    core = Tokenizer(models.BPE(vocab=vocab, merges=[], unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>", bos_token="<s>")


@pytest.fixture
def model_folder(tmp_path):
    """A folder as `save_pretrained` writes it."""
    from energylens.sources.quiet import quiet

    folder = tmp_path / "model"
    with quiet():
        random_model(configurations()["llama"]).float().save_pretrained(folder)
        small_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def datasets(monkeypatch, tmp_path):
    found = pytest.importorskip("datasets")
    monkeypatch.setattr(found.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return found
