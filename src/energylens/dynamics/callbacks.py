"""A tracker inside the training loops of other libraries, which are not imported for it.

Both classes have the methods that those loops call; what a library calls beside them does nothing.
Of several processes the first alone tracks.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from energylens.dynamics.tracker import Tracker


class TrainerCallback:
    """For `callbacks=[…]` of the Trainer of transformers.

    The loss of a look is the one that the Trainer logs at that step, a mean since it last logged;
    nan where it logs none, so let `logging_steps` divide the tracker's interval. Gradients are
    measured before the optimizer's step, after clipping.

    Example:
        Trainer(model, arguments, train_dataset=data, callbacks=[TrainerCallback(tracker)])
    """

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker
        self._step: int | None = None
        self._grad_norm: Tensor | None = None

    def __getattr__(self, name: str) -> Callable[..., None]:
        return _nothing(self, name, ("on_",))

    def on_train_begin(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        if state.is_world_process_zero:
            self._tracker.open()

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        if state.is_world_process_zero and self._tracker.is_due(state.global_step + 1):
            self._grad_norm = gradient_norm(rest["model"])

    def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        if state.is_world_process_zero:
            self._step = state.global_step  # told when the loss is known, or the next step begins

    def on_log(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        logs = rest.get("logs") or {}
        if self._step == state.global_step and "loss" in logs:
            self._tell(logs["loss"])

    def on_step_begin(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        self._tell()

    def on_train_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        self._tell()
        self._tracker.close()

    def _tell(self, loss: float | None = None) -> None:
        if self._step is not None:
            self._tracker.after_step(self._step, loss=loss, grad_norm=self._grad_norm)
        self._step = self._grad_norm = None


class LightningCallback:
    """For `callbacks=[…]` of a Trainer of Lightning.

    The loss is what `training_step` returned: a tensor, or a mapping with `loss`; of accumulated
    batches the last. Gradients are measured before the optimizer's step, before clipping.

    Example:
        trainer = Trainer(callbacks=[LightningCallback(tracker)])
    """

    state_key = "energylens.Tracker"

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker
        self._told = -1
        self._grad_norm: Tensor | None = None

    def __getattr__(self, name: str) -> Callable[..., None]:
        return _nothing(self, name, ("on_", "setup", "teardown", "load_state_dict"))

    def state_dict(self) -> dict[str, Any]:
        """Nothing: the tracker's folder holds what it has seen."""
        return {}

    def on_train_start(self, trainer: Any, module: Any) -> None:
        if trainer.is_global_zero:
            self._told = trainer.global_step
            self._tracker.open()

    def on_before_optimizer_step(self, trainer: Any, module: Any, optimizer: Any) -> None:
        if trainer.is_global_zero and self._tracker.is_due(trainer.global_step + 1):
            self._grad_norm = gradient_norm(module)

    def on_train_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not trainer.is_global_zero or trainer.global_step <= self._told:
            return  # batches are accumulated
        self._told = trainer.global_step
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        self._tracker.after_step(self._told, loss=loss, grad_norm=self._grad_norm)
        self._grad_norm = None

    def on_train_end(self, trainer: Any, module: Any) -> None:
        self._tracker.close()

    def on_exception(self, trainer: Any, module: Any, exception: BaseException) -> None:
        self._tracker.close()


@torch.no_grad()
def gradient_norm(model: nn.Module) -> Tensor | None:
    """Euclidean norm of the gradients that are there; None if there are none."""
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    return nn.utils.get_total_norm(gradients) if gradients else None


def _nothing(owner: object, name: str, called: tuple[str, ...]) -> Callable[..., None]:
    if not name.startswith(called):
        raise AttributeError(f"{type(owner).__name__} has no attribute {name!r}")
    return lambda *args, **rest: None
