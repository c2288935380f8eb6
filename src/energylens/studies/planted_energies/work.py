"""Networks are drawn, run down and scored, one setting after another; each is done once."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch

from energylens.core.errors import BadInput
from energylens.core.ports import Progress, Store
from energylens.results.record import Summary
from energylens.studies.energy_lens.tables import table
from energylens.studies.planted_energies import PlantedEnergies
from energylens.studies.planted_energies.finding import summarise
from energylens.studies.planted_energies.forces import force_rows
from energylens.studies.planted_energies.networks import (
    Network,
    Subject,
    block_subjects,
    digits,
    hopfield_subjects,
    one_memory,
    seeded,
)
from energylens.studies.planted_energies.paths import path_rows
from energylens.studies.planted_energies.recovery import recover
from energylens.studies.planted_energies.tables import (
    force_table,
    minima_row,
    named,
    path_table,
    recovery_rows,
)
from energylens.studies.study import flag, pin_inputs

Row = dict[str, Any]
# Rows of one network, by the table they go into.
Work = Callable[[Network, Network, torch.Generator], Mapping[str, Sequence[Row]]]


def run(
    options: PlantedEnergies, *, store: Store, progress: Progress, say: Callable[[str], None]
) -> Summary:
    """Recovery, paths and forces of every kind of network at every setting."""
    check(options)
    torch.set_num_threads(options.threads or torch.get_num_threads())
    pixels = digits().numpy().tobytes()
    pin_inputs(store, {"digits": {"name": "scikit-learn digits, centred", "images": len(digits()),
                                  "sha256": hashlib.sha256(pixels).hexdigest()}})  # fmt: skip
    todo = list(settings(options))
    found: dict[str, list[tuple[Subject, dict[str, list[Row]]]]] = {}
    with progress.task("settings", len(todo), "setting") as advance:
        for what, subject, work in todo:
            rows = _done_once(what, subject, work, options, store, say)
            found.setdefault(what, []).append((subject, rows))
            advance(1)
    noise = middle(options.noises)
    tables = {
        "planted_networks": [{**named(subject), **row} for subject, rows in found["recovery"]
                             for row in rows["networks"]],
        "planted_minima": [minima_row(subject, rows["networks"])
                           for subject, rows in found["recovery"]],
        "planted_recovery": [row for subject, rows in found["recovery"]
                             for row in recovery_rows(subject, rows["noises"])],
        "planted_paths": [row for subject, rows in found["paths"]
                          for row in path_table(subject, noise, rows["looks"])],
        "planted_features": [row for subject, rows in found["forces"]
                             for row in force_table(subject, rows["features"])],
    }  # fmt: skip
    store.save("tables", tables={name: table(rows) for name, rows in tables.items()})
    return summarise(options, tables)


def check(options: PlantedEnergies) -> None:
    """Refuse what no range alone can tell.

    Raises:
        BadInput: If a list is empty, or more is planted than there is room for.
    """
    for name in ("patterns", "betas", "noises", "attention"):
        values = getattr(options, name)
        if not values or len(set(values)) < len(values):
            raise BadInput(
                f"option {flag(name)} has {len(values)} numbers, {len(set(values))} of them"
                " different: give at least one, and each once"
            )
    if min(options.patterns) >= options.dimension:
        raise BadInput(
            f"--patterns of at least {min(options.patterns)} in --dimension {options.dimension}"
            " leave no direction free of them: plant fewer in one of the networks"
        )
    if options.memories >= options.d_model:
        raise BadInput(
            f"--memories {options.memories} of --d-model {options.d_model} cannot all be far apart:"
            " ask for fewer memories than dimensions"
        )


def middle(values: Sequence[float]) -> float:
    """The middle one of some values, the larger of two."""
    return sorted(values)[len(values) // 2]


def settings(options: PlantedEnergies) -> Iterator[tuple[str, Subject, Work]]:
    """All that is to be done: what, of which networks, and how."""
    hopfield = hopfield_subjects(
        options.patterns, options.betas, dimension=options.dimension,
        correlation=options.correlation,
    )  # fmt: skip
    size = {"d_model": options.d_model, "tokens": options.tokens}
    blocks = block_subjects(
        options.attention, memories=options.memories, alpha=options.alpha, **size
    )
    most, fewest, noise = max(options.patterns), min(options.patterns), middle(options.noises)

    def recovery(network: Network, other: Network, g: torch.Generator) -> dict[str, list[Row]]:
        whole, rows = recover(network, other, options.noises, g)
        return {"networks": [whole], "noises": rows}

    def paths(network: Network, other: Network, g: torch.Generator) -> dict[str, list[Row]]:
        return {"looks": path_rows(network, other, noise, g)}

    def forces(network: Network, other: Network, g: torch.Generator) -> dict[str, list[Row]]:
        return {"features": force_rows(network, other, draws=options.draws, generator=g)}

    for subject in (*hopfield, *blocks):
        yield "recovery", subject, recovery
    for subject in hopfield:
        if subject.size == most and subject.setting == max(options.betas):
            yield "paths", subject, paths
    yield "paths", max(blocks, key=lambda block: block.setting), paths
    for subject in hopfield:
        # At every beta where patterns are random, and once where they are images.
        sharpest = subject.setting == max(options.betas)
        if subject.size == fewest and subject.name in ("random patterns", "digits")[: 1 + sharpest]:
            yield "forces", subject, forces
    for subject in (*blocks, one_memory(alpha=options.alpha, **size)):
        yield "forces", subject, forces


def _done_once(
    what: str,
    subject: Subject,
    work: Work,
    options: PlantedEnergies,
    store: Store,
    say: Callable[[str], None],
) -> dict[str, list[Row]]:
    """The rows of all networks of one setting; each is judged beside the next one."""
    part = f"{what}.{subject.part}"
    if not store.done(part):
        say(f"{what} of {subject.name}, {subject.size} planted, {subject.dial} {subject.setting:g}")
        networks = subject.networks(options.networks, options.seed)
        rows: dict[str, list[Row]] = {}
        for k, network in enumerate(networks):
            other = networks[(k + 1) % len(networks)]
            # The same starts at every setting.
            generator = seeded(options.seed, what, subject.name, subject.size, k)
            for name, some in work(network, other, generator).items():
                rows.setdefault(name, []).extend({"network": k, **row} for row in some)
        store.save(part, scratch=True, records={part: rows})
    return store.record(part)
