"""Train a classifier while somebody watches; a training that was killed goes on to the bit."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int, Num
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from energylens.core.checkpoint import Checkpoint
from energylens.core.errors import BadInput, EnergylensError
from energylens.core.ports import Progress, silence


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """How a classifier is trained: Adam on cross-entropy.

    Attributes:
        steps: Updates in all.
        batch: Examples an update.
        lr: Learning rate, the same throughout.
        pause: Updates between two moments at which it is asked whether the loss is finite, and at
            which a checkpoint may be made.
    """

    steps: int = 2_000
    batch: int = 64
    lr: float = 1e-3
    pause: int = 5


# Called after every update with the updates done, and the loss of its batch before it, in nats.
AfterStep = Callable[[int, Tensor], object]


def train_classifier(
    module: nn.Module,
    inputs: Num[Tensor, "example ..."],
    labels: Int[Tensor, " example"],
    plan: TrainingPlan,
    generator: torch.Generator,
    after_step: AfterStep,
    *,
    checkpoint: Checkpoint | None = None,
    generators: Mapping[str, torch.Generator] | None = None,
    progress: Progress = silence,
    label: str = "training",
) -> None:
    """Train a module in place, each example once before any comes again.

    Args:
        module: Whatever gives logits [example, class].
        generator: Of the order of the examples.
        after_step: Called after each update; gradients are still there, and whatever mode it leaves
            the module in, training goes on in training mode.
        checkpoint: Where the state is kept between; it is read first, and the steps that were done
            before it are not done again.
        generators: Others that the module draws from, such as that of its dropout; kept as well.

    Raises:
        BadInput: If there are fewer examples than a batch.
        EnergylensError: If the loss stops being finite.
    """
    if len(labels) < plan.batch:
        raise BadInput(
            f"batches of {plan.batch} were asked for and there are {len(labels)} examples to train"
            " on: lower --batch"
        )
    parameters = [weights for weights in module.parameters() if weights.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=plan.lr, fused=True)
    state = _State(module, optimizer, {"order": generator, **(generators or {})}, len(labels))
    done = state.load(checkpoint)
    with progress.task(label, plan.steps, "steps") as advance:
        advance(done)
        for step in range(done + 1, plan.steps + 1):
            module.train()
            rows = state.rows(plan.batch, at=step - 1)
            loss = cross_entropy(module(inputs[rows]), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            after_step(step, loss.detach())
            advance(1)
            if step % plan.pause == 0:
                if not loss.isfinite():
                    raise EnergylensError(
                        f"the loss is no longer finite at step {step}: lower --lr"
                    )
                if checkpoint is not None and step < plan.steps and checkpoint.due(step):
                    state.save(checkpoint, step)


class _State:
    """All that a training needs to go on: weights, moments of Adam, generators, and the order of
    the examples in the pass that is under way."""

    def __init__(
        self,
        module: nn.Module,
        optimizer: torch.optim.Adam,
        generators: Mapping[str, torch.Generator],
        examples: int,
    ) -> None:
        self._module, self._optimizer = module, optimizer
        self._generators, self._examples = generators, examples
        self._order, self._pass = torch.empty(0, dtype=torch.int64), -1

    def rows(self, batch: int, *, at: int) -> Int[Tensor, " row"]:
        """Examples of a batch; what does not fill one at the end of a pass is left out."""
        passes, within = divmod(at, self._examples // batch)
        if passes != self._pass:
            self._order = torch.randperm(self._examples, generator=self._generators["order"])
            self._pass = passes
        return self._order[within * batch : (within + 1) * batch]

    def save(self, checkpoint: Checkpoint, step: int) -> None:
        tensors = {f"module.{name}": value for name, value in self._module.state_dict().items()}
        tensors |= {f"generator.{name}": g.get_state() for name, g in self._generators.items()}
        for number, moments in self._optimizer.state_dict()["state"].items():
            tensors |= {f"adam.{number}.{name}": value for name, value in moments.items()}
        checkpoint.save(tensors | {"order": self._order}, {"step": step, "pass": self._pass})

    def load(self, checkpoint: Checkpoint | None) -> int:
        """How many updates had been made; 0 if nothing was saved."""
        saved = checkpoint.load() if checkpoint is not None else None
        if saved is None:
            return 0
        tensors, record = saved
        self._module.load_state_dict(_under("module.", tensors))
        for name, generator in self._generators.items():
            generator.set_state(tensors[f"generator.{name}"])
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in _under("adam.", tensors).items():
            number, key = name.split(".")
            weights = self._optimizer.param_groups[0]["params"][int(number)]
            if value.shape == weights.shape:  # in the layout of the weights, as Adam needs it
                value = torch.empty_like(weights).copy_(value)
            moments.setdefault(int(number), {})[key] = value
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": moments, "param_groups": groups})
        self._order, self._pass = tensors["order"], int(record["pass"])
        return int(record["step"])


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items() if name.startswith(prefix)
    }  # fmt: skip


@torch.no_grad()
def correct(
    module: nn.Module,
    inputs: Num[Tensor, "example ..."],
    labels: Int[Tensor, " example"],
    *,
    batch: int = 512,
) -> Bool[Tensor, " example"]:
    """Whether each example's class gets the largest logit, in evaluation mode."""
    module.eval()
    return torch.cat([
        module(some).argmax(1) == truth
        for some, truth in zip(inputs.split(batch), labels.split(batch), strict=True)
    ])  # fmt: skip
