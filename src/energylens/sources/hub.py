"""The one way to the Hugging Face hub: a few named files are fetched, never code; folders go up."""

import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
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
_MODEL_FILES = ("*.safetensors", *_SIDE_FILES)
# Other formats in folders of their own; and Mistral's second copy of the same weights.
_LEFT_THERE = ("*/*", "consolidated*")
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is looked for in a repository.

    Attributes:
        word: What the repository is called in a sentence.
        instead: What to do where it cannot be had, the end of a sentence.
        files: From the names of all its files, the patterns of those to fetch; raises where what is
            wanted is not among them.
        left: Patterns of what is left there.
        cached: Patterns of what must be in the cache for it to do without the hub.
    """

    word: str
    instead: str
    files: Callable[[str, Sequence[str]], Sequence[str]]
    left: Sequence[str] = ()
    cached: Sequence[str] = ()


def _model_files(repository: str, names: Iterable[str]) -> Sequence[str]:
    if not any(name.endswith(".safetensors") and "/" not in name for name in names):
        raise ArtifactRefused(
            f"hub model {repository!r} has no safetensors, only formats that may run code on"
            " loading: choose a revision or a copy that has them"
        )
    return _MODEL_FILES


MODEL = Wanted(
    word="model", instead="a local folder, a .gguf file, 'smollm2' or 'tiny'", files=_model_files,
    left=_LEFT_THERE, cached=_MODEL_FILES,
)  # fmt: skip


def is_repository(text: str) -> bool:
    """Whether a text has the form of a hub id.

    Example:
        >>> is_repository("google/gemma-scope-2b-pt-res"), is_repository("../models")
        (True, False)
    """
    return _REPOSITORY.fullmatch(text) is not None and ".." not in text


def fetch(
    repository: str, *, revision: str | None, offline: bool | None, wanted: Wanted = MODEL
) -> tuple[Path, str]:
    """Download what is wanted of a repository, or find it in the local cache.

    Args:
        repository: Hub id, `owner/name`.
        revision: Branch, tag or commit; the default branch if None.
        offline: True: look only in the cache; None: only if the environment says so.
        wanted: Which of its files.

    Returns:
        The folder, and the commit it holds.

    Raises:
        BadInput: If the hub has no such repository, or is out of reach and the cache has none
            either.
        ArtifactRefused: If the repository does not hold what is wanted.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (  # type: ignore[attr-defined]
        HFValidationError,
        HTTPError,
        LocalEntryNotFoundError,
    )

    switched_off = _switched_off() if offline is None else offline
    reason: str = "the hub is switched off"
    local, patterns = True, list(wanted.cached)
    try:
        if not switched_off:
            answer = _ask(repository, revision, wanted)
            if local := isinstance(answer, str):
                reason = answer
            else:
                names = [sibling.rfilename for sibling in answer.siblings or []]
                patterns = list(wanted.files(repository, names))
        with _shown():
            snapshot = snapshot_download(
                repository, revision=revision, local_files_only=local, allow_patterns=patterns,
                ignore_patterns=list(wanted.left), etag_timeout=ANSWER_WITHIN,
            )  # fmt: skip
    except HFValidationError:
        raise BadInput(
            f"{repository!r} is neither a path that exists nor a hub id: a hub id is 'owner/name'"
        ) from None
    except LocalEntryNotFoundError:
        at = f" at revision {revision}" if revision else ""
        raise BadInput(
            f"{wanted.word} {repository!r}{at} is not on this machine and {reason}: connect, or"
            f" give {wanted.instead}"
        ) from None
    except (OSError, HTTPError) as error:
        raise BadInput(
            f"download of {repository!r} broke off ({type(error).__name__}): run it again"
        ) from error
    return Path(snapshot), Path(snapshot).name


def _shown() -> AbstractContextManager[None]:
    """A person at a terminal is shown how far a transfer has come."""
    return nullcontext() if sys.stderr.isatty() else quiet()


def _switched_off() -> bool:
    from huggingface_hub import constants

    asked = os.environ.get("TRANSFORMERS_OFFLINE", "").upper()
    return bool(constants.HF_HUB_OFFLINE) or asked in {"1", "ON", "YES", "TRUE"}


def _ask(repository: str, revision: str | None, wanted: Wanted) -> Any:
    """What the hub says of a repository of models, or the reason why it said nothing."""
    from huggingface_hub import HfApi

    def info() -> Any:
        return HfApi().model_info(repository, revision=revision, timeout=ANSWER_WITHIN)

    return _answer(repository, revision, wanted.word, wanted.instead, info)


