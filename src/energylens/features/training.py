"""A dictionary in training: all that the next step depends on, and the step itself."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from energylens.core.errors import BadInput, EnergylensError
from energylens.features.architecture import ARCHITECTURES, Demand
from energylens.features.dictionary import Dictionary
from energylens.features.kernels import BLOCK
from energylens.features.mesh import ALONE, Mesh
from energylens.features.ordinary import TIMES
from energylens.features.resampling import begin_anew
from energylens.features.revival import revive
from energylens.features.route import PRECISIONS, Route, choose_route
from energylens.features.shards import is_dealt, joined, part_of, share, whole_of
from energylens.features.steering import Steering
from energylens.features.step import Step, step

BETAS = (0.5, 0.99)
"""Adam's decay rates. Little momentum: with the usual .9 the same run ends .004 of FVU higher and
seven latents in a hundred die instead of one in two hundred (SmolLM2, layer 15, 30,000 rows)."""


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
    skip: bool = False
    """Whether a transcoder's output takes a linear part straight from the input."""
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
    resample: bool = False
    """Begin dead latents anew at rows that are rebuilt badly (Bricken et al. 2023) while the
    learning rate does not fall yet, instead of waking them by the auxiliary loss."""
    massive: float = TIMES
    """Rows farther from the centre than this many medians are left out (massive activations)."""
    precision: str = "auto"
    """Products that entries are chosen by, fp32 or bf16 (re-scored: the choice is the same); auto:
    the faster one."""

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
        if self.precision not in PRECISIONS:
            raise BadInput(
                f"precision {self.precision!r} asked for: it is one of {', '.join(PRECISIONS)}"
            )
        if self.aux_k < 0 or not 0 <= self.aux_weight < math.inf:
            raise BadInput(
                f"aux_k = {self.aux_k}, aux_weight = {self.aux_weight} asked for: "
                "both are finite and at least 0"
            )

    def learning_rate(self) -> float:
        """The peak learning rate: as given, or ∝ 1/√width."""
        return 4e-3 * (4096 / self.width) ** 0.5 if self.lr is None else self.lr


class Trace(NamedTuple):
    """What a step was like."""

    loss: float
    fvu: float
    dead_share: float
    l0: float


