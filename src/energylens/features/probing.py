"""Sparse probes: what a few coordinates tell of a label, and of a label that means nothing.

A probe is a logistic regression on the few coordinates whose means differ most on training rows
(Gurnee et al. 2023, arXiv:2305.01610); it is judged on rows of other documents. Beside it stands a
control task (Hewitt & Liang 2019, arXiv:1909.03368): each word gets a label at random, so that a
probe can be right by knowing words alone. What a label is worth is what it is above its control.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64, Int, Int64
from torch import Tensor

from energylens.core.errors import InsufficientData
from energylens.core.registry import measure
from energylens.core.threads import one_blas_thread
from energylens.features.code import SparseCode
from energylens.stats.discrimination import Discrimination, discrimination, mean_of, over_units
from energylens.stats.interval import Interval

Coordinates = SparseCode | Tensor
"""What a row is told by: a sparse code, or numbers [sample coordinate]."""
FEWEST = 10
"""Samples with the label, and without, that a probe is trained on."""


@measure(
    units="standard deviations of the coordinate",
    axes=("coordinate", "label"),
    source="mean difference as in Gurnee et al. 2023, arXiv:2305.01610, on a common scale",
    null="labels dealt out at random to words; coordinates of a random dictionary",
    unchanged_by=("sample order", "scale and shift of a coordinate"),
    formula="(mean of x where labelled − mean of x elsewhere) / sd of x",
)
def mean_differences(
    coordinates: Coordinates, labels: Bool[Tensor, "sample label"]
) -> Float64[Tensor, "coordinate label"]:
    """By how much each coordinate differs where a label holds; 0 where it never varies.

    nan for a label that all rows have, or none.

    Example:
        >>> rows = torch.tensor([[0.0, 5.0], [2.0, 5.0]])
        >>> mean_differences(rows, torch.tensor([[False], [True]])).flatten().tolist()
        [2.0, 0.0]
    """
    total, square, inside = _sums(coordinates, labels)
    n, chosen = len(labels), labels.sum(0).double()
    mean = total / n
    # A spread below this share of the mean square is rounding.
    spread = square / n - mean.square()
    spread = torch.where(spread > 1e-12 * square / n, spread, 0.0)
    difference = inside / chosen - (total[:, None] - inside) / (n - chosen)
    known = (chosen > 0) & (chosen < n)
    scaled = torch.where(spread[:, None] > 0, difference / spread.sqrt()[:, None], 0.0)
    return torch.where(known, scaled, torch.nan)


def _sums(coordinates: Coordinates, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of values and squares over all rows, and of values over the rows of each label."""
    inside = labels.double()
    if isinstance(coordinates, Tensor):
        x = coordinates.double()
        return x.sum(0), x.square().sum(0), x.T @ inside
    values, where = coordinates.values.double(), coordinates.indices.flatten()

    def by_feature(weights: Tensor) -> Tensor:
        sums = torch.zeros(coordinates.width, dtype=torch.float64, device=values.device)
        return sums.index_add(0, where, (values * weights).flatten())

    of_labels = [by_feature(column[:, None]) for column in inside.T]
    return by_feature(torch.ones_like(values)), by_feature(values), torch.stack(of_labels, dim=1)


def most_different(
    coordinates: Coordinates, labels: Bool[Tensor, "sample label"], most: int
) -> Int64[Tensor, "label most"]:
    """The coordinates whose means differ most for each label, the most different first."""
    size = mean_differences(coordinates, labels).abs().nan_to_num(0.0)
    return size.topk(min(most, len(size)), dim=0).indices.T


def fit_probe(
    train: Float[Tensor, "sample k"],
    positive: Bool[Tensor, " sample"],
    held: Float[Tensor, "held k"],
) -> Float64[Tensor, " held"]:
    """Log odds of a label on held-out rows, by logistic regression with both classes weighed alike.

    Columns are brought to mean 0 and standard deviation 1 on the training rows; the penalty is that
    of scikit-learn's default, half the squared weights.
    """
    from sklearn.linear_model import LogisticRegression

    x, y = train.double(), held.double()
    mean, sd = x.mean(0), x.std(0, correction=0)
    sd = torch.where(sd > 0, sd, 1.0)
    model = LogisticRegression(class_weight="balanced", max_iter=2000)
    model.fit(((x - mean) / sd).numpy(force=True), positive.numpy(force=True))
    return torch.as_tensor(
        model.decision_function(((y - mean) / sd).numpy(force=True)), device=held.device
    )


def control_labels(
    labels: Int[Tensor, " sample"], word: Int[Tensor, " sample"], generator: torch.Generator
) -> Int[Tensor, " sample"]:
    """A label for each word at random, that of a sample drawn from all, wherever the word stands.

    Example:
        >>> word = torch.tensor([7, 7, 3])
        >>> made = control_labels(torch.tensor([0, 1, 1]), word, torch.Generator().manual_seed(0))
        >>> bool(made[0] == made[1])
        True
    """
    words, which = word.unique(return_inverse=True)
    drawn = torch.randint(len(labels), words.shape, generator=generator, device=generator.device)
    return labels[drawn.to(labels.device)][which]


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """Rows with their labels and control labels.

    Attributes:
        labels: One-hot, or any set of yes-or-no labels.
        controls: The same with labels dealt out at random to words, one a draw.
        unit: The document of each row.
    """

    labels: Bool[Tensor, "sample label"]
    controls: Sequence[Bool[Tensor, "sample label"]]
    unit: Int[Tensor, " sample"]

    def of_rows(self, chosen: Bool[Tensor, " sample"]) -> "Labelled":
        """Some of the rows."""
        return Labelled(
            labels=self.labels[chosen], controls=[one[chosen] for one in self.controls],
            unit=self.unit[chosen],
        )  # fmt: skip