def _answer(
    repository: str, revision: str | None, word: str, instead: str, info: Callable[[], Any]
) -> Any:
    """What the hub answers, or the reason why it gave none."""
    from huggingface_hub.errors import (  # type: ignore[attr-defined]
        GatedRepoError,
        HfHubHTTPError,
        HTTPError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        return info()
    except GatedRepoError:
        raise BadInput(
            f"{word} {repository!r} is gated: accept its terms on the hub and log in with"
            " `hf auth login`"
        ) from None
    except RepositoryNotFoundError:
        kind = "dataset" if word == "dataset" else "model"
        raise BadInput(
            f"no path and no public hub {kind} is named {repository!r}: check the spelling, or give"
            f" {instead}"
        ) from None
    except RevisionNotFoundError:
        raise BadInput(
            f"{word} {repository!r} has no revision {revision!r}: see its hub page"
        ) from None
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else "no status"
        return f"the hub answered with an error ({status})"
    except (OSError, HTTPError):
        return f"the hub gave no answer within {ANSWER_WITHIN:.0f} s"


def dataset_commit(repository: str, *, revision: str | None) -> str:
    """The commit that a branch or tag of a dataset stands for now.

    Raises:
        BadInput: If the hub has no such dataset or revision, or cannot be reached.
    """
    from huggingface_hub import HfApi

    if not is_repository(repository):
        raise BadInput(
            f"{repository!r} is neither a folder that exists nor a dataset of the hub, owner/name"
        )
    if _switched_off():
        raise BadInput(f"dataset {repository!r} is streamed, and the hub is switched off: connect")

    def info() -> Any:
        return HfApi().dataset_info(repository, revision=revision, timeout=ANSWER_WITHIN)

    answer = _answer(repository, revision, "dataset", "a file, a folder or another dataset", info)
    if isinstance(answer, str):
        raise BadInput(f"dataset {repository!r} is not to be had, {answer}: connect and try again")
    return str(answer.sha)


def readme(repository: str, revision: str | None) -> str | None:
    """The card that a repository has; None if it has none, or is not there itself.

    Raises:
        BadInput: As `push` does.
    """
    from huggingface_hub import HfApi

    with _refused(repository):
        api = HfApi(token=True)
        if not api.file_exists(repository, "README.md", revision=revision):
            return None
        found = api.hf_hub_download(repository, "README.md", revision=revision)
        return Path(found).read_text(encoding="utf-8")


def push(
    files: Mapping[str, Path | bytes],
    repository: str,
    *,
    private: bool | None,
    revision: str | None,
    message: str,
) -> str:
    """Upload files in one commit.

    The token is the one that `hf auth login` or the variable HF_TOKEN gave the hub's own library:
    it is neither read nor kept here.

    Args:
        files: By their path in the repository.
        repository: Hub id; the repository is made if it is not there.
        private: Of a repository that is made; None: as the settings of the account say.
        revision: Branch; the default branch if None.
        message: Of the commit.

    Returns:
        Address of the commit.

    Raises:
        BadInput: If nobody is logged in, or the hub refuses or cannot be reached.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    added = [
        CommitOperationAdd(name, content if isinstance(content, bytes) else str(content))
        for name, content in files.items()
    ]
    with _refused(repository), _shown():
        api = HfApi(token=True)
        api.create_repo(repository, private=private, exist_ok=True)
        done = api.create_commit(repository, added, commit_message=message, revision=revision)
    return str(done.commit_url)


@contextmanager
def _refused(repository: str) -> Iterator[None]:
    """What may go wrong while something is sent, each in one sentence."""
    from huggingface_hub.errors import (  # type: ignore[attr-defined]
        HfHubHTTPError,
        HTTPError,
        LocalTokenNotFoundError,
    )

    if not is_repository(repository):
        raise BadInput(f"{repository!r} is no hub id: a hub id is 'owner/name'")
    if _switched_off():
        raise BadInput(
            f"{repository!r} cannot be pushed to, the hub is switched off: unset HF_HUB_OFFLINE"
        )
    login = "log in with `hf auth login`, or set HF_TOKEN, to a token that may write there"
    try:
        yield
    except LocalTokenNotFoundError:
        raise BadInput(f"{repository!r} is pushed to with a token, found none: {login}") from None
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else "no status"
        told = " ".join((error.server_message or "no reason").split())[:200]
        todo = login if status in (401, 403, 404) else "try again later"
        raise BadInput(f"the hub refused {repository!r} ({status}, {told}): {todo}") from None
    except ValueError as error:  # of the card's first lines, before anything is sent
        told = " ".join(str(error).split())[:200]
        raise BadInput(f"the hub refused {repository!r}: {told}") from None
    except (OSError, HTTPError) as error:
        raise BadInput(
            f"{repository!r} was not pushed, the hub cannot be reached ({type(error).__name__}): "
            "connect and run it again"
        ) from None
