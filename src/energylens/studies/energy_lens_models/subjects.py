"""The models of a run: each is loaded once before the long work, and refused then if at all."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from energylens.core.errors import BadInput
from energylens.core.ports import Store
from energylens.sources.hub import fetch
from energylens.sources.model import RANDOM
from energylens.sources.tokenizer import Tokenizer
from energylens.studies.children import passing
from energylens.studies.energy_lens import EnergyLens
from energylens.studies.energy_lens.material import Material, gather
from energylens.studies.energy_lens_models import DEFAULT_MODELS, EnergyLensModels

TRAINED, RANDOM_WEIGHTS = "trained", "random weights"


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What the run needs to know of a model while another one is in memory.

    Attributes:
        run: Names its run.
        name: As reports say it.
        weights: `trained` or `random weights`.
        options: Of its energy-lens.
        read: Names of the documents that its dictionaries are trained on.
    """

    run: str
    name: str
    weights: str
    options: EnergyLens
    parameters: int
    n_layers: int
    d_model: int
    tokenizer: Tokenizer
    inputs: dict[str, dict[str, object]]
    read: frozenset[str]


def available(options: EnergyLensModels, say: Callable[[str], None]) -> tuple[list[str], str]:
    """The models to run, and what is missing of the default ones, in one sentence.

    Raises:
        BadInput: If fewer than two are left, one is named twice, or one is a control by itself.
    """
    names = list(options.models)
    for name in names:
        if name.startswith(RANDOM):
            raise BadInput(
                f"{name!r} is a control, and each model's control is run beside it: leave it out"
            )
    missing = []
    if options.models == DEFAULT_MODELS:
        for name in (name for name in DEFAULT_MODELS if "/" in name):
            try:
                fetch(name, revision=None, offline=None)
            except BadInput as error:
                missing.append((name, str(error).split(":")[0]))
    names = [name for name in names if name not in {name for name, _ in missing}]
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise BadInput(f"model {twice[0]!r} is named twice: give each model once")
    if len(names) < 2:
        raise BadInput(
            f"a comparison needs two models or more, and {len(names)} was given"
            f"{'' if not names else f' ({names[0]})'}: name more after --models"
        )
    told = "".join(f"{why}, so it is left out and {' and '.join(names)} remain."
                   for _, why in missing)  # fmt: skip
    if told:
        say(told)
    return names, told


def read_all(
    names: Sequence[str], options: EnergyLensModels, store: Store, say: Callable[[str], None]
) -> list[Facts]:
    """Load each model, and the same with random weights, and note what matters.

    Raises:
        BadInput: If a model cannot be used, or two are the same one under two names.
    """
    found: list[Facts] = []
    for name in names:
        for weights, prefix in ((TRAINED, ""), (RANDOM_WEIGHTS, RANDOM)):
            facts = _read(prefix + name, weights, found, options, store, say)
            for other in found:
                if other.inputs["model"]["sha256"] == facts.inputs["model"]["sha256"]:
                    raise BadInput(
                        f"{name!r} is the same model as {other.options.model!r} (same weights):"
                        " give each model once"
                    )
            found.append(facts)
    return found


def _read(
    model: str,
    weights: str,
    before: Sequence[Facts],
    options: EnergyLensModels,
    store: Store,
    say: Callable[[str], None],
) -> Facts:
    child = EnergyLens(
        model=model, text=options.text, width=options.width, k=options.k, context=options.context,
        train_tokens=options.train_tokens, score_documents=options.score_documents,
        proof_features=0, draws=options.draws, random_weights=False, memory_mb=options.memory_mb,
        threads=options.threads, device=options.device, seed=options.seed,
    )  # fmt: skip
    run = _slug(model, {facts.run for facts in before})
    with passing(store, f"begin-{run}") as begin:
        material = gather(child, begin, say)
        inputs = begin.record("inputs")
    loaded = material.subject.loaded
    assert loaded.tokenizer is not None
    return Facts(
        run=run, name=loaded.name.removesuffix(" (random weights)"), weights=weights,
        options=replace(child, sites=_sites(material, options.depths)),
        parameters=sum(p.numel() for p in loaded.module.parameters()),
        n_layers=material.subject.n_layers, d_model=loaded.d_model, tokenizer=loaded.tokenizer,
        inputs=inputs, read=frozenset(material.train.document_names),
    )  # fmt: skip


def _slug(model: str, taken: set[str]) -> str:
    last = model.rstrip("/").split("/")[-1]
    random = "-random" if model.startswith(RANDOM) else ""
    word = re.sub(r"[^A-Za-z0-9_-]+", "-", last.removeprefix(RANDOM)).strip("-")[:40] + random
    number = next(n for n in range(1, len(taken) + 2)
                  if (word if n == 1 else f"{word}-{n}") not in taken)  # fmt: skip
    return word if number == 1 else f"{word}-{number}"


def _sites(material: Material, depths: int) -> tuple[str, ...]:
    """Sites at like relative depths in every model."""
    layers = material.subject.n_layers
    chosen = dict.fromkeys(min(layers - 1, int((i + 0.5) * layers / depths)) for i in range(depths))
    return tuple(f"blocks.{layer}.resid_post" for layer in chosen)
