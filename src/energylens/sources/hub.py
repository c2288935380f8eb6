"""Fetch a model from the Hugging Face hub: a few named files, never code or pickles."""

import os
from pathlib import Path
from typing import Any

from energylens.core.errors import ArtifactRefused, BadInput

# Seconds to wait for the hub's answer before saying that it cannot be reached.
ANSWER_WITHIN = 8.0
TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model",
)  # fmt: skip
_SIDE_FILES = {
    "config.json", "generation_config.json", "tokenizer_config.json", "special_tokens_map.json",
    "added_tokens.json", "merges.txt", "model.safetensors.index.json", *TOKENIZER_FILES,
}  # fmt: skip


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
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    switched_off = _switched_off() if offline is None else offline
    reason = "the hub is switched off"
    try:
        if not switched_off:
            found = _ask(repository, revision)
            if not isinstance(found, str):
                folder = snapshot_download(
                    repository, revision=found.sha, allow_patterns=_wanted(repository, found),
                    etag_timeout=ANSWER_WITHIN,
                )  # fmt: skip
                return Path(folder), str(found.sha)
            reason = found
        folder = snapshot_download(repository, revision=revision, local_files_only=True)
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
    except OSError as error:
        raise BadInput(
            f"download of {repository!r} broke off ({type(error).__name__}): run it again"
        ) from error
    return Path(folder), Path(folder).name


def _switched_off() -> bool:
    from huggingface_hub import constants

    asked = os.environ.get("TRANSFORMERS_OFFLINE", "").upper()
    return bool(constants.HF_HUB_OFFLINE) or asked in {"1", "ON", "YES", "TRUE"}


def _ask(repository: str, revision: str | None) -> Any:
    """What the hub says of a model, or the reason why it said nothing."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
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
    except OSError:
        return f"the hub gave no answer within {ANSWER_WITHIN:.0f} s"


def _wanted(repository: str, found: Any) -> list[str]:
    """Files at the top of the repository that loading needs."""
    names = [sibling.rfilename for sibling in found.siblings or []]
    weights = [n for n in names if n.endswith(".safetensors") and "/" not in n]
    # Mistral's repositories hold the same weights twice, once under this name.
    weights = [n for n in weights if not n.startswith("consolidated")]
    if not weights:
        raise ArtifactRefused(
            f"hub model {repository!r} has no safetensors, only formats that may run code on"
            " loading: choose a revision or a copy that has them"
        )
    return weights + [name for name in names if name in _SIDE_FILES]
