"""The model's own loss as a function of the states at a site: the rest of the network is run."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cross_entropy

from energylens.activations.batch import Batch
from energylens.activations.subject import Subject
from energylens.core.registry import measure


def next_token_surprisal(
    logits: Float[Tensor, "batch pos vocab"], batch: Batch
) -> Float[Tensor, "batch pos"]:
    """−log p(next token) in nats at every place; 0 where no token follows."""
    flat = cross_entropy(
        logits.flatten(0, 1).float() if logits.dtype.itemsize < 4 else logits.flatten(0, 1),
        batch.next_ids.flatten(),
        reduction="none",
    ).view(batch.ids.shape)
    return flat * batch.has_next


@measure(
    units="nats per sequence",
    axes=("batch",),
    source="definition: the network's training loss, summed over the sequence",
    null="the same states with the sites' features replaced by matched random directions",
    formula="E(h) = Σ_s −log p(x_{s+1} | x_1..x_s), every p computed by the network above h",
)
def downstream_energy(
    logits: Float[Tensor, "batch pos vocab"], batch: Batch
) -> Float[Tensor, " batch"]:
    """Summed next-token loss of each sequence, as a function of any state below the logits.

    Its derivative by the state at one position counts every later prediction that reads it.
    """
    return next_token_surprisal(logits, batch).sum(1)


def downstream_gradients(
    subject: Subject, batch: Batch, sites: Sequence[str]
) -> tuple[dict[str, Tensor], dict[str, Tensor], Float[Tensor, "batch pos"]]:
    """States, exact ∂E/∂h at several sites from one backward pass, and the loss at each place.

    Returns:
        (states, gradients, surprisal): the first two by site, each [batch pos d_model].

    Raises:
        SiteNotAvailable: If the model has no next-token loss; names the energies that remain.
    """
    subject.require("loss")
    with torch.enable_grad(), subject.capture(*sites, grad=True) as seen:
        logits = subject.forward(batch)
        surprisal = next_token_surprisal(logits, batch)
        names = list(seen)
        gradients = torch.autograd.grad(surprisal.sum(), [seen[name] for name in names])
    states = {name: seen[name].detach() for name in names}
    return states, dict(zip(names, gradients, strict=True)), surprisal.detach()
