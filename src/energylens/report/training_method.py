"""How dictionaries are trained, in prose."""

from energylens.report.method import Method
from energylens.report.sources import BRICKEN, GAO, SUN

TRAINING_METHODS: tuple[Method, ...] = (
    Method(
        anchor="method-training",
        title="Training",
        table="trained_dictionaries",
        formula=(
            "z = σ(W_enc (h − b_dec) + b_enc), at most or about k of them active",
            "ĥ = W_dec z + b_dec",
            "FVU = Σ ‖h − ĥ‖² / Σ ‖h − h̄‖²",
            "loss recovered = (L_mean − L_ĥ) / (L_mean − L_clean)",
        ),
        text=(
            "States of the model on text are learned from in random order, batch by batch; the "
            "first position of each window, its last, and special tokens are left out, and so are "
            "massive activations: rows farther from the median row than ten median distances. "
            "Rows are centred and scaled while training, which is folded into the weights at the "
            "end.",
            "The activation σ is the architecture's own. Features begin halfway between single "
            "rows and chance. Features that were silent for long are woken by an auxiliary loss on "
            "what the others leave over.",
            "The dictionaries are judged on documents that none was trained on: FVU on their "
            "ordinary rows, and the model's loss with the reconstruction (L_ĥ), or the mean state "
            "(L_mean), in place of the state. Intervals resample documents.",
        ),
        sources=(GAO, BRICKEN, SUN),
        page="docs/train-dictionary.md",
    ),
)
