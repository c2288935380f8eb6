"""Read, reproduce, correct, compare, and write what others' scripts read."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import torch

from energylens.core.errors import BadInput
from energylens.core.ports import Progress, Store
from energylens.dynamics.original_plan import PlannedJump, checkpoint_steps
from energylens.results.record import Summary
from energylens.studies.dynamics_analysis.analyse import analyse
from energylens.studies.ndt_import import NdtImport
from energylens.studies.ndt_import.compared_course import course_null, course_rows, ordered_share
from energylens.studies.ndt_import.compared_jumps import jump_null, jump_rows
from energylens.studies.ndt_import.comparison import Compared, runs_of
from energylens.studies.ndt_import.exports import Export, export_files
from energylens.studies.ndt_import.finding import summarise
from energylens.studies.ndt_import.integrated import (
    hypothesis_rows,
    integrated_report,
    original_conclusions,
    original_results,
    sound_results,
)
from energylens.studies.ndt_import.material import Material, plans_of, read_both
from energylens.studies.ndt_import.phase_two import improving_shares, phase_two
from energylens.studies.ndt_import.reading import Experiment, read_folder
from energylens.studies.ndt_import.recovery import MEASURES, consistency, history, runs_table
from energylens.studies.ndt_import.sound import (
    sound_convergence,
    sound_jumps,
    sound_phase_two,
    sound_plans,
    sound_runs,
)
from energylens.studies.ndt_import.tables import all_tables
from energylens.studies.study import pin_inputs

Row = dict[str, Any]
ANALYSED = "_analysed"
MAIN = ("jumps", "early_share", "late_share", "quiet_at_once", "simultaneous", "strong_share",
        "loss_falls", "changed_share")  # fmt: skip


def run(
    options: NdtImport, *, store: Store, progress: Progress, say: Callable[[str], None]
) -> Summary:
    """Import a folder of raw results."""
    torch.set_num_threads(options.threads or torch.get_num_threads())
    if unknown := [name for name in options.measures if name not in MEASURES]:
        raise BadInput(
            f"option --measures has {unknown[0]}: choose among {', '.join(MEASURES)}, which the"
            " files of the original can give"
        )
    experiments = read_folder(options.folder)
    files = {f"{one.name}.json": one.sha256 for one in experiments}
    pin_inputs(store, {"experiments": _inputs(options, files)})
    store.save("files", records={"files": files})
    say(f"{runs_of(len(experiments))}, {sum(len(one.layers) for one in experiments)} layers")
    # One for the analysis and one for the rest: a run that resumes draws the same.
    analysing, generator = (torch.Generator().manual_seed(2 * options.seed + k) for k in (0, 1))
    with progress.task("readings", 4) as advance:
        stored, true = read_both(experiments)
        advance(1, "original definitions")
        tables = _analysis(options, experiments, store, analysing)
        advance(1, "common analysis")
        material = Material(
            experiments=tuple(experiments), stored=stored, true=true, tables=tables,
            plans=plans_of(stored, options.seed), consistency=consistency(experiments),
        )  # fmt: skip
        compared = [
            *jump_rows(material, jump_null(experiments, generator)),
            *course_rows(material, course_null(experiments, true, generator)),
        ]
        advance(1, "nulls")
        ordered = ordered_share(material)
        hypotheses = hypothesis_rows({one.quantity: one for one in compared}, ordered)
        written = all_tables(material, compared)
        exports = {
            "original": _as_original(material),
            "sound": _as_it_is(material, compared, hypotheses, generator),
        }
        store.save("exports", files=export_files(exports))
        store.save("tables", tables=written)
        advance(1, "files")
    return summarise(options, material, compared)


def _analysis(
    options: NdtImport, experiments: Sequence[Experiment], store: Store, generator: torch.Generator
) -> dict[str, pa.Table]:
    """The common analysis, kept so that a resumed run does not repeat it."""
    if not store.done("analysis"):
        found = analyse(
            {one.name: history(one) for one in experiments}, runs_table(experiments), generator,
            measures=options.measures, draws=options.draws or None,
        )  # fmt: skip
        kept = {f"{name}{ANALYSED}": table for name, table in found.items()}
        store.save("analysis", scratch=True, tables=kept, records={"analysed": sorted(found)})
    return {name: store.table(f"{name}{ANALYSED}") for name in store.record("analysed")}


def _as_original(material: Material) -> Export:
    """What the original's scripts would write of these files."""
    stored, experiments = material.stored, material.by_name()
    findings = phase_two(stored, experiments, material.plans)
    conclusions = original_conclusions(
        stored.jumps, stored.convergence, findings, improving_shares(stored, experiments)
    )
    return Export(
        jumps=stored.jumps, runs=stored.runs, convergence=stored.convergence,
        plan={name: _plan_record(plan) for name, plan in material.plans.items()},
        report=integrated_report(
            jumps=stored.jumps, runs=stored.runs, convergence=stored.convergence,
            phase_two=findings, conclusions=conclusions, date=_today(),
            results=original_results(stored.jumps, stored.convergence, findings),
        ),
    )  # fmt: skip


def _as_it_is(
    material: Material,
    compared: Sequence[Compared],
    hypotheses: Sequence[Row],
    generator: torch.Generator,
) -> Export:
    """The same files from the common analysis of the true stable rank, in training steps."""
    jumps = sound_jumps(material)
    runs, convergence = sound_runs(material, jumps), sound_convergence(material)
    sentences = {one.quantity: f"{one.label}: {one.sentence}" for one in compared}
    return Export(
        jumps=jumps, runs=runs, convergence=convergence,
        plan=sound_plans(material, jumps, generator),
        report=integrated_report(
            jumps=jumps, runs=runs, convergence=convergence,
            phase_two=sound_phase_two(material, jumps),
            conclusions=[sentences[name] for name in MAIN], results=sound_results(hypotheses),
            date=_today(),
        ),
    )  # fmt: skip


def _plan_record(plan: Sequence[PlannedJump]) -> Row:
    chosen = [
        {
            "type": planned.kind, "cluster": planned.jump.cluster, "step": planned.jump.step,
            "phase": planned.jump.phase, "magnitude": planned.jump.magnitude,
            "layer": planned.jump.layer, "checkpoints": list(planned.checkpoints),
        }
        for planned in plan
    ]  # fmt: skip
    return {"jumps": chosen, "checkpoint_steps": checkpoint_steps(plan)}


def _inputs(options: NdtImport, files: Mapping[str, str]) -> Row:
    """The folder, and one hash of all that was read in it."""
    listed = "\n".join(f"{name} {digest}" for name, digest in sorted(files.items()))
    return {
        "name": options.folder.resolve().name, "source": str(options.folder), "runs": len(files),
        "sha256": hashlib.sha256(listed.encode()).hexdigest(),
    }  # fmt: skip


def _today() -> str:
    return datetime.now(UTC).date().isoformat()
