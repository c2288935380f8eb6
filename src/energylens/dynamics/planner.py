"""Which checkpoints to keep so that events can be compared with quiet times.

A training is run twice: once to find its events, and again, from the same seeds, to keep the
network before, at and after the strongest of them. Each event has a control beside it: three steps
with the same distances, in the same part of the training, where nothing happened. What differs
around events and not around controls goes with the events.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from energylens.core.errors import ArtifactRefused, BadInput
from energylens.core.files import write_bytes

SCHEMA = 1
EVENT, CONTROL = "event", "control"


@dataclass(frozen=True, kw_only=True)
class Window:
    """Three training steps: before, at and after.

    Attributes:
        kind: `event`, or `control` for a quiet window.
        event: Number of the event, in the order in which they were given; a control has that of
            the event that it is matched to.
    """

    kind: str
    event: int
    pre: int
    peak: int
    post: int

    @property
    def steps(self) -> tuple[int, int, int]:
        return self.pre, self.peak, self.post


@dataclass(frozen=True, kw_only=True)
class CheckpointPlan:
    """The steps to keep, in training steps (updates done), and why.

    Attributes:
        windows: Events by their strength, each before its controls if it has any.
        num_steps: Length of the training.
        unmatched: Events for which no quiet control was found.
        left_out: Events that overlap a stronger one, lie at an end, or were beyond the budget.
    """

    windows: tuple[Window, ...]
    num_steps: int
    unmatched: tuple[int, ...]
    left_out: tuple[int, ...]

    @property
    def steps(self) -> tuple[int, ...]:
        """Every step to keep, ascending, each once."""
        return tuple(sorted({step for window in self.windows for step in window.steps}))

    def pairs(self) -> Iterator[tuple[Window, Window]]:
        """Each event with each of its controls."""
        for event, controls in self.sets():
            yield from ((event, control) for control in controls)

    def sets(self) -> Iterator[tuple[Window, tuple[Window, ...]]]:
        """Each event that has controls, with them."""
        for window in self.windows:
            if window.kind == EVENT:
                mine = (w for w in self.windows if w.kind == CONTROL and w.event == window.event)
                if controls := tuple(mine):
                    yield window, controls

    def to_json(self) -> str:
        """The plan as text, for `from_json`."""
        return json.dumps({"schema": SCHEMA, **asdict(self)}, indent=1)

    @classmethod
    def from_json(cls, text: str) -> "CheckpointPlan":
        """The plan that was written by `to_json`.

        Raises:
            ArtifactRefused: If the text is no plan.
        """
        try:
            said = json.loads(text)
            if said["schema"] != SCHEMA:
                raise ArtifactRefused(
                    f"a plan of schema {said['schema']}, and this version reads {SCHEMA}: plan anew"
                )
            return cls(
                windows=tuple(Window(**window) for window in said["windows"]),
                num_steps=said["num_steps"], unmatched=tuple(said["unmatched"]),
                left_out=tuple(said["left_out"]),
            )  # fmt: skip
        except (ValueError, KeyError, TypeError) as error:
            if isinstance(error, ArtifactRefused):
                raise
            raise ArtifactRefused(
                f"not a checkpoint plan ({type(error).__name__}: {error}): plan anew"
            ) from error


def plan_checkpoints(
    step: Int[Tensor, " event"],
    low: Int[Tensor, " event"],
    high: Int[Tensor, " event"],
    strength: Float[Tensor, " event"],
    *,
    num_steps: int,
    budget: int,
    generator: torch.Generator,
    margin: int | None = None,
    parts: int = 10,
    controls: int = 1,
) -> CheckpointPlan:
    """Choose windows of the strongest events, and quiet controls, within a budget of checkpoints.

    Greedy: the strongest event first, then the next whose window is clear of those chosen. Events
    of several sites at once are one window, that of the strongest. A control has the distances of
    its event, is drawn from the same part of the training, or the nearest that has a place, and
    comes nowhere near any event, chosen or not.

    Example:
        >>> plan = plan_checkpoints(torch.tensor([500]), torch.tensor([490]), torch.tensor([510]),
        ...     torch.tensor([3.0]), num_steps=2000, budget=6, margin=20,
        ...     generator=torch.Generator().manual_seed(0))
        >>> plan.windows[0].steps, len(plan.steps)
        ((470, 500, 530), 6)

    Args:
        step: When events happened. Give significant ones alone.
        low, high: Interval of the date.
        strength: The larger the sooner chosen.
        num_steps: Length of the training.
        budget: Most checkpoints to keep.
        margin: Training steps kept clear before `low` and after `high`; one in a hundred of the
            training by default.
        parts: Of the training, within which a control is matched.
        controls: Wanted for each event: with more of them fewer events can tell something.

    Raises:
        BadInput: If the budget does not suffice for one event with its controls, or an event lies
            outside the training or its own interval.
    """
    if controls < 1 or budget < 3 * (1 + controls):
        raise BadInput(
            f"one event with controls to it, {controls} of them, takes {3 * (1 + controls)}"
            f" checkpoints, and the budget is {budget}: ask for 1 or more, and raise it"
        )
    if bool(((low > step) | (step > high) | (low < 0) | (high > num_steps)).any()):
        raise BadInput(
            f"an event lies outside its interval, or its interval outside 0 to {num_steps}: give"
            " training steps, not numbers of samples"
        )
    margin = max(1, num_steps // 100) if margin is None else margin
    spans = torch.stack([low, step, high], dim=1).tolist()
    around = [
        (max(0, first - margin), at, min(num_steps, last + margin)) for first, at, last in spans
    ]
    taken: list[Window] = []
    unmatched, left_out = [], []
    for number in strength.argsort(descending=True, stable=True).tolist():
        window = Window(kind=EVENT, event=number, pre=around[number][0], peak=around[number][1],
                        post=around[number][2])  # fmt: skip
        room = len(_steps([*taken, window])) <= budget
        if not (room and window.pre < window.peak < window.post and _clear(window, taken)):
            left_out.append(number)
            continue
        taken.append(window)
        found = 0
        while found < controls:
            control = _control(window, around, taken, num_steps, parts, generator)
            if control is None or len(_steps([*taken, control])) > budget:
                break
            taken.append(control)
            found += 1
        if not found:
            unmatched.append(number)
    return CheckpointPlan(
        windows=tuple(taken), num_steps=num_steps, unmatched=tuple(unmatched),
        left_out=tuple(left_out),
    )  # fmt: skip


def _steps(windows: Sequence[Window]) -> set[int]:
    return {step for window in windows for step in window.steps}


def _clear(window: Window, taken: Sequence[Window]) -> bool:
    return all(window.post < other.pre or window.pre > other.post for other in taken)


def _control(
    window: Window,
    around: Sequence[tuple[int, int, int]],
    taken: Sequence[Window],
    num_steps: int,
    parts: int,
    generator: torch.Generator,
) -> Window | None:
    """A quiet window of the same distances; None where there is no place for one."""
    before, after = window.peak - window.pre, window.post - window.peak
    quiet = torch.ones(num_steps + 1, dtype=torch.bool)
    quiet[:before] = False
    quiet[num_steps + 1 - after :] = False
    for pre, post in [(a[0], a[2]) for a in around] + [(w.pre, w.post) for w in taken]:
        quiet[max(0, pre - after) : post + before + 1] = False
    free = quiet.nonzero()[:, 0]
    if len(free) == 0:
        return None
    part = (free * parts // (num_steps + 1) - window.peak * parts // (num_steps + 1)).abs()
    nearest = free[part == part.min()]
    drawn = torch.randint(len(nearest), (1,), generator=generator, device=generator.device)
    peak = int(nearest[int(drawn)])
    return Window(kind=CONTROL, event=window.event, pre=peak - before, peak=peak, post=peak + after)


class CheckpointKeeper:
    """Saves a network at the steps of a plan, and at no others, while it trains.

    Call `after_step` with the number of updates done, beside a tracker or alone. What is saved is
    there as a whole or not at all, so a training that was killed and goes on keeps what is missing.

    Example:
        >>> import tempfile
        >>> plan = CheckpointPlan(windows=(Window(kind="event", event=0, pre=1, peak=2, post=3),),
        ...     num_steps=5, unmatched=(), left_out=())
        >>> folder, model = tempfile.mkdtemp(), nn.Linear(2, 2)
        >>> keeper = CheckpointKeeper(model, plan, folder)
        >>> for step in range(5):
        ...     keeper.after_step(step)
        >>> keeper.missing()
        ()

    Args:
        model: Its `state_dict` is saved; tensors that are shared are saved each by its name.
        plan: The plan lies beside the checkpoints as plan.json.
        folder: Made if it is not there.

    Raises:
        BadInput: If the folder has checkpoints of another plan.
    """

    def __init__(self, model: nn.Module, plan: CheckpointPlan, folder: Path | str) -> None:
        self._model, self._plan, self._folder = model, plan, Path(folder)
        self._wanted = frozenset(plan.steps)
        there = self._folder / "plan.json"
        if not there.is_file():
            write_bytes(there, plan.to_json().encode())
        elif CheckpointPlan.from_json(there.read_text(encoding="utf-8")) != plan:
            raise BadInput(
                f"{self._folder} has checkpoints of another plan: give another folder, or remove it"
            )

    def after_step(self, step: int, **_measured: object) -> None:
        """Save the network if the plan wants it after so many updates, and it is not there yet.

        What else a tracker is told of a step, such as its loss, is taken and not looked at.
        """
        if step in self._wanted and not _file(self._folder, step).is_file():
            state = self._model.state_dict()
            tensors = {name: t.detach().cpu().contiguous().clone() for name, t in state.items()}
            write_bytes(_file(self._folder, step), save(tensors, metadata={"step": str(step)}))

    def missing(self) -> tuple[int, ...]:
        """Steps of the plan that are not there yet."""
        return tuple(s for s in self._plan.steps if not _file(self._folder, s).is_file())


def load_checkpoint(folder: Path | str, step: int) -> dict[str, Tensor]:
    """The state of a network that a `CheckpointKeeper` saved after so many updates.

    Raises:
        BadInput: If there is none of this step.
        ArtifactRefused: If the file is damaged.
    """
    path = _file(Path(folder), step)
    if not path.is_file():
        there = sorted(int(p.stem.split("_")[1]) for p in Path(folder).glob("step_*.safetensors"))
        raise BadInput(
            f"no checkpoint of step {step} in {folder}: there is"
            f" {', '.join(map(str, there)) or 'none'}"
        )
    try:
        return load(path.read_bytes())
    except SafetensorError as error:
        raise ArtifactRefused(f"{path} is damaged: remove it and train again") from error


def _file(folder: Path, step: int) -> Path:
    return folder / f"step_{step:08d}.safetensors"
