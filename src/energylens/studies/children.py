"""Runs inside a run: each is a run of another study, resumed part by part and done once.

What the run around it needs of a child is taken over when the child is done, and the child's own
parts go: a run of twenty children takes the disk of one.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from energylens.core.ports import Nested, Progress, Store
from energylens.results.plain import decode, encode
from energylens.results.record import Control, Summary
from energylens.studies.study import STUDIES

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What is kept of a child: its summary, and some of its tables."""

    name: str
    summary: Summary
    tables: "Mapping[str, pa.Table]"


# Looks into the store of a child that has just been done, and saves what it wants in that around.
Harvest = Callable[[Nested], None]


def run_child(
    study_name: str,
    options: Any,
    name: str,
    *,
    tables: Sequence[str],
    store: Store,
    progress: Progress,
    say: Callable[[str], None],
    harvest: Harvest = lambda store: None,
) -> Outcome:
    """Run a study as a part of another; one that was done before is read back.

    Args:
        study_name: The child's study.
        options: Its options.
        name: Names the child among its siblings; a word without a dot.
        tables: Its tables to keep until the run around it is done.
        store: The store of the run around it.
        harvest: Called once with the store of the child when the child is done.
    """
    part, child = f"outcome.{name}", Nested(store, name)
    if not store.done(part):
        say(f"run {name}")
        summary = STUDIES[study_name].function()(options, store=child, progress=progress, say=say)
        harvest(child)
        store.save(
            part, scratch=True, records={part: decode(summary.to_json(), part)},
            tables={f"{part}.{table}": child.table(table) for table in tables},
        )  # fmt: skip
    child.clear()  # also where a run was killed between the two
    return Outcome(
        name=name, summary=Summary.from_json(encode(store.record(part)), part),
        tables={table: store.table(f"{part}.{table}") for table in tables},
    )  # fmt: skip


def controls_of(outcomes: Sequence[Outcome]) -> dict[str, Control]:
    """Each control of the children, over all of them."""
    controls = {}
    for name, first in outcomes[0].summary.controls.items():
        failed = [o.name for o in outcomes if not o.summary.controls[name].passed]
        told = f"{len(outcomes) - len(failed)} of {len(outcomes)} runs pass"
        controls[name] = Control(
            label=first.label, value=len(failed), expected="no run fails", passed=not failed,
            sentence=f"{first.label}: {told}" + (f"; not {', '.join(failed)}." if failed else "."),
        )  # fmt: skip
    return controls


@contextmanager
def passing(store: Store, name: str) -> Iterator[Nested]:
    """A child's store of which nothing stays: to look at an input that may yet be refused, so that
    a run that is refused leaves no trace."""
    child = Nested(store, name)
    try:
        yield child
    finally:
        child.clear()


def joined(outcomes: Sequence[Outcome], table: str) -> "pa.Table":
    """One table of all children, its first column `run` says of which."""
    import pyarrow as pa

    parts = []
    for outcome in outcomes:
        found = outcome.tables[table]
        parts.append(found.add_column(0, "run", pa.array([outcome.name] * len(found), pa.string())))
    return pa.concat_tables(parts, promote_options="permissive")
