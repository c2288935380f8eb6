"""Networks trained twice: to find when they change, and to see what changed in them then."""

from dataclasses import dataclass
from typing import Annotated

from energylens.studies.study import Range, study


@study(
    name="mechanisms-at-jumps",
    question="Do heads, filters and neurons change at jumps more than at quiet times?",
    entry="energylens.studies.mechanisms_at_jumps.work:run",
    example="energylens run mechanisms-at-jumps --quick",
    subject="dataset",
)
@dataclass(frozen=True, kw_only=True)
class MechanismsAtJumps:
    """Train a network and find its jumps; train it again, the same to the bit, and keep it before
    and after each of them and at quiet times; compare what changed."""

    quick: bool = False
    """Whether the networks learn scikit-learn's digits for 300 steps of 32 examples, in a minute;
    --dataset, --steps and --batch are not looked at then."""

    dataset: str = "mnist-10k"
    """What is learned: mnist-10k, digits, mnist1d, breast-cancer or speeches."""

    architectures: tuple[str, ...] = ("mlp_shallow_2", "cnn_shallow", "transformer_narrow")
    """Networks, as in ndt-suite."""

    seed: Annotated[int, Range(0, 2**31 - 1)] = 0
    """Of the split, the first weights and the order of the examples."""

    steps: Annotated[int, Range(200, 10**8)] = 1_000
    """Updates of each network."""

    interval: Annotated[int, Range(1, 10**6)] = 5
    """Updates between two looks."""

    batch: Annotated[int, Range(1, 10**6)] = 64
    """Examples an update."""

    lr: Annotated[float, Range(1e-8, 10.0)] = 1e-3
    """Learning rate of Adam."""

    probe: Annotated[int, Range(40, 10**5)] = 256
    """Held-out examples that networks are looked at on; checkpoints are compared on 128 of them."""

    events: Annotated[int, Range(3, 1_000)] = 5
    """Most events of each kind: jumps, and moments at which dimensions move fastest."""

    controls: Annotated[int, Range(1, 20)] = 3
    """Quiet windows for each event."""

    margin: Annotated[int, Range(1, 10**6)] = 10
    """Updates before and after an event at which the network is kept."""

    draws: Annotated[int, Range(199, 10**6)] = 199
    """Draws of the null of jumps."""

    checkpoint_seconds: Annotated[int, Range(0, 10**6)] = 30
    """Least time between two checkpoints of a training, to go on from if it is killed."""

    threads: Annotated[int, Range(0, 1024)] = 1
    """Threads of the numerics: both trainings of a network need the same, and these networks are
    too small for more."""
