"""Read a model and its tokenizer from files: a folder with safetensors, or one GGUF file."""

import functools
import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from energylens.core.errors import ArtifactRefused, BadInput
from energylens.sources.hub import TOKENIZER_FILES
from energylens.sources.quiet import quiet
from energylens.sources.tokenizer import Tokenizer

_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


def read_folder(folder: Path, dtype: torch.dtype) -> tuple[nn.Module, Tokenizer, list[Path]]:
    """A causal language model as Hugging Face saves it.

    Returns:
        The module, its tokenizer, and the files that held the weights.

    Raises:
        BadInput: If the configuration, the weights or the tokenizer are missing, or transformers
            does not know the architecture.
        ArtifactRefused: If there are only pickles, or the weights are damaged or do not fit.
    """
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoModelForCausalLM, AutoTokenizer

    weights = _weight_files(folder)
    _check_architecture(
        folder, MODEL_FOR_CAUSAL_LM_MAPPING, "a causal language model",
        "load it yourself and give the module",
    )  # fmt: skip
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise BadInput(
            f"model folder {folder} has no tokenizer: save it there too, with the tokenizer's"
            " save_pretrained"
        )
    module = _whole_model(AutoModelForCausalLM, folder, dtype)
    with quiet(), _as_refusal(folder):
        tokenizer = AutoTokenizer.from_pretrained(
            folder, trust_remote_code=False, local_files_only=True
        )
    return module, tokenizer, weights


def read_classifier_folder(folder: Path, dtype: torch.dtype) -> tuple[nn.Module, list[Path]]:
    """An image classifier as Hugging Face saves it.

    Returns:
        The module, and the files that held the weights.

    Raises:
        BadInput: If the configuration or the weights are missing, or it is no image classifier.
        ArtifactRefused: If there are only pickles, or the weights are damaged or do not fit.
    """
    from transformers import (
        MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING,
        AutoModelForImageClassification,
    )

    weights = _weight_files(folder)
    _check_architecture(
        folder, MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING, "an image classifier",
        "language models go through `energylens run energy-lens`",
    )  # fmt: skip
    return _whole_model(AutoModelForImageClassification, folder, dtype), weights


def _whole_model(kind: Any, folder: Path, dtype: torch.dtype) -> nn.Module:
    """A model with every weight from its files; what a file lacks is never drawn at random."""
    with quiet(), _as_refusal(folder):
        module, report = kind.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, trust_remote_code=False,
            local_files_only=True, output_loading_info=True,
        )  # fmt: skip
    if missing := sorted(report["missing_keys"]):
        raise ArtifactRefused(
            f"model folder {folder} lacks the weights of {len(missing)} parameters, first"
            f" {missing[0]}: save the whole model"
        )
    return module  # type: ignore[no-any-return]


def read_gguf(path: Path, dtype: torch.dtype) -> tuple[nn.Module, Tokenizer, list[Path]]:
    """A causal language model and its tokenizer from one GGUF file, with its weights dequantised.

    Raises:
        ArtifactRefused: If the file is damaged, or of an architecture that cannot be converted.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise ArtifactRefused(f"{path} is not a GGUF file: its first bytes are of another kind")
    options: dict[str, Any] = {"gguf_file": path.name, "local_files_only": True}
    with quiet(), _parsed_once(), _as_refusal(path):
        module = AutoModelForCausalLM.from_pretrained(path.parent, dtype=dtype, **options)
        tokenizer = AutoTokenizer.from_pretrained(path.parent, **options)
    return module, tokenizer, [path]


def files_sha256(files: Sequence[Path]) -> str:
    """Hash of the weight file; of several, the hash of their names and hashes in order of name."""
    digests: dict[str, str] = {}
    for path in sorted(files):
        with path.open("rb") as file:
            digests[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    if len(digests) == 1:
        return next(iter(digests.values()))
    listing = "".join(f"{digest}  {name}\n" for name, digest in digests.items())
    return hashlib.sha256(listing.encode()).hexdigest()


def _weight_files(folder: Path) -> list[Path]:
    if not (folder / "config.json").is_file():
        raise BadInput(
            f"folder {folder} has no config.json: give the folder that save_pretrained wrote"
        )
    found = [path for path in folder.glob("*.safetensors") if path.is_file()]
    if found:
        return sorted(found)
    pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
    if pickles:
        raise ArtifactRefused(
            f"folder {folder} has its weights only as a pickle ({pickles[0]}), which can run any"
            " code on loading: in a sandbox, load it with transformers and save it again with"
            " save_pretrained, which writes safetensors"
        )
    raise BadInput(f"model folder {folder} has no weights: no *.safetensors file is in it")


def _check_architecture(folder: Path, known: Any, wanted: str, advice: str) -> None:
    """Refuse what transformers could only load by running code from the folder, and other kinds.

    Args:
        known: Configurations that transformers has a model of the wanted kind for.
    """
    from transformers import CONFIG_MAPPING

    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        model_type = config["model_type"]
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactRefused(
            f"{folder / 'config.json'} names no model_type ({type(error).__name__}): it must be"
            " the JSON that save_pretrained writes"
        ) from None
    if model_type not in CONFIG_MAPPING:
        raise BadInput(
            f"model folder {folder} is of the unknown architecture {model_type!r}: this version of"
            " transformers has no code for it, and code from a model's folder is never run"
        )
    if CONFIG_MAPPING[model_type] not in known:
        raise BadInput(
            f"model folder {folder} is a {model_type!r}, which is not {wanted}: {advice}"
        )


@contextmanager
def _as_refusal(path: Path) -> Iterator[None]:
    """Turn what the libraries raise on a bad file into one sentence."""
    try:
        yield
    except MemoryError:
        raise
    # Nothing of ours runs inside, and a malformed file makes these libraries raise anything:
    # struct.error, IndexError, and from tokenizers the bare Exception itself.
    except Exception as error:
        first = next((line for line in str(error).splitlines() if line.strip()), "no reason given")
        raise ArtifactRefused(
            f"{path} cannot be loaded as a model: {type(error).__name__}: {first.strip()[:200]}"
        ) from error


@contextmanager
def _parsed_once() -> Iterator[None]:
    """Let transformers parse a GGUF file once, and quickly.

    It opens the file three times and builds the table of tensor names for each of its modules:
    26 s of processor time for SmolLM2 where 6 do (transformers 5.23, gguf 0.19).
    """
    import gguf

    readers = {"GGUFReader": _plain_reader(), "get_tensor_name_map": gguf.get_tensor_name_map}
    before = {name: getattr(gguf, name) for name in readers}
    for name, called in readers.items():
        setattr(gguf, name, functools.lru_cache(maxsize=8)(called))
    try:
        yield
    finally:
        for name, called in before.items():
            setattr(gguf, name, called)


def _plain_reader() -> type:
    """A reader whose fields are plain arrays over the same mapped file.

    Slices of a `np.memmap`, which the library's own are, each run Python code; a vocabulary of
    50,000 tokens has 250,000 of them.
    """
    import gguf

    def get(
        reader: Any, offset: Any, dtype: Any, count: Any = 1, override_order: Any = None
    ) -> Any:
        kind = np.dtype(dtype).newbyteorder(override_order or reader.byte_order)
        return np.frombuffer(reader.data, kind, int(count), int(offset))

    return type("PlainReader", (gguf.GGUFReader,), {"_get": get})
