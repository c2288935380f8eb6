"""Fifty-five trainings of three families on five sets of data, and what changes in them when."""

from dataclasses import dataclass
from typing import Annotated

from energylens.studies.study import Range, study


@study(
    name="ndt-suite",
    question="Which layers change when while networks train, and do they all at once?",
    entry="energylens.studies.ndt_suite.work:run",
    example="energylens run ndt-suite --quick --on local --workers 2",
    plan="energylens.studies.ndt_suite.grid:tell",
    tasks=True,
)
@dataclass(frozen=True, kw_only=True)
class NdtSuite:
    """Train perceptrons, convolutional networks and transformers, each watched all the while, and
    ask of all of them what changed, when, in which order and together with what."""

    quick: bool = False
    """Whether a few small networks are trained for 400 steps, in a minute and a half."""

    datasets: tuple[str, ...] = ()
    """Sets of examples; default: all of the suite, mnist-10k, digits, mnist1d, speeches and
    breast-cancer. Others are trained on where asked for: fashion-mnist, cifar10 or ag-news from a
    hub, hf:owner/name#given,label, an .npz file, a folder with IDX files such as QMNIST's."""

    architectures: tuple[str, ...] = ()
    """Networks; default: all of the suite."""

    seeds: Annotated[tuple[int, ...], Range(0, 2**31 - 1)] = (0,)
    """Each seed has its own split, first weights and order of the examples."""

    steps: Annotated[int, Range(0, 10**8)] = 0
    """Updates of each network; 0: 2,000, or 400 where it is to be quick."""

    interval: Annotated[int, Range(1, 10**6)] = 5
    """Updates between two looks."""

    batch: Annotated[int, Range(1, 10**6)] = 64
    """Examples an update."""

    lr: Annotated[float, Range(1e-8, 10.0)] = 1e-3
    """Learning rate of Adam."""

    probe: Annotated[int, Range(0, 10**5)] = 0
    """Held-out examples that networks are looked at on, in two halves; 0: 160 for perceptrons, 96
    where each gives many rows."""

    centred: bool = True
    """Whether the mean activation is taken off before dimensions are measured."""

    measures: tuple[str, ...] = ("stable_rank", "participation_ratio")
    """Dimensions that events are looked for in."""

    threads: Annotated[int, Range(0, 1024)] = 1
    """Threads of the numerics of each task: these networks are too small for more."""
