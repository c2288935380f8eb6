"""Write the page of model families: which canonical sites certify on tiny random models of each.

`make docs` runs it; `tests/test_docs.py` fails where the page differs from what this writes.
"""

import functools
import re
import warnings
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from energylens.activations.certify import wrap
from energylens.activations.subject import Subject
from energylens.core.sites import BLOCK_SITES, MODEL_SITES
from energylens.sources.family import FAMILIES
from energylens.sources.model import load_model
from energylens.sources.quiet import quiet

PAGE = Path(__file__).parents[1] / "docs" / "families.md"
LAYERS, VOCAB = 3, 60
_TOKENS = dict(vocab_size=VOCAB, bos_token_id=1, eos_token_id=2, pad_token_id=0)
_PLAIN = dict(
    _TOKENS, hidden_size=32, intermediate_size=48, num_hidden_layers=LAYERS, num_attention_heads=4,
    max_position_embeddings=32,
)  # fmt: skip
_GROUPED = dict(_PLAIN, num_key_value_heads=2)
_HEADS = dict(_GROUPED, head_dim=8)
_GPT = dict(_TOKENS, n_embd=32, n_layer=LAYERS, n_head=4, n_positions=32)
_EXPERTS = dict(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=24)
_SHARED = dict(shared_expert_intermediate_size=24)
_LOCAL_EXPERTS = dict(num_local_experts=4, num_experts_per_tok=2)

CAUSAL: dict[str, dict[str, object]] = {
    "bloom": dict(_TOKENS, hidden_size=32, n_layer=LAYERS, n_head=4),
    "biogpt": _PLAIN,
    "codegen": dict(_GPT, n_ctx=32, rotary_dim=4),
    "cohere": _GROUPED,
    "cohere2": _HEADS,
    "deepseek_v3": dict(
        _PLAIN, num_key_value_heads=4, n_routed_experts=4, num_experts_per_tok=2, n_group=2,
        topk_group=1, moe_intermediate_size=24, first_k_dense_replace=1, q_lora_rank=16,
        kv_lora_rank=16, qk_rope_head_dim=4, qk_nope_head_dim=4, v_head_dim=8, n_shared_experts=1,
    ),
    "falcon": {k: v for k, v in _PLAIN.items() if k != "intermediate_size"},
    "gemma": _HEADS,
    "gemma2": dict(_HEADS, query_pre_attn_scalar=8),
    "gemma3_text": dict(_HEADS, query_pre_attn_scalar=8),
    "glm4": _HEADS,
    "gpt2": _GPT,
    "gpt_bigcode": _GPT,
    "gpt_neo": dict(
        _TOKENS, hidden_size=32, num_layers=LAYERS, num_heads=4, max_position_embeddings=32,
        attention_types=[[["global", "local", "global"], 1]], window_size=4,
    ),
    "gpt_neox": _PLAIN,
    "gpt_oss": dict(_HEADS, **_LOCAL_EXPERTS),
    "gptj": dict(_GPT, rotary_dim=4),
    "granite": dict(_GROUPED, residual_multiplier=0.25, logits_scaling=8.0,
                    embedding_multiplier=12.0),
    "llama": _GROUPED,
    "mamba": dict(_TOKENS, hidden_size=32, num_hidden_layers=LAYERS, state_size=4),
    "mistral": _GROUPED,
    "mixtral": dict(_GROUPED, **_LOCAL_EXPERTS),
    "mpt": dict(_TOKENS, d_model=32, n_layers=LAYERS, n_heads=4, max_seq_len=32, expansion_ratio=2),
    "nemotron": _GROUPED,
    "olmo": _GROUPED,
    "olmo2": _GROUPED,
    "olmoe": dict(_GROUPED, num_experts=4, num_experts_per_tok=2),
    "openai-gpt": dict(vocab_size=VOCAB, n_embd=32, n_layer=LAYERS, n_head=4, n_positions=32),
    "opt": dict(
        _TOKENS, hidden_size=32, num_hidden_layers=LAYERS, num_attention_heads=4, ffn_dim=48,
        max_position_embeddings=32, word_embed_proj_dim=32,
    ),
    "persimmon": _PLAIN,
    "phi": _PLAIN,
    "phi3": _GROUPED,
    "qwen2": _GROUPED,
    "qwen2_moe": dict(_GROUPED, **_EXPERTS, **_SHARED),
    "qwen3": _HEADS,
    "qwen3_moe": dict(_HEADS, **_EXPERTS),
    "qwen3_next": dict(
        _HEADS, **_EXPERTS, **_SHARED, linear_num_key_heads=2, linear_num_value_heads=4,
        linear_key_head_dim=8, linear_value_head_dim=8,
        layer_types=["linear_attention", "linear_attention", "full_attention"],
    ),
    "rwkv": dict(vocab_size=VOCAB, hidden_size=32, num_hidden_layers=LAYERS, context_length=32),
    "smollm3": _GROUPED,
    "stablelm": _GROUPED,
    "starcoder2": _GROUPED,
    "xglm": dict(
        _TOKENS, d_model=32, ffn_dim=48, num_layers=LAYERS, attention_heads=4,
        max_position_embeddings=32,
    ),
}  # fmt: skip
ENCODERS: dict[str, dict[str, object]] = {
    "albert": dict(_PLAIN, embedding_size=32),
    "bert": _PLAIN,
    "deberta-v2": _PLAIN,
    "distilbert": dict(vocab_size=VOCAB, dim=32, hidden_dim=48, n_layers=LAYERS, n_heads=4,
                       max_position_embeddings=32),
    "electra": dict(_PLAIN, embedding_size=32),
    "modernbert": dict(_PLAIN, global_attn_every_n_layers=2, cls_token_id=1, sep_token_id=2),
    "mpnet": _PLAIN,
    "roberta": _PLAIN,
    "xlm-roberta": _PLAIN,
}  # fmt: skip
HEAD = """\
# Families

Any model of Hugging Face transformers is given its canonical sites when it is wrapped, by what its
modules compute; names of modules are not read. Every name is then proved on numbers, and one that
fails is absent. This page is written from the code by `make docs`: each row is a model of three
layers with random weights, discovered and certified anew, its table set aside where one is written
by hand ({tabled}).

A tick: certified in every block. A dash: absent, for the reason below. A number: certified in so
many of three blocks. **Lens**: whether final norm and unembedding turn the last residual stream
into the logits. **Loss**: whether the logits are scores of the next token, which
`energylens run energy-lens` needs beside a lens; an encoder has none. **Padding**: whether
sequences of different lengths give what they give alone.

Weights are random, so the page says where things are, not what a trained model does with them.

"""


