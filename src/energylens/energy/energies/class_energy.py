"""A classifier's loss on the label, as a function of the states at a site."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from energylens.activations.images import ImageBatch, as_positions
from energylens.activations.subject import Subject
from energylens.core.errors import BadInput, SiteNotAvailable
from energylens.core.registry import measure


@measure(
    units="nats",
    axes=("sample",),
    source="definition: the classifier's cross-entropy",
    null="log of the number of classes: a uniform guess",
    formula="E(h) = −log softmax(classifier(h))[label]",
    unchanged_by=("a constant added to all logits of a sample",),
)
def class_energy(
    logits: Float[Tensor, "sample class"], labels: Int[Tensor, " sample"]
) -> Float[Tensor, " sample"]:
    """−log p(label), with p from the classifier's own head.

    Raises:
        BadInput: If a label is not a class.

    Example:
        >>> import torch
        >>> class_energy(torch.zeros(1, 4), torch.tensor([2])).exp().round().item()
        4.0
    """
    classes = logits.shape[-1]
    if len(labels) and not bool(((labels >= 0) & (labels < classes)).all()):
        raise BadInput(
            f"labels lie between 0 and {classes - 1}, one for each of the {classes} classes; found"
            f" {int(labels.min())} to {int(labels.max())}"
        )
    return cross_entropy(logits, labels, reduction="none")


@measure(
    units="logit units",
    axes=("sample",),
    source="definition: the label's logit against the mean over images of other labels",
    null="labels dealt out to other images: the mean is exactly 0",
    formula="E(h) = Σ_c π_c z_c − z_label, π_c the share of class c among all labels",
    unchanged_by=("a constant added to all logits of a sample",),
)
def class_margin(
    logits: Float[Tensor, "sample class"],
    labels: Int[Tensor, " sample"],
    shares: Float[Tensor, " class"],
) -> Float[Tensor, " sample"]:
    """The part of the class energy that depends on the label, free of saturation.

    E = −log p(label) = −z_label + logsumexp(z), and the second term knows no label: a network that
    is sure of itself has a slope there even if labels are dealt out blindly. Here it is replaced by
    what the same labels, dealt out blindly, would give on average.

    Args:
        shares: π, non-negative, sum 1.

    Example:
        >>> import torch
        >>> z, half = torch.tensor([[3.0, 1.0]]), torch.tensor([0.5, 0.5])
        >>> class_margin(z, torch.tensor([0]), half).item()
        -1.0
    """
    return logits @ shares.to(logits) - logits.gather(1, labels[:, None])[:, 0]


@dataclass(frozen=True, kw_only=True)
class ClassSlopes:
    """States of a batch of images and the slope of several energies there.

    Attributes:
        states: By site, positions in one axis.
        gradients: By energy, then by site.
    """

    logits: Float[Tensor, "batch class"]
    states: Mapping[str, Float[Tensor, "batch pos d"]]
    gradients: Mapping[str, Mapping[str, Float[Tensor, "batch pos d"]]]


def class_slopes(
    subject: Subject,
    batch: ImageBatch,
    sites: Sequence[str],
    energies: Mapping[str, Callable[[Tensor], Tensor]],
) -> ClassSlopes:
    """Exact ∂E/∂h at several sites, one backward pass an energy.

    Args:
        energies: By name, from logits [batch class] to one energy an image.

    Raises:
        SiteNotAvailable: If the module gives no scores of classes.
    """
    with torch.enable_grad(), subject.capture(*sites, grad=True) as seen:
        logits = subject.forward(batch)
        must_classify(logits, len(batch.labels), subject.loaded.name)
        names = list(seen)
        inputs = [seen[name] for name in names]
        found = {
            name: torch.autograd.grad(energy(logits).sum(), inputs, retain_graph=True)
            for name, energy in energies.items()
        }
    return ClassSlopes(
        logits=logits.detach(),
        states={name: as_positions(seen[name].detach(), name) for name in names},
        gradients={
            energy: {name: as_positions(g, name) for name, g in zip(names, gradients, strict=True)}
            for energy, gradients in found.items()
        },
    )


def must_classify(output: Tensor, images: int, name: str) -> None:
    """Refuse what does not give one score a class and image.

    Raises:
        SiteNotAvailable: With the shape that was found.
    """
    if output.ndim != 2 or len(output) != images or output.shape[1] < 2:
        shape = "×".join(map(str, output.shape))
        raise SiteNotAvailable(
            f"{name} is no classifier: for {images} images it gives a tensor of shape {shape}"
            " where scores [image class] of two classes or more are needed; give a model with a"
            " classification head"
        )
