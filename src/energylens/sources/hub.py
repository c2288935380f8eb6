"""Fetch a model from the Hugging Face hub: a few named files, never code or pickles."""

import os
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from energylens.core.errors import ArtifactRefused, BadInput
from energylens.sources.quiet import quiet

# Seconds to wait for the hub's answer before saying that it cannot be reached.
ANSWER_WITHIN = 8.0
TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model",
)  # fmt: skip
_SIDE_FILES = (
    "config.json", "generation_config.json", "preprocessor_config.json", "tokenizer_config.json",
    "special_tokens_map.json", "added_tokens.json", "merges.txt", "model.safetensors.index.json",
    *TOKENIZER_FILES,
)  # fmt: skip
# Other formats in folders of their own; and Mistral's second copy of the same weights.
_LEFT_THERE = ["*/*", "consolidated*"]


def fetch(repository: str, *, revision: str | None, offline: bool | None) -> tuple[Path, str]:
    """Download a model, or find it in the local cache.

    Args:
        repository: Hub id, `owner/name`.
        revision: Branch, tag or commit; the default branch if None.
        offline: True: look only in the cache; None: only if the environment says so.

    Returns:
        The folder, and the commit it holds.

    Raises:
        BadInput: If the hub has no such model, or is out of reach and the cache has none either.
        ArtifactRefused: If the model has no safetensors.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (  # type: ignore[attr-defined]
        HFValidationError,
        HTTPError,
        LocalEntryNotFoundError,
    )

    switched_off = _switched_off() if offline is None else offline
    reason: str = "the hub is switched off"
    local = True
    try:
        if not switched_off:
            answer = _ask(repository, revision)
            if local := isinstance(answer, str):
                reason = answer
            else:
                _require_safetensors(repository, answer)
        # A person at a terminal is shown how far the download has come.
        with nullcontext() if sys.stderr.isatty() else quiet():
            snapshot = snapshot_download(
                repository, revision=revision, local_files_only=local,
                allow_patterns=["*.safetensors", *_SIDE_FILES], ignore_patterns=_LEFT_THERE,
                etag_timeout=ANSWER_WITHIN,
            )  # fmt: skip
    except HFValidationError:
        raise BadInput(
            f"{repository!r} is neither a path that exists nor a hub id: a hub id is 'owner/name'"
        ) from None
    except LocalEntryNotFoundError:
        at = f" at revision {revision}" if revision else ""
        raise BadInput(
            f"model {repository!r}{at} is not on this machine and {reason}: connect, or give a"
            " local folder, a .gguf file, 'smollm2' or 'tiny'"
        ) from None
    except (OSError, HTTPError) as error:
        raise BadInput(
            f"download of {repository!r} broke off ({type(error).__name__}): run it again"
        ) from error
    return Path(snapshot), Path(snapshot).name


def _switched_off() -> bool:
    from huggingface_hub import constants

    asked = os.environ.get("TRANSFORMERS_OFFLINE", "").upper()
    return bool(constants.HF_HUB_OFFLINE) or asked in {"1", "ON", "YES", "TRUE"}


def _ask(repository: str, revision: str | None) -> Any:
    """What the hub says of a model, or the reason why it said nothing."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (  # type: ignore[attr-defined]
        GatedRepoError,
        HfHubHTTPError,
        HTTPError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        return HfApi().model_info(repository, revision=revision, timeout=ANSWER_WITHIN)
    except GatedRepoError:
        raise BadInput(
            f"model {repository!r} is gated: accept its terms on the hub and log in with"
            " `hf auth login`"
        ) from None
    except RepositoryNotFoundError:
        raise BadInput(
            f"no path and no public hub model is named {repository!r}: check the spelling, or use"
            " 'smollm2' or 'tiny'"
        ) from None
    except RevisionNotFoundError:
        raise BadInput(
            f"model {repository!r} has no revision {revision!r}: see its hub page"
        ) from None
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else "no status"
        return f"the hub answered with an error ({status})"
    except (OSError, HTTPError):
        return f"the hub gave no answer within {ANSWER_WITHIN:.0f} s"


def _require_safetensors(repository: str, answer: Any) -> None:
    names = [sibling.rfilename for sibling in answer.siblings or []]
    if not any(name.endswith(".safetensors") and "/" not in name for name in names):
        raise ArtifactRefused(
            f"hub model {repository!r} has no safetensors, only formats that may run code on"
            " loading: choose a revision or a copy that has them"
        )
