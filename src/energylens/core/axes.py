"""Names of tensor axes: one legend for annotations, records and reports.

Shapes are written with jaxtyping, as in `Float[Tensor, "sample d_model"]`.
"""

AXES: dict[str, str] = {
    "batch": "sequences of one forward pass",
    "pos": "token positions of a sequence",
    "sample": "independent rows to a measure, usually batch × pos with the unwanted ones left out",
    "document": "the statistical unit of text",
    "unit": "the statistical unit in general: document, run, problem",
    "item": "prompts of a behaviour task",
    "d_model": "width of the residual stream",
    "d_in": "width of a dictionary's input",
    "d_out": "width of a dictionary's output",
    "feature": "latents of a dictionary",
    "coordinate": "what a probe may read: latents, or numbers of a state",
    "label": "values of a label, each against all others",
    "value": "values of the attributes of prompts",
    "active": "the k entries of a sparse code that may be non-zero",
    "vocab": "tokens of the vocabulary",
    "head": "attention heads",
    "d_head": "width of one head",
    "query": "positions that look",
    "key": "positions that are looked at",
    "neuron": "coordinates of a layer's output: neurons, or channels of an image",
    "filter": "neurons or channels by the weights that they read with",
    "layer": "blocks of the model, first is 0",
    "frequency": "of waves over numbers modulo p: 1 to (p − 1) / 2",
    "draw": "draws of a resampling null",
}
