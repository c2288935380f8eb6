"""Networks trained on one set of examples, their layers' dimensions followed all the while."""

from dataclasses import dataclass
from typing import Annotated

from energylens.studies.study import Range, study


@study(
    name="track-training",
    question="Over how many dimensions do a network's layers spread while it trains?",
    entry="energylens.studies.track_training.work:run",
    example="energylens run track-training --dataset digits --architectures mlp_narrow --steps 500",
    subject="dataset",
)
@dataclass(frozen=True, kw_only=True)
class TrackTraining:
    """Train networks of some architectures one after another, and look at each every few steps."""

    dataset: str = "mnist-10k"
    """What is learned: mnist-10k, digits, mnist1d, breast-cancer, speeches, from a hub
    fashion-mnist, cifar10, ag-news or hf:owner/name#given,label; or an .npz file with images and
    labels, or a folder with IDX files such as those of QMNIST."""

    architectures: tuple[str, ...] = ("mlp_shallow_2",)
    """Networks, as in ndt-suite: mlp_narrow, cnn_deep, transformer_shallow and others."""

    seed: Annotated[int, Range(0, 2**31 - 1)] = 0
    """Of the split, the first weights and the order of the examples."""

    steps: Annotated[int, Range(1, 10**8)] = 2_000
    """Updates of each network."""

    interval: Annotated[int, Range(1, 10**6)] = 5
    """Updates between two looks."""

    batch: Annotated[int, Range(1, 10**6)] = 64
    """Examples an update."""

    lr: Annotated[float, Range(1e-8, 10.0)] = 1e-3
    """Learning rate of Adam."""

    probe: Annotated[int, Range(0, 10**5)] = 0
    """Held-out examples that networks are looked at on, in two halves, fewer if there are not as
    many; 0: 160, or 96 where each gives many rows, as the words of a text and the pixels of an
    image do."""

    centred: bool = True
    """Whether the mean activation is taken off before dimensions are measured."""

    checkpoint_seconds: Annotated[int, Range(0, 10**6)] = 30
    """Least time between two checkpoints of a training."""

    threads: Annotated[int, Range(0, 1024)] = 0
    """Threads of the numerics; 0: as many as torch finds right."""
