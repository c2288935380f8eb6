"""The order of the parts of energy-lens; each is saved when done, so a killed run resumes."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace

import pyarrow as pa
import torch

from energylens.activations.batch import Batch
from energylens.activations.certify import wrap
from energylens.activations.subject import Subject
from energylens.core.ports import Progress, Store
from energylens.energy.precision import Precision, choose_precision
from energylens.results.record import Summary
from energylens.sources.model import random_weights_like
from energylens.studies.energy_lens import EnergyLens
from energylens.studies.energy_lens.attractors import attract_site
from energylens.studies.energy_lens.basin_tables import attractor_tables
from energylens.studies.energy_lens.behaviour import behave
from energylens.studies.energy_lens.behaviour_tables import behaviour_tables
from energylens.studies.energy_lens.bench import Bench
from energylens.studies.energy_lens.budget import settled
from energylens.studies.energy_lens.class_tables import class_tables
from energylens.studies.energy_lens.contest import enter_site
from energylens.studies.energy_lens.dictionaries import TRAINED, losses_by_window, train_sites
from energylens.studies.energy_lens.finding import summarise
from energylens.studies.energy_lens.held import Held, held
from energylens.studies.energy_lens.lens import RAW, TUNED
from energylens.studies.energy_lens.material import Material, gather
from energylens.studies.energy_lens.pages import featured_tables
from energylens.studies.energy_lens.passes import Kept, Pass
from energylens.studies.energy_lens.proof import Choice, choose, prove_site
from energylens.studies.energy_lens.scoring import (
    DOCUMENTS_PER_PIECE,
    Piece,
    Scored,
    bytes_kept,
    pieces_of,
    score_piece,
)
from energylens.studies.energy_lens.statistics import Inference, infer, score_half
from energylens.studies.energy_lens.tables import Row, measurement_tables, table
from energylens.studies.energy_lens.variants import variant_rows, variant_summaries, with_q
from energylens.studies.energy_lens.words import words_of

RANDOM_WEIGHTS = "random_weights"
PRECISION = "precision.chosen"


def run(
    options: EnergyLens, *, store: Store, progress: Progress, say: Callable[[str], None]
) -> Summary:
    """Energy-lens: dictionaries, energies, alignment, proof, behaviour, controls, in this order."""
    options = settled(options)
    torch.set_num_threads(options.threads or torch.get_num_threads())
    material = gather(options, store, say)
    trained = _pass(material, options, store, progress, model=TRAINED)
    _substitute(material, trained, options, store, progress)
    _prove(material, trained, options, store, progress)
    _attract(material, trained, options, store, progress)
    _contest(material, trained, options, store, progress)
    behave(material, trained, options, store, progress, say)
    control = _control(material, options, store, progress) if options.random_weights else None
    say("testing every feature against its nulls")
    inference = _infer(options, trained, control)
    tables = measurement_tables(trained, control, inference, store, options)
    words = words_of(material, trained)
    tables |= featured_tables(material, trained, inference, words, store, options)
    tables |= class_tables(material, trained, store, tables["featured"], options.seed)
    documents = dict.fromkeys(trained.benches, trained.documents_of_half_b)
    tokenizer = material.subject.loaded.tokenizer
    assert tokenizer is not None
    tables |= attractor_tables(store, documents, words.classes, tokenizer)
    tables |= behaviour_tables(material, trained, words.classes, store, options)
    tables["precision"] = store.table(PRECISION)
    tables |= _variants(material, trained, inference, options, store, progress)
    summary = summarise(material, inference, tables, options)
    store.save("tables", tables=tables)
    return summary


def _control(material: Material, options: EnergyLens, store: Store, progress: Progress) -> Pass:
    """The same scoring on a model that has learned nothing, at every second site and on half of the
    text; the model is dropped when this returns."""
    generator = torch.Generator().manual_seed(options.seed + 2)
    empty = wrap(random_weights_like(material.subject.loaded, generator))
    control = replace(
        material, subject=empty, sites=material.sites[1::2] or material.sites,
        train=material.train.split(0.5, generator)[0],
        held_out=material.held_out.split(0.5, generator)[0],
    )  # fmt: skip
    return _pass(control, options, store, progress, model=RANDOM_WEIGHTS)


def _pass(
    material: Material, options: EnergyLens, store: Store, progress: Progress, *, model: str
) -> Pass:
    subject, train, held_out = material.subject, material.train, material.held_out
    benches = train_sites(
        subject, material.sites, train.ids, train.document, material.dictionary, store,
        model=model, seed=options.seed, budget_mb=options.memory_mb, progress=progress,
    )  # fmt: skip
    pieces = pieces_of(held_out, model=model, size=DOCUMENTS_PER_PIECE)
    store.require_room(sum(
        bytes_kept(benches, piece, controls=model == TRAINED)
        for piece in pieces if not store.done(piece.name)
    ))  # fmt: skip
    precision = _precision(subject, benches, pieces[0], options, store)
    for number, piece in enumerate(pieces):
        # Half B (odd pieces) is where features are shown and intervened on. What is read through
        # the raw lens, shown for comparison, is scored there alone.
        real, shown = model == TRAINED, number % 2 == 1
        lens = ((TUNED,), RAW) if shown else ((TUNED,),)
        if not store.done(piece.name):
            found = score_piece(
                subject, benches, piece, lens=lens if real else (), keep=real and shown,
                controls=real, budget_mb=options.memory_mb, precision=precision,
                progress=progress,
            )  # fmt: skip
            store.save(piece.name, tensors={piece.name: found}, scratch=True)
    scored = Scored(pieces=[Kept(store=store, name=piece.name) for piece in pieces])
    return Pass(benches=benches, pieces=pieces, scored=scored)


def _precision(
    subject: Subject, benches: Mapping[str, Bench], piece: Piece, options: EnergyLens, store: Store
) -> Precision:
    """Decided once a run, with the trained model; times vary and a resumed run must not."""
    if not store.done("precision"):
        batch = Batch.full(piece.ids[:1].to(subject.device))
        rows = {site: bench.dictionary.W_dec for site, bench in benches.items()}
        chosen = choose_precision(subject, batch, rows, options.precision)
        store.save("precision", tables={PRECISION: table([asdict(chosen)])}, scratch=True)
    return Precision(**store.table(PRECISION).to_pylist()[0])


def _substitute(
    material: Material, trained: Pass, options: EnergyLens, store: Store, progress: Progress
) -> None:
    for _, site, bench in _left(trained, store, "substitution"):
        here = _held(material, trained, site)
        losses = losses_by_window(material.subject, site, bench, here, progress=progress)
        store.save(f"substitution.{site}", tensors={f"substitution.{site}": {"losses": losses}},
                   scratch=True)  # fmt: skip


def _prove(
    material: Material, trained: Pass, options: EnergyLens, store: Store, progress: Progress
) -> None:
    for number, site, bench in _left(trained, store, "proof"):
        generator = torch.Generator().manual_seed(options.seed + 100 + number)
        half_a = score_half(trained.scored, site, bench, half=0)
        prove_site(
            material.subject, site, bench, _held(material, trained, site),
            choose(half_a, options.proof_features, generator), store,
            contexts=options.proof_contexts, generator=generator, progress=progress,
        )  # fmt: skip


def _attract(
    material: Material, trained: Pass, options: EnergyLens, store: Store, progress: Progress
) -> None:
    for number, site, bench in _left(trained, store, "attractors"):
        chosen = store.record(f"proof.{site}")["choices"]
        attract_site(
            material.subject, site, bench, _held(material, trained, site),
            [Choice(feature=feature, chosen_by=rule) for feature, rule in chosen], store,
            generator=torch.Generator().manual_seed(options.seed + 600 + number),
            progress=progress,
        )  # fmt: skip


def _contest(
    material: Material, trained: Pass, options: EnergyLens, store: Store, progress: Progress
) -> None:
    for number, site, bench in _left(trained, store, "contest"):
        enter_site(
            material.subject, site, bench, _held(material, trained, site),
            score_half(trained.scored, site, bench, half=0), store,
            generator=torch.Generator().manual_seed(options.seed + 200 + number),
            progress=progress,
        )  # fmt: skip


def _variants(
    material: Material,
    trained: Pass,
    inference: Inference,
    options: EnergyLens,
    store: Store,
    progress: Progress,
) -> dict[str, pa.Table]:
    """Tables of the other correlations that were asked for, on half B."""
    rows: list[Row] = []
    for number, (site, bench) in enumerate(trained.benches.items() if options.variants else ()):
        intervened = [feature for feature, _ in store.record(f"proof.{site}")["choices"]]
        rows += variant_rows(
            site, bench, _held(material, trained, site), inference.headline[site],
            options.variants, intervened, progress=progress,
            generator=torch.Generator().manual_seed(options.seed + 500 + number),
        )  # fmt: skip
    if not rows:
        return {}
    return {
        "variants": table(with_q(rows)),
        "variant_summary": table(list(variant_summaries(rows))),
    }


def _left(trained: Pass, store: Store, part: str) -> Iterator[tuple[int, str, Bench]]:
    """Sites whose part is still to be done, each with its number, which its seed depends on."""
    for number, (site, bench) in enumerate(trained.benches.items()):
        if not store.done(f"{part}.{site}"):
            yield number, site, bench


def _held(material: Material, trained: Pass, site: str) -> Held:
    return held(trained.scored, trained.pieces, site, device=material.subject.device)


def _infer(options: EnergyLens, trained: Pass, control: Pass | None) -> Inference:
    return infer(
        trained.benches, trained.scored,
        control.benches if control else None, control.scored if control else None,
        draws=options.draws, seed=options.seed,
    )  # fmt: skip
