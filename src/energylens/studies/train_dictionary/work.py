"""The order of a training: states, steps, judgement; a run that is killed goes on to the bit."""

from collections.abc import Callable, Mapping, Sequence
from math import gcd
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from energylens.activations.batch import Batch
from energylens.activations.buffer import RowSource, ShuffleBuffer
from energylens.activations.cache import open_cache, write_cache
from energylens.activations.stream import ModelRows
from energylens.core.checkpoint import FolderCheckpoint
from energylens.core.errors import BadInput
from energylens.core.ports import Collective, Progress, Store
from energylens.energy.energies.downstream import next_token_surprisal
from energylens.features.course import Course, Sight, TrainRecord
from energylens.features.cross_layer_training import CrossLayerJob
from energylens.features.crosscoder_training import CrosscoderJob
from energylens.features.end_to_end import Objective, Seat, divergence, train_end_to_end
from energylens.features.formats.convert import own_files
from energylens.features.formats.recognise import load_dictionary
from energylens.features.mesh import Mesh
from energylens.features.ordinary import Ordinary
from energylens.features.stream import Job, Watch, train_stream
from energylens.features.training import Trace
from energylens.results.record import Summary
from energylens.studies.train_dictionary import TrainDictionary
from energylens.studies.train_dictionary.finding import summarise
from energylens.studies.train_dictionary.judge import Trained, judge
from energylens.studies.train_dictionary.material import Material, gather

PART = "trained"


def run(
    options: TrainDictionary,
    *,
    store: Store,
    progress: Progress,
    say: Callable[[str], None],
    collective: Collective,
) -> Summary:
    """Dictionaries of all combinations, on one pass of the model over the text."""
    torch.set_num_threads(options.threads or torch.get_num_threads())
    material = gather(options, store, say)
    _tell_the_plan(material, options, say)
    if not store.done(PART):
        _train(material, options, store, progress, collective)
    trained = _kept(material, store)
    if not store.done("judged"):
        generator = torch.Generator().manual_seed(options.seeds[0] + 1)
        found = judge(
            trained, material, memory_mb=options.memory_mb, generator=generator, progress=progress
        )
        store.save("judged", records={"judged": found}, scratch=True)
    rows = _rows(trained, store)
    tables = {"trained_dictionaries": rows}
    if by_site := _site_rows(trained, store):
        tables["trained_sites"] = by_site
    store.save("tables", tables={n: pa.Table.from_pylist(list(t)) for n, t in tables.items()})
    return summarise(options, material, rows)


def _tell_the_plan(
    material: Material, options: TrainDictionary, say: Callable[[str], None]
) -> None:
    tokens = material.n_windows * (options.context - 2)
    if tokens < 0.9 * options.tokens:
        say(f"the text gives {tokens:,} of the {options.tokens:,} tokens asked for; more text, or a"
            " higher --per-document, gives more")  # fmt: skip
    jobs = len(material.jobs)
    say(f"training {jobs:,} {'dictionary' if jobs == 1 else 'dictionaries'} on {tokens:,} tokens,"
        f" {options.epochs} times each")  # fmt: skip


def _train(
    material: Material,
    options: TrainDictionary,
    store: Store,
    progress: Progress,
    collective: Collective,
) -> None:
    store.require_room(_bytes_of(material))

    def watch(label: str, step: int, trace: Trace) -> None:
        store.log(label, step, trace._asdict())

    if options.loss == "reconstruction":
        courses = _by_reconstruction(material, options, store, progress, watch, collective)
    elif collective.world == 1:
        courses = _end_to_end(material, options, store, progress, watch)
    else:
        raise BadInput(
            f"--loss {options.loss} was asked of {collective.world} processes: end to end a"
            " dictionary is trained in one"
        )
    _save(courses, material, store)


