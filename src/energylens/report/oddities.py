"""What deserves a second look: each check by name, and what it met, be that nothing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from energylens.report.records import Records, Table, finite

BOUND = 0.999  # of a correlation: beyond it there is next to no noise
# Shortest column in which one value throughout is odd rather than small.
LONG_COLUMN = 20
MOST_NAMED = 6
HALVES = "halves of the documents that disagree"
# Of which one value throughout is the plan of the run, not a measurement.
PLANNED = frozenset({
    "layer", "k", "width", "d_in", "steps", "items", "units", "sites", "chance", "passes", "rank",
    "peak", "passed", "can", "beyond", "sink", "alone", "converged", "expected", "n", "rows",
    "sets", "attractors", "repulsors", "discoveries",
})  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Looked:
    """A check and what it met."""

    name: str
    found: str
    odd: bool | None
    """None where the run has nothing to look at."""

    @property
    def verdict(self) -> str:
        return {True: "look again", False: "nothing odd", None: "not looked at"}[self.odd]


def looked(records: Records) -> list[Looked]:
    """All checks that the run's tables allow."""
    return [found for check in CHECKS if (found := check(records)) is not None]


def _ties(records: Records) -> Looked | None:
    scored = _scored(records)
    if scored is None:
        return None
    efas = finite(scored.number("efas"))
    _, counts = np.unique(efas, return_counts=True)
    tied = int(counts[counts > 1].sum())
    found = f"{f'{tied:,}' if tied else 'none'} of {len(efas):,} features have the EFAS of another"
    return Looked(name="ties", found=found, odd=tied > 0)


def _bound(records: Records) -> Looked | None:
    met, seen = [], 0
    for name, column in (("features", "efas"), ("calibration", "correlation"),
                         ("contest", "spearman")):  # fmt: skip
        table = records.table(name)
        if table is None:
            continue
        values = finite(table.number(column))
        seen += len(values)
        if at := int((np.abs(values) > BOUND).sum()):
            met.append(f"{name}.{column}: {at:,} of {len(values):,}")
    if not seen:
        return None
    words = "; ".join(met) or f"none of {seen:,}"
    return Looked(name=f"correlations beyond {BOUND} in size", found=words, odd=bool(met))


def _constant(records: Records) -> Looked | None:
    met, seen = [], 0
    for table in records.tables.values():
        for column, values in _measured(table):
            seen += 1
            known = finite(values)
            if len(known) >= LONG_COLUMN and known.min() == known.max():
                met.append(f"{table.name}.{column} = {known[0]:g}")
    return _named("columns with one value throughout", met, seen)


def _undefined(records: Records) -> Looked | None:
    met, seen = [], 0
    for table in records.tables.values():
        for column, values in _measured(table):
            seen += 1
            if not np.isfinite(values).any():
                met.append(f"{table.name}.{column}")
    return _named("columns without a defined value", met, seen)


def _named(name: str, met: Sequence[str], seen: int) -> Looked | None:
    if not seen:
        return None
    words = ", ".join(met[:MOST_NAMED]) or f"none of {seen:,}"
    if len(met) > MOST_NAMED:
        words += f" and {len(met) - MOST_NAMED} more"
    return Looked(name=name, found=words, odd=bool(met))


def _measured(table: Table) -> list[tuple[str, np.ndarray]]:
    """Columns of numbers that are no count and no plan."""
    if table.rows < LONG_COLUMN:
        return []
    return [
        (name, cells) for name, cells in table.columns.items()
        if isinstance(cells, np.ndarray) and name not in PLANNED and not name.startswith("n_")
    ]  # fmt: skip


def _dead(records: Records) -> Looked | None:
    return _status(records, "dead features", "dead", most=0.5)


def _few(records: Records) -> Looked | None:
    return _status(records, "features with too few active tokens or documents", "few", most=0.8)


def _status(records: Records, name: str, word: str, *, most: float) -> Looked | None:
    """Features that were not scored for a reason, by site where they are most of it."""
    features = records.table("features")
    if features is None:
        return None
    why = np.array([word in status for status in features.text("status")])
    sites = np.array(features.text("site"))
    share = {str(site): float(why[sites == site].mean()) for site in dict.fromkeys(sites.tolist())}
    much = [site for site, part in share.items() if part > most]
    found = f"{int(why.sum()):,} of {features.rows:,}"
    if much:
        found += f"; more than {most:.0%} at {', '.join(much)}".replace("%", " %")
    return Looked(name=name, found=found, odd=bool(much))


def _seeds(records: Records) -> Looked | None:
    seeds = records.run.get("seeds") or []
    if not seeds:
        return None
    if len(seeds) == 1:
        found = "one seed: compare with a run of another seed"
    else:
        found = f"{len(seeds)} seeds: the study's figures set them side by side"
    return Looked(name="seeds that disagree", found=found, odd=None)


def _halves(records: Records) -> Looked | None:
    scored = _scored(records)
    if scored is None:
        return None
    again = finite(scored.number("replicated"))
    if not len(again):
        nothing = "nothing was beyond chance, so nothing to find again"
        return Looked(name=HALVES, found=nothing, odd=None)
    lost = int((again == 0).sum())
    return Looked(
        name=HALVES,
        found=f"{lost:,} of {len(again):,} discoveries not found in each half alone",
        odd=lost > len(again) / 2,
    )


def _scored(records: Records) -> Table | None:
    features = records.table("features")
    if features is None:
        return None
    scored = features.where(np.isfinite(features.number("efas")))
    return scored if scored.rows else None


CHECKS: Sequence[Callable[[Records], Looked | None]] = (
    _ties, _bound, _constant, _undefined, _few, _dead, _halves, _seeds,
)  # fmt: skip
