"""Tiny random models of each family, wrapped; cheap enough to make in every test."""

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from energylens.activations.certify import wrap
from energylens.activations.subject import Subject

SHAPES = {
    "llama": dict(
        hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, vocab_size=60, max_position_embeddings=32,
    ),
    "gpt2": dict(n_embd=32, n_layer=3, n_head=4, vocab_size=60, n_positions=32),
    "gpt_neox": dict(
        hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
        vocab_size=60, max_position_embeddings=32,
    ),
}  # fmt: skip


def subject(family: str = "llama", *, dtype: torch.dtype = torch.float64) -> Subject:
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **SHAPES[family], bos_token_id=1, eos_token_id=2)
    model = AutoModelForCausalLM.from_config(config).to(dtype).eval()
    for parameter in model.parameters():
        if parameter.ndim >= 2:
            torch.nn.init.normal_(parameter, std=0.2)
    _norms_in_full_precision(model)
    return wrap(model)


def _norms_in_full_precision(model: torch.nn.Module) -> None:
    """The library's RMSNorm rounds to float32, which finite differences in float64 would see."""
    for name, module in list(model.named_modules()):
        if type(module).__name__.endswith("RMSNorm"):
            full = torch.nn.RMSNorm(len(module.weight), eps=module.variance_epsilon)
            full.weight = module.weight
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, full)


def tokens(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(3, 60, shape, generator=torch.Generator().manual_seed(seed))
