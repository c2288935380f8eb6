"""The tasks of a sweep."""

from collections.abc import Callable
from itertools import product
from pathlib import Path

from energylens.core.errors import BadInput
from energylens.core.ports import Task
from energylens.studies.dictionary_scaling import DictionaryScaling
from energylens.studies.train_dictionary import TrainDictionary

SHARED = ("model", "text", "sites", "ks", "epochs", "batch", "lr", "context", "per_document",
          "held_out", "memory_mb", "threads", "device")  # fmt: skip


def tasks_of(options: DictionaryScaling) -> list[Task]:
    """One task for each text, that is each seed and amount: the model runs once for all
    dictionaries that read it, since that is most of the work where dictionaries are small.

    Raises:
        BadInput: If a value is given twice, or k exceeds a width.
    """
    for name in ("sites", "widths", "ks", "tokens", "seeds"):
        values = getattr(options, name)
        if twice := [value for value in values if values.count(value) > 1]:
            raise BadInput(f"option --{name} has {twice[0]} twice: give each value once")
    if max(options.ks) > min(options.widths):
        raise BadInput(
            f"--ks {max(options.ks)} of --widths {min(options.widths)} was asked for: k is at most"
            " the width"
        )
    groups = [(width,) for width in options.widths] if options.apart else [options.widths]
    return [
        Task(
            study="train-dictionary", options=training(options, widths, tokens, seed),
            folder=Path(f"tokens-{tokens}-seed-{seed}" + f"-width-{widths[0]}" * options.apart),
        )
        for tokens, seed, widths in product(options.tokens, options.seeds, groups)
    ]  # fmt: skip


def training(
    options: DictionaryScaling, widths: tuple[int, ...], tokens: int, seed: int
) -> TrainDictionary:
    """What one task trains."""
    return TrainDictionary(
        **{name: getattr(options, name) for name in SHARED}, widths=widths, tokens=tokens,
        seeds=(seed,), architectures=(options.architecture,),
    )  # fmt: skip


def tell(options: DictionaryScaling, say: Callable[[str], None]) -> None:
    """What a run would do."""
    tasks = tasks_of(options)
    learned = sum(task.options.tokens * task.options.epochs for task in tasks)
    each = len(options.ks) * (1 if options.apart else len(options.widths))
    at_sites = f"at {len(options.sites)} places" if options.sites else "behind the middle block"
    say(f"{len(tasks)} tasks of train-dictionary, each of {each} dictionaries"
        f" {at_sites}: {learned:,} tokens to learn from in all")  # fmt: skip
    for task in tasks:
        say(f"  {task.folder}")
