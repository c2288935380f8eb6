"""Train dictionaries on rows in memory, at little more than the price of the encoder product."""

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import normalize

from energylens.core.errors import BadInput, EnergylensError, InsufficientData
from energylens.core.ports import Progress, silence
from energylens.features.architecture import ARCHITECTURES, Demand
from energylens.features.chance import fit_encoder
from energylens.features.dictionary import Dictionary
from energylens.features.ordinary import TIMES, Ordinary
from energylens.features.revival import revive
from energylens.features.steering import Steering
from energylens.features.step import Step, step
from energylens.stats.nulls import random_unit_directions

BETAS = (0.5, 0.99)
"""Adam's decay rates. Little momentum: with the usual .9 the same run ends .004 of FVU higher and
seven latents in a hundred die instead of one in two hundred (SmolLM2, layer 15, 30,000 rows)."""


FACTORS = frozenset({"r_mag", "threshold_weight"})
"""Parameters that have no unit."""


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """How a dictionary is trained; the defaults suit some ten thousand rows and two CPU cores."""

    architecture: str = "topk"
    """Kind of dictionary."""
    width: int = 4096
    """Number of features."""
    k: int = 32
    """Active features a row: the most, or the mean that a penalty is steered to."""
    sparsity: float | None = None
    """Weight of the penalty, where an architecture has one; None: steered so that L0 comes to k."""
    epochs: int = 8
    """Passes over the rows."""
    batch: int = 1024
    """Rows a step; all of them where there are fewer."""
    lr: float | None = None
    """Peak learning rate of Adam; unless given, 4e-3 · √(4096 / width)."""
    warmup: float = 0.05
    """Share of the steps over which the learning rate rises from 0."""
    decay: float = 0.5
    """Share of the steps, at the end, over which the learning rate falls to 0."""
    aux_k: int = 256
    """Dead latents a row that the auxiliary loss wakes; 0 leaves the dead alone."""
    aux_weight: float = 1 / 32
    """Weight of the auxiliary loss."""
    dead_after_tokens: int = 20_000
    """Rows without firing after which a latent counts as dead."""
    massive: float = TIMES
    """Rows farther from the centre than this many medians are left out (massive activations)."""

    def __post_init__(self) -> None:
        if not 1 <= self.k <= self.width:
            raise BadInput(f"k = {self.k} of width {self.width} asked for: k lies in 1 … width")
        for name in ("epochs", "batch", "lr", "massive", "dead_after_tokens"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise BadInput(f"{name} = {value} asked for: it must be finite and above 0")
        for name in ("warmup", "decay"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise BadInput(f"{name} = {value} asked for: it is a share of the steps, 0 … 1")
        if self.aux_k < 0 or not 0 <= self.aux_weight < math.inf:
            raise BadInput(
                f"aux_k = {self.aux_k}, aux_weight = {self.aux_weight} asked for: "
                "both are finite and at least 0"
            )

    def learning_rate(self) -> float:
        """The peak learning rate: as given, or ∝ 1/√width."""
        return 4e-3 * (4096 / self.width) ** 0.5 if self.lr is None else self.lr


@dataclass(frozen=True, kw_only=True)
class TrainRecord:
    """What training did; the series have one entry a step."""

    loss: tuple[float, ...]
    """Training loss: fvu, plus the auxiliary loss where something was dead."""
    fvu: tuple[float, ...]
    """Squared error of the batch over the variance of all rows."""
    dead_share: tuple[float, ...]
    """Latents that did not fire for `dead_after_tokens` rows, as a share of the width."""
    l0: tuple[float, ...]
    """Active features a row."""
    tokens: int
    """Rows seen, repeats counted."""
    rows: int
    """Distinct rows trained on."""
    massive_rows: int
    """Rows left out as massive activations."""
    seconds: float
    """Wall clock."""

    @property
    def steps(self) -> int:
        """Updates made."""
        return len(self.loss)


def train(
    rows: Float[Tensor, "sample d_in"],
    options: TrainOptions,
    generator: torch.Generator,
    *,
    progress: Progress = silence,
    label: str = "dictionary",
) -> tuple[Dictionary, TrainRecord]:
    """Train a dictionary that reconstructs rows from at most k features each.

    Rows are centred and scaled to E‖x‖² = d while training, which is folded into the biases at
    the end: the dictionary reads and writes rows as they came, and its decoder rows have norm 1.

    Args:
        rows: Activations of one site, with the tokens that nobody wants left out.
        options: How to train.
        generator: Of the first features and of the order of rows; may live on the CPU.
        progress: Told the rows done.
        label: What the progress calls this dictionary.

    Returns:
        The dictionary, and what happened at each step.

    Raises:
        InsufficientData: If there are fewer rows than active features, or all are equal.
        BadInput: If a row is not finite.
        EnergylensError: If the loss stops being finite; names the step.
    """
    started = time.perf_counter()
    _check(rows, options)
    ordinary = Ordinary.of(rows, times=options.massive).holds(rows)
    kept = rows if bool(ordinary.all()) else rows[ordinary]
    frame = _Frame.of(kept)
    dictionary = _initial(kept, frame, options, generator)
    size = min(options.batch, len(kept))
    steps = max(1, round(options.epochs * len(kept) / size))
    batches = _batches(kept, frame, size, generator)
    trace = []
    with progress.task(label, steps * size, "rows") as advance:
        for entry in _descend(dictionary, batches, steps, options):
            trace.append(entry)
            advance(size)
    loss, fvu, dead_share, l0 = zip(*trace, strict=True)
    trained = ARCHITECTURES[options.architecture].finish(dictionary)
    return frame.unfold(trained), TrainRecord(
        loss=loss, fvu=fvu, dead_share=dead_share, l0=l0, tokens=steps * size, rows=len(kept),
        massive_rows=len(rows) - len(kept), seconds=time.perf_counter() - started,
    )  # fmt: skip


def train_many(
    sites: Mapping[str, Float[Tensor, "sample d_in"]],
    options: TrainOptions,
    generator: torch.Generator,
    *,
    progress: Progress = silence,
) -> dict[str, tuple[Dictionary, TrainRecord]]:
    """Train one dictionary a site, in the order given; a site's name is its label."""
    return {
        site: train(rows, options, generator, progress=progress, label=site)
        for site, rows in sites.items()
    }


def _check(rows: Tensor, options: TrainOptions) -> None:
    if len(rows) < max(2, options.k):
        raise InsufficientData(
            f"{options.k} active features a row were asked for, found {len(rows)} rows in all: "
            "give more text or a smaller k"
        )
    bad = int((~rows.isfinite()).any(dim=1).sum())
    if bad:
        raise BadInput(
            f"{bad} of {len(rows)} rows hold nan or infinity: find out where the model makes them"
        )


@dataclass(frozen=True, kw_only=True)
class _Frame:
    """The coordinates of training, u = (x − center) · scale, with E‖u‖² = d."""

    center: Tensor
    scale: float

    @classmethod
    def of(cls, rows: Tensor) -> "_Frame":
        center = rows.mean(dim=0)
        spread = float((rows - center).square().sum(dim=1).mean())
        if not spread > 0:
            raise InsufficientData(f"all {len(rows)} rows are equal: there is nothing to learn")
        return cls(center=center, scale=(rows.shape[1] / spread) ** 0.5)

    def enter(self, rows: Tensor) -> Tensor:
        return (rows - self.center) * self.scale

    def unfold(self, dictionary: Dictionary) -> Dictionary:
        """The dictionary that makes of x what this one makes of u.

        Activations are divided by the scale, which keeps decoder rows as they are and, being the
        same for all features, leaves the selection as it is. What is measured in activations is
        divided with them; what is a factor stays (`r_mag`).
        """
        own = {name: w if name in FACTORS else w / self.scale for name, w in dictionary.own.items()}
        return replace(
            dictionary, own=own,
            b_enc=dictionary.b_enc / self.scale,
            b_dec=self.center + dictionary.b_dec / self.scale,
        )  # fmt: skip


def _initial(
    rows: Tensor, frame: _Frame, options: TrainOptions, generator: torch.Generator
) -> Dictionary:
    """Unit directions halfway between single rows and chance, encoder and decoder alike.

    Starting near the rows saves several passes over them: from chance alone the same training
    ends .011 of FVU higher (SmolLM2, layer 15, 30,000 rows).
    """
    picked = _endless(len(rows), options.width, generator)
    near = normalize(frame.enter(rows[next(picked).to(rows.device)]), dim=1)
    chance = random_unit_directions(options.width, rows.shape[1], generator, like=rows)
    directions = normalize(near + chance, dim=1)
    dictionary = Dictionary(
        architecture=options.architecture, k=options.k, W_enc=directions, W_dec=directions,
        b_enc=rows.new_zeros(options.width), b_dec=rows.new_zeros(rows.shape[1]),
        own=ARCHITECTURES[options.architecture].own(options.width, rows),
    )  # fmt: skip
    return fit_encoder(dictionary, frame.enter(rows[: options.batch]))


def _endless(count: int, size: int, generator: torch.Generator) -> Iterator[Int64[Tensor, " size"]]:
    """Row numbers, `size` at a time: one permutation after the other, nothing left over."""
    order = torch.empty(count, dtype=torch.int64, device=generator.device)
    start = count
    while True:
        numbers = torch.empty(size, dtype=torch.int64, device=generator.device)
        filled = 0
        while filled < size:
            if start == count:
                torch.randperm(count, generator=generator, out=order)
                start = 0
            taken = min(size - filled, count - start)
            numbers[filled : filled + taken] = order[start : start + taken]
            filled, start = filled + taken, start + taken
        yield numbers


def _batches(
    rows: Tensor, frame: _Frame, size: int, generator: torch.Generator
) -> Iterator[Tensor]:
    for numbers in _endless(len(rows), size, generator):
        yield frame.enter(rows[numbers.to(rows.device)])


def _descend(
    dictionary: Dictionary, batches: Iterator[Tensor], steps: int, options: TrainOptions
) -> Iterator[tuple[float, float, float, float]]:
    """Adam on the dictionary's own tensors; yields (loss, fvu, dead share, l0) of every step."""
    kind = ARCHITECTURES[options.architecture]
    weights = dictionary.weights
    optimizer = torch.optim.Adam(list(weights.values()), lr=0.0, betas=BETAS, fused=True)
    since_fired = torch.zeros(dictionary.width, dtype=torch.int64, device=dictionary.W_enc.device)
    steering = Steering(k=options.k, steps=steps, fixed=options.sparsity)
    unit = float(dictionary.d_in) ** 0.5
    for number in range(steps):
        rows = next(batches)
        demand = Demand(sparsity=steering.weight, share=number / steps, unit=unit)
        made = step(dictionary, rows, float(rows.shape[1]), demand=demand)
        dead = since_fired >= options.dead_after_tokens
        loss = made.loss + _auxiliary(dictionary, rows, made, dead, options)
        if not math.isfinite(loss):
            raise EnergylensError(
                f"training stopped at step {number + 1} of {steps} because the loss was {loss}: "
                f"use a learning rate below {options.learning_rate():.2g}"
            )
        since_fired += len(rows)
        since_fired[made.fired > 0] = 0
        ramp = _ramp((number + 0.5) / steps, options)
        optimizer.param_groups[0]["lr"] = options.learning_rate() * ramp
        _move(weights, made.gradients, optimizer, unit_decoder=kind.unit_decoder)
        if made.chosen is not None and made.values is not None:
            kind.watch(dictionary, made.chosen, made.values)
        steering.saw(made.l0)
        yield loss, made.error, float(dead.double().mean()), made.l0


def _auxiliary(
    dictionary: Dictionary, rows: Tensor, made: Step, dead: Tensor, options: TrainOptions
) -> float:
    if not options.aux_k:
        return 0.0
    centered = rows - dictionary.b_dec
    weight = options.aux_weight
    return float(revive(dictionary, centered, made, dead, aux_k=options.aux_k, weight=weight))


def _move(
    weights: Mapping[str, Tensor],
    gradients: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
    *,
    unit_decoder: bool,
) -> None:
    """One update, with decoder rows kept on the unit sphere if that is where they belong.

    The gradient's component along a row would only change its norm, which is then undone: it is
    taken out first, lest it fill Adam's moments.
    """
    for name, weight in weights.items():
        weight.grad = gradients[name]
    W_dec = weights["W_dec"]
    if unit_decoder:
        along = torch.linalg.vecdot(gradients["W_dec"], W_dec).unsqueeze(1)
        gradients["W_dec"].addcmul_(W_dec, along, value=-1)
    optimizer.step()
    if unit_decoder:
        W_dec.div_(torch.linalg.vector_norm(W_dec, dim=1, keepdim=True))


def _ramp(done: float, options: TrainOptions) -> float:
    """Share of the peak learning rate when this share of the steps is done."""
    rise = done / options.warmup if options.warmup else 1.0
    fall = (1 - done) / options.decay if options.decay else 1.0
    return min(1.0, rise, fall)
