"""What a notebook begins with: windows of text, or what a run has found."""

from pathlib import Path

import torch

from energylens.activations.subject import Subject
from energylens.core.errors import BadInput
from energylens.results.record import Summary
from energylens.sources.text import load_text
from energylens.sources.windows import TokenWindows, tokenise


def read_windows(
    subject: Subject,
    text: list[str | Path] | None = None,
    *,
    documents: int = 300,
    context: int = 128,
    held_out: float = 0.5,
    seed: int = 0,
) -> tuple[TokenWindows, TokenWindows]:
    """Windows of text to train on and, of other documents, to score on.

    Args:
        text: Files and folders; None for the six kinds that ship along.
        held_out: Share of the documents to score on.

    Raises:
        BadInput: If the model has no tokenizer, or the text cannot be read.
    """
    tokenizer = subject.loaded.tokenizer
    if tokenizer is None:
        raise BadInput(f"{subject.loaded.name} has no tokenizer: make TokenWindows of your own ids")
    generator = torch.Generator().manual_seed(seed)
    windows = tokenise(
        load_text(text or "default"), tokenizer, min(context, subject.loaded.context or context),
        documents=documents, generator=generator,
    )  # fmt: skip
    scored, trained_on = windows.split(held_out, generator)
    return trained_on, scored


def read_summary(run: str | Path) -> Summary:
    """The finding of a run and the numbers behind it.

    Args:
        run: A run directory.

    Raises:
        BadInput: If it holds no summary.
        ArtifactRefused: If the summary is damaged, or was written by a newer version.
    """
    path = Path(run) / "summary.json"
    if not path.is_file():
        raise BadInput(f"{run} holds no summary.json: give the folder of a run that has ended")
    return Summary.from_json(path.read_bytes(), str(path))
