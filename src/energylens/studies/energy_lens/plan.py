"""What a run would do, before it is done: passes counted, time by this machine's own speed."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from energylens.core.sites import layer_of
from energylens.results.format import duration
from energylens.studies.energy_lens import EnergyLens
from energylens.studies.energy_lens.attractors import NULL_PER_START, STARTS_PER_FEATURE
from energylens.studies.energy_lens.budget import settled
from energylens.studies.energy_lens.contest import PASSES, WINDOWS
from energylens.studies.energy_lens.dictionaries import SUBSTITUTED_WINDOWS
from energylens.studies.energy_lens.lens import RAW, TUNED
from energylens.studies.energy_lens.material import Material, gather
from energylens.studies.energy_lens.scoring import DOCUMENTS_PER_PIECE, bytes_of_piece
from energylens.studies.energy_lens.tally import LENS_STRIDE

# Time over that of the bare matrix products, as measured on SmolLM2 and two cores.
OVERHEAD = 2.0
# Products of encoder size that training, thresholds and scoring of a dictionary come to, by row.
DICTIONARY_PRODUCTS = 16
# Evaluations of a descent, and prompts that a change moves.
DESCENT, MOVED = 22, 0.4
TASKS, PROMPT_TOKENS = 7, 14
INTERVENTIONS = 3
# Reading, inference, tables and page, seconds; Python, torch and libraries, MB.
REST, LIBRARIES_MB = 55, 700


@dataclass(frozen=True, kw_only=True)
class _Cost:
    """Floating-point operations of one token through parts of a model."""

    blocks: float
    vocabulary: float
    layers: int

    def above(self, layer: int) -> float:
        return self.blocks * (self.layers - layer - 1) / self.layers + self.vocabulary


def plan(options: EnergyLens, say: Callable[[str], None]) -> None:
    """Read the inputs, count the work, measure one matrix product, and say what would come.

    Raises:
        BadInput: As the run itself would.
    """
    options = settled(options)
    torch.set_num_threads(options.threads or torch.get_num_threads())
    material = gather(options, None, say)
    parts = dict(_operations(material, options))
    rate = _operations_per_second(str(material.subject.device))
    seconds = {name: OVERHEAD * count / rate for name, count in parts.items()}
    total = sum(seconds.values()) + REST
    for line in _sizes(material, options):
        say(line)
    for name, value in seconds.items():
        say(f"  {name:<30}{duration(value)}")
    say(f"  {'reading, nulls, tables, page':<30}{duration(REST)}")
    speed = f"{rate / 1e9:,.0f} GFLOP/s, which this machine just did"
    say(f"time    about {duration(total)} at {speed}; within half and twice that")
    memory, disk = _memory_mb(material, options), _disk_mb(material, options)
    say(f"memory  about {memory:,.0f} MB, disk about {disk:,.0f} MB while it runs")
    say("nothing was computed or written: leave --dry-run out to run it")


def _sizes(material: Material, options: EnergyLens) -> Iterator[str]:
    loaded, width = material.subject.loaded, material.dictionary.width
    weights = sum(p.numel() for p in loaded.module.parameters())
    documents = int(material.held_out.document.unique().numel())
    yield f"model   {loaded.name}: {weights / 1e6:,.1f} M weights, {loaded.n_layers} blocks"
    yield (
        f"text    {material.corpus}: {documents:,} held-out documents,"
        f" {material.train.ids.numel():,} tokens to train on, windows of {options.context}"
    )
    yield f"sites   {', '.join(material.sites)}"
    yield (
        f"work    {len(material.sites)} dictionaries of {width:,} features, k"
        f" {material.dictionary.k}; {options.proof_features} features a site ablated in"
        f" {options.proof_contexts} windows; {options.behaviour_features} features in {TASKS}"
        " behaviour tasks" + ("; a random-weight model beside" * options.random_weights)
    )


def _operations(material: Material, options: EnergyLens) -> Iterator[tuple[str, float]]:
    loaded, layers = material.subject.loaded, [layer_of(s) or 0 for s in material.sites]
    d_model, vocabulary = loaded.d_model or 1, float(2 * (loaded.d_model or 1) * loaded.vocab_size)
    inner = sum(p.numel() for block in material.subject.blocks for p in block.parameters())
    cost = _Cost(blocks=2.0 * inner, vocabulary=vocabulary, layers=loaded.n_layers)
    train, held = material.train.ids.numel(), material.held_out.ids.numel()
    documents, context = len(material.held_out.ids), options.context
    reading = train * cost.blocks * (max(layers) + 1) / cost.layers
    encoder = 2.0 * d_model * material.dictionary.width
    fitting = len(layers) * encoder * DICTIONARY_PRODUCTS * train
    scoring = 2 * held * (cost.blocks + cost.vocabulary)
    tuned, raw = (len(layers) * held / LENS_STRIDE[name] for name in (TUNED, RAW[0]))
    above = sum(cost.above(layer) for layer in layers)
    windows = options.proof_features * options.proof_contexts * 1.6
    starts = (1 + NULL_PER_START) * documents / 2
    starts += 3 * STARTS_PER_FEATURE * options.proof_features
    yield "activations to train on", reading
    yield "dictionaries and tuned lenses", fitting + len(layers) * 1300 * 4 * vocabulary
    yield "forces, scores and controls", scoring + (2 * tuned + 1.5 * raw) * 1.5 * vocabulary
    yield "substitution", 2 * SUBSTITUTED_WINDOWS * context * above
    yield "interventions", windows * context * above
    yield "attractors", len(layers) * starts * DESCENT * 2 * vocabulary
    yield "contest", WINDOWS * context * (2 * PASSES + 2) * above
    tokens = options.behaviour_features * 3 * INTERVENTIONS * MOVED * TASKS
    tokens *= options.behaviour_prompts * PROMPT_TOKENS
    yield "behaviour", tokens * (above / len(layers) - vocabulary)
    if options.random_weights:
        yield "random-weight model", (reading + fitting * 0.6 + scoring) / 2


def _operations_per_second(device: str) -> float:
    """The fastest of some products of a size that models make."""
    a, b = torch.ones(1024, 1024, device=device), torch.ones(1024, 2048, device=device)
    best = float("inf")
    for _ in range(8):
        start = time.perf_counter()
        a @ b
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return 2 * 1024 * 1024 * 2048 / best


def _memory_mb(material: Material, options: EnergyLens) -> float:
    weights = sum(p.numel() * p.element_size() for p in material.subject.module.parameters())
    models = 2 if options.random_weights else 1
    return LIBRARIES_MB + models * weights / 2**20 + options.memory_mb


def _disk_mb(material: Material, options: EnergyLens) -> float:
    width, d_model = material.dictionary.width, material.subject.loaded.d_model or 1
    documents = len(material.held_out.ids)
    piece = bytes_of_piece(
        width, d_model, material.dictionary.k, tokens=DOCUMENTS_PER_PIECE * options.context,
        units=DOCUMENTS_PER_PIECE, controls=True,
    )  # fmt: skip
    dictionaries = 3 * 4 * width * d_model
    pieces = documents / DOCUMENTS_PER_PIECE
    return len(material.sites) * (pieces * piece + dictionaries) / 2**20