def labelled(
    labels: Int[Tensor, " sample"],
    word: Int[Tensor, " sample"],
    unit: Int[Tensor, " sample"],
    *,
    values: int,
    draws: int,
    generator: torch.Generator,
) -> Labelled:
    """Each of `values` labels against all others, with control tasks.

    Args:
        labels: From 0 to `values` − 1.
        word: Type of the word or token of each row, which control labels belong to.
        draws: Control tasks.
    """
    kinds = torch.arange(values, device=labels.device)
    controls = [control_labels(labels, word, generator) for _ in range(draws)]
    return Labelled(
        labels=labels[:, None] == kinds, controls=[one[:, None] == kinds for one in controls],
        unit=unit,
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Probed:
    """A probe on held-out documents; everything nan where there is too little to train or judge.

    Attributes:
        label: Which label.
        k: Coordinates it reads.
        chosen: Which.
        auroc: Of its log odds, .5 by chance.
        accuracy: Mean of the shares that are right of those with the label and those without.
        control_auroc: Mean over the control tasks.
        control_accuracy: Mean over the control tasks.
        selectivity: accuracy − control_accuracy.
        positives: Held-out rows with the label.
        units: Held-out documents.
    """

    label: int
    k: int
    chosen: tuple[int, ...]
    auroc: Interval
    accuracy: Interval
    control_auroc: Interval
    control_accuracy: Interval
    selectivity: Interval
    positives: int
    units: int


def sparse_probes(
    train: Coordinates,
    held: Coordinates,
    train_labels: Labelled,
    held_labels: Labelled,
    *,
    ks: Sequence[int] = (1, 2, 4, 16),
) -> list[Probed]:
    """Probes on k coordinates for every label and every k.

    Args:
        train: Rows that coordinates are chosen and probes trained on.
        held: Rows of other documents, to judge them on.

    Raises:
        InsufficientData: If the held-out rows are of fewer than two documents.
    """
    units = len(held_labels.unit.unique())
    if units < 2:
        raise InsufficientData(f"probes are judged over documents, got {units}: hold out 2 or more")
    tasks = [train_labels.labels, *train_labels.controls]
    best = [most_different(train, labels, max(ks)) for labels in tasks]
    held_tasks = [held_labels.labels, *held_labels.controls]
    found = []
    with one_blas_thread():
        for label in range(train_labels.labels.shape[1]):
            columns = [(_columns(train, one[label]), _columns(held, one[label])) for one in best]
            for k in ks:
                judged = [
                    _judge(x[:, :k], y[:, :k], a[:, label], b[:, label], held_labels.unit)
                    for (x, y), a, b in zip(columns, tasks, held_tasks, strict=True)
                ]
                found.append(_probed(judged, label, best[0][label, :k], held_labels, k, units))
    return found


def _columns(coordinates: Coordinates, chosen: Tensor) -> Tensor:
    if isinstance(coordinates, Tensor):
        return coordinates[:, chosen]
    return coordinates.columns(chosen)


def _judge(
    train: Tensor, held: Tensor, positive: Tensor, truth: Tensor, unit: Tensor
) -> Discrimination | None:
    count = int(positive.sum())
    if min(count, len(positive) - count) < FEWEST:
        return None
    return discrimination(fit_probe(train, positive, held), truth, unit)


def _probed(
    judged: Sequence[Discrimination | None],
    label: int,
    chosen: Tensor,
    held: Labelled,
    k: int,
    units: int,
) -> Probed:
    nothing = [lambda weights: torch.full_like(weights[:, 0], torch.nan)]
    real, controls = judged[:1], [one for one in judged[1:] if one is not None]
    sides = [[one for one in real if one is not None], controls]
    auroc, control_auroc = (mean_of([d.auroc for d in side] or nothing) for side in sides)
    right, control_right = (
        mean_of([d.balanced_accuracy for d in side] or nothing) for side in sides
    )
    return Probed(
        label=label, k=k, chosen=tuple(chosen.tolist()),
        auroc=over_units(auroc, units), accuracy=over_units(right, units),
        control_auroc=over_units(control_auroc, units),
        control_accuracy=over_units(control_right, units),
        selectivity=over_units(lambda w: right(w) - control_right(w), units),
        positives=int(held.labels[:, label].sum()), units=units,
    )  # fmt: skip


def principal_axes(rows: Float[Tensor, "sample d"]) -> Float[Tensor, "axis d"]:
    """Orthonormal axes of these rows, the one of the largest variance first."""
    centred = rows.double() - rows.double().mean(0)
    return torch.linalg.eigh(centred.T @ centred).eigenvectors.T.flip(0).to(rows)


def baselines(
    train: Float[Tensor, "sample d"], held: Float[Tensor, "held d"]
) -> Mapping[str, tuple[Tensor, Tensor]]:
    """The rows and the rows along their principal axes: what can be read without features."""
    axes = principal_axes(train)
    return {"raw": (train, held), "pca": (train @ axes.T, held @ axes.T)}