def _by_reconstruction(
    material: Material,
    options: TrainDictionary,
    store: Store,
    progress: Progress,
    watch: Watch,
    collective: Collective,
) -> Mapping[str, Course]:
    """All dictionaries side by side on the same shuffled batches."""
    source, rows = _source(material, options, store, progress, collective)
    buffer = ShuffleBuffer(
        source, options.batch, torch.Generator().manual_seed(options.seeds[0]),
        budget_mb=options.memory_mb / 2, epochs=options.epochs, device=options.device,
    )  # fmt: skip
    return train_stream(
        buffer, material.jobs, max(1, round(rows * options.epochs / options.batch)),
        progress=progress, label="training", watch=watch,
        checkpoint=FolderCheckpoint(
            store.workplace("checkpoint"), seconds=options.checkpoint_seconds
        ),
        mesh=Mesh.of(collective, shards=gcd(options.shards, collective.world)),
    )  # fmt: skip


def _end_to_end(
    material: Material, options: TrainDictionary, store: Store, progress: Progress, watch: Watch
) -> Mapping[str, Course]:
    """One after the other: each changes what the model computes."""
    courses, loaded = {}, material.subject.loaded
    special = torch.zeros(loaded.vocab_size or 0, dtype=torch.bool, device=material.subject.device)
    special[list(loaded.special_ids)] = True
    for label, job in material.jobs.items():
        rows = ModelRows(
            material.subject, material.windows, list(job.reads), budget_mb=options.memory_mb / 4
        )
        passes = -(-material.n_windows // rows.windows_per_pass)
        courses[label] = train_end_to_end(
            Seat(subject=material.subject, site=job.reads[0], objective=OBJECTIVES[options.loss],
                 without=special),
            rows.passes, job.options, passes * options.epochs,
            torch.Generator().manual_seed(job.seed), progress=progress, label=label, watch=watch,
            checkpoint=FolderCheckpoint(
                store.workplace("checkpoint") / label, seconds=options.checkpoint_seconds
            ),
        )  # fmt: skip
    return courses


def _surprisal(changed: Tensor, clean: Tensor, batch: Batch) -> Tensor:
    return next_token_surprisal(changed, batch)


OBJECTIVES: Mapping[str, Objective] = {"kl": divergence, "ce": _surprisal}


def _source(
    material: Material,
    options: TrainDictionary,
    store: Store,
    progress: Progress,
    collective: Collective,
) -> tuple[RowSource, int]:
    """Where rows come from, and how many there are, or nearly."""
    rows = ModelRows(
        material.subject, material.windows, material.sites, budget_mb=options.memory_mb / 2
    )
    tokens = material.n_windows * options.context
    if options.epochs == 1 and not options.cache:
        return rows, material.n_windows * (options.context - 2)
    folder = Path(options.cache) if options.cache else store.workplace("activations")
    widths = sum(empty.shape[1] * empty.element_size() for empty in rows.layout.values())
    if not collective.once(lambda: (folder / "manifest.json").is_file()):
        store.require_room(material.n_windows * (options.context - 2) * widths)

    def write() -> None:
        write_cache(
            rows, folder, text=material.sha256, shard_mb=min(64, options.memory_mb / 16),
            tokens=tokens, progress=progress, label="states of the model",
        )  # fmt: skip

    collective.once(write)
    cached = open_cache(folder)
    return cached, cached.total


def _bytes_of(material: Material) -> int:
    """Checkpoint and dictionaries: four and one times the weights of all."""
    d_model = material.subject.loaded.d_model or 1

    def parts(job: Job) -> int:
        """Encoder and decoder rows of d_model values for each of `width` features."""
        if isinstance(job, CrossLayerJob):  # layer l of L writes to L - l layers
            return len(job.layers) * (len(job.layers) + 3) // 2
        return len(job.reads) + len(job.writes or job.reads)

    return sum(5 * 4 * job.options.width * d_model * parts(job) for job in material.jobs.values())


def _save(courses: Mapping[str, Course], material: Material, store: Store) -> None:
    files: dict[str, Callable[[Path], object]] = {}
    sights: dict[str, Tensor] = {}
    records, steps = {}, []
    for label, course in courses.items():
        made = material.jobs[label].finish(course, _metadata(label, material))
        written = own_files(made)
        files |= {f"dictionaries/{label}/{name}": write for name, write in written.items()}
        record = course.record()
        records[label] = {
            "steps": record.steps, "tokens": record.tokens, "massive_rows": record.massive_rows,
            "seconds": record.seconds,
        }  # fmt: skip
        sights |= {f"{label}/{name}": value for name, value in course.makes.numbers().items()}
        sights[f"{label}/reads"] = course.reads.ordinary.numbers()
        steps += _series(label, record)
    store.save(
        PART, files=files, records={PART: records}, tensors={"sights": sights},
        tables={"training_steps": pa.Table.from_pylist(steps)},
    )  # fmt: skip


def _metadata(label: str, material: Material) -> dict[str, Any]:
    """Where a dictionary belongs, in the words of the files that it is kept in."""
    job, found = material.jobs[label], {"model_name": material.subject.loaded.name}
    if isinstance(job, CrossLayerJob):
        within = [sites[0].split(".", 2)[2] for sites in (job.reads, job.writes)]
        return found | {"feature_input_hook": within[0], "feature_output_hook": within[1]}
    if isinstance(job, CrosscoderJob):
        return found  # the sites are named besides
    found["hook_name"] = job.reads[0]
    return found | {"hook_name_out": job.writes[0]} if job.writes else found


def _series(label: str, record: TrainRecord) -> list[dict[str, Any]]:
    columns = (record.loss, record.fvu, record.dead_share, record.l0)
    return [
        {"label": label, "step": number, **dict(zip(Trace._fields, values, strict=True))}
        for number, values in enumerate(zip(*columns, strict=True), start=1)
    ]


def _kept(material: Material, store: Store) -> dict[str, Trained]:
    """The dictionaries as they lie on the disk."""
    sights, device = store.tensors("sights"), material.subject.device
    found = {}
    for label, job in material.jobs.items():
        made = load_dictionary(store.folder(f"dictionaries/{label}")).to(device)
        numbers = {name: sights[f"{label}/{name}"] for name in ("frame", "ordinary")}
        like = made.weights["b_dec"]
        found[label] = Trained(
            made=made, job=job, sight=Sight.of_numbers(numbers, like),
            reads=Ordinary.of_numbers(sights[f"{label}/reads"], like),
        )  # fmt: skip
    return found


def _rows(trained: Mapping[str, Trained], store: Store) -> Sequence[dict[str, Any]]:
    records, judged = store.record(PART), store.record("judged")
    rows = []
    for label, one in trained.items():
        job, kept = one.job, records[label]
        rows.append({
            "label": label, "map": one.map, "site": ", ".join(job.reads),
            "target": ", ".join(job.writes), "architecture": job.options.architecture,
            "width": job.options.width, "k": job.options.k, "seed": job.seed,
            "steps": kept["steps"], "tokens": kept["tokens"],
            "massive_rows": kept["massive_rows"], **_numbers(judged[label]["whole"]),
            "seconds": kept["seconds"],
        })  # fmt: skip
    return rows


def _site_rows(trained: Mapping[str, Trained], store: Store) -> Sequence[dict[str, Any]]:
    """What is made of each place, by those that make several."""
    judged = store.record("judged")
    return [
        {"label": label, "map": one.map, "site": site, **_numbers(judged[label]["sites"][site])}
        for label, one in trained.items() if len(one.makes) > 1
        for site in one.makes
    ]  # fmt: skip


def _numbers(found: Mapping[str, Any]) -> dict[str, Any]:
    """What a record holds, with nan again where it was undefined."""
    return {name: float("nan") if value is None else value for name, value in found.items()}