def random_module(model_type: str) -> nn.Module:
    """A tiny model of an architecture, all its parameters drawn from one generator.

    Norms and biases are random too, and outputs that start at zero are not: each would let a wrong
    claim pass.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM

    given = CAUSAL.get(model_type) or ENCODERS[model_type]
    auto = AutoModelForCausalLM if model_type in CAUSAL else AutoModelForMaskedLM
    with quiet(), warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        module = auto.from_config(AutoConfig.for_model(model_type, **given)).float().eval()
    return redrawn(module)


def redrawn(module: nn.Module, seed: int = 0) -> nn.Module:
    """The module with every parameter drawn anew, in place."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            drawn = torch.randn(parameter.shape, generator=generator)
            around = 0.0 if parameter.ndim > 1 or name.endswith("bias") else 1.0
            parameter.copy_(around + (0.3 if parameter.ndim > 1 else 0.2) * drawn)
    return module


@functools.cache
def discovered(model_type: str) -> Subject:
    """A random model of an architecture, wrapped as if there were no table of it."""
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return wrap(replace(load_model(random_module(model_type)), family=None))


def page() -> str:
    """The text of the page."""
    tabled = ", ".join(sorted({FAMILIES[name].name for name in FAMILIES}))
    text = HEAD.replace("{tabled}", tabled)
    for title, kinds in (("Causal language models", CAUSAL), ("Encoders", ENCODERS)):
        subjects = {kind: discovered(kind) for kind in kinds}
        text += f"## {title}\n\n{_table(subjects)}\n### Why not: {title.lower()}\n\n"
        text += "".join(_reasons(kind, subject) for kind, subject in subjects.items()) + "\n"
    return text.rstrip() + "\n"


def _table(subjects: dict[str, Subject]) -> str:
    columns = ["embed", *BLOCK_SITES, "ln_final.normalized", "logits", "lens", "loss", "padding"]
    head = [f"`{name}`" for name in columns[:-3]] + ["lens", "loss", "padding"]
    rows = [["model type", *head], ["---"] * (1 + len(columns))]
    for kind, subject in subjects.items():
        cells = [_cell(subject, name) for name in columns]
        rows.append([f"`{kind}`", *cells])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _cell(subject: Subject, name: str) -> str:
    if name in BLOCK_SITES:
        count = sum(f"blocks.{layer}.{name}" in subject.sites for layer in range(LAYERS))
        return {0: "–", LAYERS: "✓"}.get(count, str(count))
    there = name in subject.sites if name in MODEL_SITES else name not in subject.lacks
    return "✓" if there and "blocks" not in subject.lacks else "–"


def _reasons(kind: str, subject: Subject) -> str:
    """One line a reason, with what it takes away; layers are not told apart."""
    names: dict[str, list[str]] = {}
    for name, why in subject.lacks.items() if "blocks" in subject.lacks else ():
        names.setdefault(why, []).append(name)
    absent = {} if "blocks" in subject.lacks else {**subject.absent, **subject.lacks}
    for name, why in absent.items():
        names.setdefault(_of_any_block(subject, why), []).append(name.split(".", 2)[-1])
    if not names:
        return ""
    lines = "".join(f"- {', '.join(dict.fromkeys(taken))}: {why}\n" for why, taken in names.items())
    return f"**{kind}**\n\n{lines}\n"


def _of_any_block(subject: Subject, why: str) -> str:
    """The reason without the block's number, nor rounding that differs between machines."""
    family = subject.loaded.family
    assert family is not None
    for layer in range(LAYERS):
        why = why.replace(f"{family.block(layer)}.", "….")
    why = re.sub(r" \(the closest are off by [^)]*\)|,? but off by \S+ of their norm", "", why)
    return re.sub(r"[\w.…]+:(?:in|out)(?:\[\d+\])?", r"`\g<0>`", why)


def write(path: Path = PAGE) -> None:
    """Bring the page up to date."""
    path.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    write()
