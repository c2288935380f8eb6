"""How much a run looks at: sizes that are 0 in the options are set by its budget."""

from dataclasses import dataclass, replace

from energylens.core.errors import BadInput
from energylens.studies.energy_lens import EnergyLens
from energylens.studies.study import flag


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Sizes of a run.

    Attributes:
        tokens_per_feature: Training tokens of a dictionary over its width.
        widest: Features of a dictionary at the most, where the width is left open.
    """

    score_documents: int
    proof_features: int
    proof_contexts: int
    behaviour_prompts: int
    tokens_per_feature: int
    widest: int


BUDGETS = {
    "quick": Budget(score_documents=48, proof_features=6, proof_contexts=4, behaviour_prompts=16,
                    tokens_per_feature=5, widest=2048),
    "default": Budget(score_documents=100, proof_features=8, proof_contexts=5,
                      behaviour_prompts=18, tokens_per_feature=5, widest=2048),
    "full": Budget(score_documents=400, proof_features=30, proof_contexts=12, behaviour_prompts=60,
                   tokens_per_feature=25, widest=8192),
}  # fmt: skip
# The least that each size may be where it is given.
LEAST = {"score_documents": 10, "proof_features": 3, "proof_contexts": 2, "behaviour_prompts": 16}


def settled(options: EnergyLens) -> EnergyLens:
    """The same options with no size left open.

    Raises:
        BadInput: If a size is given and too small.
    """
    budget = BUDGETS[options.budget]
    sizes = {}
    for name, least in LEAST.items():
        given = getattr(options, name)
        if 0 < given < least:
            raise BadInput(
                f"option {flag(name)} is {given}: it must be {least} or more, or 0 for what the"
                f" budget {options.budget!r} gives ({getattr(budget, name)})"
            )
        sizes[name] = given or getattr(budget, name)
    return replace(options, **sizes)


def training_tokens(options: EnergyLens, width: int, fewest: int) -> int:
    """Tokens to train dictionaries of some width on."""
    return options.train_tokens or max(fewest, BUDGETS[options.budget].tokens_per_feature * width)