@dataclass(eq=False, kw_only=True)
class Training:
    """A dictionary in training, changed in place by every step.

    Attributes:
        dictionary: Given whole; what is trained is a copy of the part that this process holds.
        steps: How many there will be; the learning rate depends on it.
        mesh: The processes that train it together, all given the same.
        done: How many have been made.
        sites: Widths of the sites that a crosscoder writes side by side.
        generator: Of the rows that dead features are begun anew at, where that was asked for.
        route: What entries are chosen by; None until the first step has measured it.

    Raises:
        BadInput: If dead features are to be begun anew where that is not done.
    """

    dictionary: Dictionary
    options: TrainOptions
    steps: int
    mesh: Mesh = ALONE
    done: int = 0
    sites: tuple[int, ...] = ()
    generator: torch.Generator = field(default_factory=torch.Generator)
    route: Route | None = None
    shapes: dict[str, tuple[int, ...]] = field(init=False)
    since_fired: Int64[Tensor, " feature"] = field(init=False)
    optimizer: torch.optim.Optimizer = field(init=False)
    steering: Steering = field(init=False)

    def __post_init__(self) -> None:
        if self.options.resample:
            refuse_resampling(self.options.architecture, self.mesh)
        given = self.dictionary.weights
        self.shapes = {f"weight.{name}": tuple(w.shape) for name, w in given.items()}
        self._take_own()
        weights = self.dictionary.weights
        self.since_fired = torch.zeros(
            self.dictionary.width, dtype=torch.int64, device=self.dictionary.b_dec.device
        )
        self.optimizer = torch.optim.Adam(list(weights.values()), lr=0.0, betas=BETAS, fused=True)
        self.steering = Steering(k=self.options.k, steps=self.steps, fixed=self.options.sparsity)

    def advance(
        self,
        rows: Float[Tensor, "sample d_in"],
        target: Float[Tensor, "sample d_out"] | None = None,
        *,
        left_over: Float[Tensor, "sample d_out"] | None = None,
    ) -> Trace:
        """Learn from a batch, scaled to E‖x‖² = d; from its target, where that is another.

        Args:
            rows: The batch, or those of its rows that `mesh.deal` gives to this process.
            target: Of the same rows.
            left_over: What the dead are to make of each row; unless given, what the target has and
                the reconstruction has not.

        Raises:
            EnergylensError: If the loss stops being finite; names the step, and changes nothing.
        """
        kind = ARCHITECTURES[self.options.architecture]
        made = self._step(rows, target)
        dead = self.since_fired >= self.options.dead_after_tokens
        if left_over is not None:
            made = made._replace(residual=left_over)
        loss = made.loss + self._revive(rows, made, dead)
        if not math.isfinite(loss):
            raise EnergylensError(
                f"training stopped at step {self.done + 1} of {self.steps} because the loss was"
                f" {loss}: use a learning rate below {self.options.learning_rate():.2g}"
            )
        self.since_fired += made.rows
        self.since_fired[made.fired > 0] = 0
        ramp = ramp_of((self.done + 0.5) / self.steps, self.options)
        self.optimizer.param_groups[0]["lr"] = self.options.learning_rate() * ramp
        gradients = {name: self.mesh.rows.all_reduce(g) for name, g in made.gradients.items()}
        move(self.dictionary.weights, gradients, self.optimizer, unit_decoder=kind.unit_decoder)
        self._watch(made)
        if self.options.resample and self.done < self.steps * (1 - self.options.decay):
            self._begin_anew(rows, target, made)
        self.steering.saw(made.l0)
        self.done += 1
        width = self.dictionary.width * self.mesh.features.world
        asleep = int(self.mesh.features.all_reduce(dead.sum())) / width
        return Trace(loss, made.error, asleep, made.l0)

    def whole(self) -> Dictionary:
        """The dictionary as it is now, with the features of all processes."""
        return whole_of(self.dictionary, self.mesh.features, k=self.options.k)

    def _take_own(self) -> None:
        self.dictionary = part_of(self.dictionary, self.mesh)

    def _demand(self, unit: float) -> Demand:
        return Demand(
            sparsity=self.steering.weight, share=self.done / self.steps, unit=unit,
            sites=self.sites,
        )  # fmt: skip

    def _step(self, rows: Tensor, target: Tensor | None) -> Step:
        made, demand = self.dictionary, self._demand(float(self.dictionary.d_in) ** 0.5)
        if self.route is None:
            self.route = choose_route(made, rows, self.options.precision, self.mesh)
        return step(
            made, rows, float(made.d_out), target=target, demand=demand, mesh=self.mesh,
            products=self.route.products,
        )  # fmt: skip

    def _watch(self, made: Step) -> None:
        kind = ARCHITECTURES[self.options.architecture]
        kind.watch(self.dictionary, made.values, self.mesh)

    def _begin_anew(self, rows: Tensor, target: Tensor | None, made: Step) -> None:
        dead = self.since_fired >= self.options.dead_after_tokens
        weights = self.dictionary.weights
        moments = {name: self.optimizer.state[weight] for name, weight in weights.items()}
        new = begin_anew(
            self.dictionary, rows, rows if target is None else target, made.residual, dead,
            moments, self.generator,
        )  # fmt: skip
        self.since_fired[new] = 0

    def _revive(self, rows: Tensor, made: Step, dead: Tensor) -> float:
        if not self.options.aux_k or self.options.resample:
            return 0.0
        return float(revive(
            self.dictionary, rows, made, dead, aux_k=self.options.aux_k,
            weight=self.options.aux_weight, mesh=self.mesh,
        ))  # fmt: skip

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and numbers from which `restore` goes on as if nothing had happened.

        The tensors are whole: as many processes as there are may go on from them. All call this.
        """
        tensors = {f"weight.{name}": w for name, w in self.dictionary.weights.items()}
        for name, weight in self.dictionary.weights.items():
            for moment, value in self.optimizer.state.get(weight, {}).items():
                tensors[f"adam.{name}.{moment}"] = value
        tensors["since_fired"] = self.since_fired
        if self.options.resample:
            tensors["generator"] = self.generator.get_state()
        whole = {
            name: self._joined(name, value) if self._is_dealt(name) else value
            for name, value in tensors.items()
        }
        return {name: value.detach().clone() for name, value in whole.items()}, {
            "done": self.done, "steps": self.steps, "steering": self.steering.state(),
            "options": asdict(self.options),
            "route": None if self.route is None else self.route.state(),
        }  # fmt: skip

    def restore(self, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
        """Take over what `state` gave, into a training with the same options and shapes.

        Raises:
            BadInput: If it is of a training of another length, shape or options.
        """
        weights = self.dictionary.weights
        found = {n: tuple(t.shape) for n, t in tensors.items() if n.startswith("weight.")}
        if found != self.shapes or record["steps"] != self.steps:
            raise BadInput(
                f"this training has {self.steps} steps and weights {self.shapes}, the checkpoint"
                f" {record['steps']} and {found}: resume with the options it was begun with"
            )
        asked = asdict(self.options)
        if other := sorted(n for n in asked if record["options"].get(n) != asked[n]):
            raise BadInput(
                f"the checkpoint was made with another {', '.join(other)}: resume with the options"
                " it was begun with, or remove it"
            )
        tensors = {
            name: self._share(name, value) if self._is_dealt(name) else value
            for name, value in tensors.items()
        }
        for name, weight in weights.items():
            weight.copy_(tensors[f"weight.{name}"])
            prefix = f"adam.{name}."
            self.optimizer.state[weight] = {
                key.removeprefix(prefix): value.clone()
                for key, value in tensors.items() if key.startswith(prefix)
            }  # fmt: skip
        self.since_fired.copy_(tensors["since_fired"])
        if self.options.resample:
            self.generator.set_state(tensors["generator"])
        self.steering.restore(record["steering"])
        self.route = None if record["route"] is None else Route(**record["route"])
        self.done = record["done"]

    def _joined(self, name: str, own: Tensor) -> Tensor:
        """What all processes together hold of a tensor of the state."""
        return joined(own, self.mesh.features)

    def _share(self, name: str, whole: Tensor) -> Tensor:
        """What this process holds of it."""
        return share(whole, self.mesh.features)

    def _is_dealt(self, name: str) -> bool:
        """Of a tensor of the state: `weight.NAME`, `adam.NAME.MOMENT` or `since_fired`."""
        of, _, weight = name.partition(".")
        if of not in ("weight", "adam"):
            return of == "since_fired"
        return not weight.endswith(".step") and is_dealt(weight, self.options.architecture)


def refuse_resampling(architecture: str, mesh: Mesh) -> None:
    """Refuse to begin dead features anew where that is not done.

    Raises:
        BadInput: If the architecture is none that it is for, or several processes train.
    """
    fitting = [name for name, kind in ARCHITECTURES.items() if kind.resamples]
    if architecture not in fitting:
        raise BadInput(
            f"resampling was asked of {architecture} and is for {' and '.join(fitting)}: leave the"
            " dead to the auxiliary loss"
        )
    if (world := mesh.rows.world * mesh.features.world) > 1:
        raise BadInput(
            f"resampling was asked of {world} processes and is done by one: leave the dead to the"
            " auxiliary loss"
        )


def move(
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
    # Those of a cross-layer transcoder are W_dec.0, W_dec.1 …, [feature layer d_out].
    decoders = [name for name in weights if unit_decoder and name.startswith("W_dec")]
    for name in decoders:
        slopes, rows = (w[name].flatten(1).split(BLOCK) for w in (gradients, weights))
        for slope, row in zip(slopes, rows, strict=True):
            slope.addcmul_(row, torch.linalg.vecdot(slope, row).unsqueeze(1), value=-1)
    optimizer.step()
    optimizer.zero_grad()  # lest they stand beside those of the next step
    for name in decoders:
        W_dec = weights[name].flatten(1)
        W_dec.div_(torch.linalg.vector_norm(W_dec, dim=1, keepdim=True))


def ramp_of(done: float, options: TrainOptions) -> float:
    """Share of the peak learning rate when this share of the steps is done."""
    rise = done / options.warmup if options.warmup else 1.0
    fall = (1 - done) / options.decay if options.decay else 1.0
    return min(1.0, rise, fall)
