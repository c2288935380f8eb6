"""A classifier's loss on the label, as a function of the states at a site."""

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from energylens.core.errors import BadInput
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
