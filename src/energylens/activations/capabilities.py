"""What can be done with a model as a whole, tried on a short batch."""

import torch
from torch import Tensor

from energylens.activations.agree import agree
from energylens.activations.batch import Batch
from energylens.activations.subject import Subject
from energylens.activations.suffix import run_from

# What a module of any make may raise when it is run in a way that it was not made for.
UNFIT = (TypeError, ValueError, RuntimeError, LookupError, AttributeError, AssertionError)


def lacking(subject: Subject, batch: Batch, output: Tensor, lens: str | None) -> dict[str, str]:
    """What a model lacks, and why: a lens, a next-token loss, a suffix to run, padding.

    Args:
        subject: With certified sites; at least one block.
        batch: Without padding.
        output: What the model gives for it.
        lens: Why there is no lens, if there is none.
    """
    reasons = {
        "lens": lens,
        "loss": no_loss(subject, batch, output),
        "suffix": _no_suffix(subject, batch, output),
        "padding": _no_padding(subject, batch, output),
    }
    return {name: why for name, why in reasons.items() if why}


def no_loss(subject: Subject, batch: Batch, output: Tensor) -> str | None:
    """Why what a model gives is no score of the next token, if it is not."""
    family = subject.loaded.family
    vocab = max(subject.loaded.vocab_size, 1 + int(batch.ids.max()))
    if family is not None and family.unembed is None:
        return "it has no unembedding"
    if output.shape[:2] != batch.ids.shape or output.ndim != 3 or output.shape[-1] < vocab:
        return "what it gives are not scores of the next token"
    # Another last token may move what is predicted there and nowhere before.
    known = batch.ids.unique()
    last = batch.ids[:, -1]
    ids = torch.cat(
        [batch.ids[:, :-1], torch.where(last == known[0], known[-1], known[0])[:, None]], 1
    )
    moved = subject.forward(Batch.full(ids, batch.document))
    if not agree(moved[:, :-1], output[:, :-1]):
        return "it reads the text in both directions"
    return None


def _no_suffix(subject: Subject, batch: Batch, output: Tensor) -> str | None:
    site = f"blocks.{(subject.n_layers - 1) // 2}.resid_post"
    if site not in subject.sites:
        return f"{site} is not certified"
    with subject.capture(site) as seen:
        subject.forward(batch)
    try:
        again = run_from(subject, site, seen[site], batch)
    except UNFIT as error:
        return f"its upper blocks cannot run alone ({said(error)})"
    return None if agree(again, output) else "its upper blocks read more than the residual stream"


def _no_padding(subject: Subject, batch: Batch, output: Tensor) -> str | None:
    """A shorter sequence, padded on either side, is compared with itself alone."""
    if output.shape[:2] != batch.ids.shape:
        return "what it gives has no positions to compare"
    whole, short = batch.ids[0].tolist(), batch.ids[-1, :-3].tolist()
    if not short:
        return "the probe was too short to try it"
    alone = subject.forward(Batch.full(batch.ids[-1:, :-3]))[0]
    for side in ("right", "left"):
        padded = Batch.padded([whole, short], side=side).to(batch.ids.device)
        where = slice(None, len(short)) if side == "right" else slice(-len(short), None)
        try:
            found = subject.forward(padded)[1, where]
        except UNFIT as error:
            return f"padding on the {side} is not taken ({said(error)})"
        if not agree(found, alone, inside=True):
            return f"padding on the {side} changes what it gives for the same text"
    return None


def said(error: Exception) -> str:
    """The error of somebody else's module in a few words."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
