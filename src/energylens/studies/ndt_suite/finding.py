"""What the suite says in words and figures, computed from its tables."""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import torch

from energylens.results.format import several
from energylens.results.record import Control, Estimate, Summary
from energylens.stats.rates import wilson_interval
from energylens.studies.ndt_suite import NdtSuite
from energylens.studies.ndt_suite.grid import GRID, steps_of

Row = Mapping[str, Any]
SUPPORTED, CONTRADICTED = "supported", "contradicted"
TOLD = 3  # statements that the finding names
CARDS = 4


def summarise(options: NdtSuite, tables: Mapping[str, pa.Table]) -> Summary:
    """Figures, the control, and the finding sentence."""
    runs, hypotheses = tables["runs"].to_pylist(), tables["hypotheses"].to_pylist()
    effects = dict(_effects(hypotheses))
    learned = [row for row in runs if row["accuracy_low"] > row["chance_accuracy"]]
    return Summary(
        study="ndt-suite",
        subject=_subject(runs),
        finding=_finding(runs, hypotheses),
        detail=_detail(runs, tables),
        grade="real" if len(runs) >= _cells() and steps_of(options) >= 1_000 else "quick",
        figures=effects | dict(_learned(runs)),
        controls={"learned": Control(
            label="Learned", value=len(learned), expected=len(runs),
            passed=len(learned) == len(runs),
            sentence=f"{len(learned)} of {len(runs)} networks are right more often, interval and"
            " all, than who always says the commonest class.",
        )},
        cards=_cards(effects, hypotheses),
        limits=(
            "Networks were not dealt out to data sets by lot: what families differ in may be what"
            " their data differ in.",
            "Dimensions are of a fixed probe of held-out examples, and no larger than its rows"
            " allow.",
            *(("One seed: what another split or other first weights would give is not in here.",)
              if len(options.seeds) == 1 else ()),
        ),
        suspicious=tuple(_suspicious(runs, learned, tables)),
    )  # fmt: skip


def _cells() -> int:
    return sum(len(architectures) for architectures in GRID.values())


def _subject(runs: Sequence[Row]) -> str:
    families = Counter(row["family"] for row in runs)
    counted = ", ".join(f"{families[name]} {name}" for name in sorted(families))
    return f"{len(runs)} trainings ({counted}) on {len({row['dataset'] for row in runs})} data sets"


def _finding(runs: Sequence[Row], hypotheses: Sequence[Row]) -> str:
    """How many statements hold, those with the least q, and those of which the opposite holds."""
    held = [row for row in hypotheses if row["verdict"] == SUPPORTED]
    text = (
        f"{len(held)} of {several(len(hypotheses), 'statement')} about"
        f" {several(len(runs), 'training')} {'holds' if len(held) == 1 else 'hold'} beyond"
        f" {'its null' if len(held) == 1 else 'their nulls'} (q ≤ .05)"
    )
    claims = _claims(held)
    if claims:
        text += f"{', first' if len(claims) > TOLD else ''}: {'; '.join(claims[:TOLD])}"
    against = _claims([row for row in hypotheses if row["verdict"] == CONTRADICTED])
    return f"{text}." + (f" Contradicted: {'; '.join(against[:TOLD])}." if against else "")


def _claims(rows: Sequence[Row]) -> list[str]:
    """What is claimed, whatever the measure, the least q first."""
    ordered = sorted(rows, key=lambda row: float(row["q"]))
    return list(dict.fromkeys(str(row["hypothesis"]) for row in ordered))


def _claim(row: Row) -> str:
    """The hypothesis, and of which measure it is asked."""
    measure = str(row.get("measure") or "").replace("_", " ")
    return row["hypothesis"] + (f", {measure}" if measure else "")


def _detail(runs: Sequence[Row], tables: Mapping[str, pa.Table]) -> str:
    """How much was looked at, and how many events there were."""
    jumps, settled = tables["jumps"].to_pylist(), tables["settling"].to_pylist()
    series = len({(row["run"], row["site"], row["measure"]) for row in settled})
    moved = len({(row["run"], row["site"], row["measure"]) for row in jumps})
    never = sum(row["censored"] for row in settled)
    return (
        f"{len(jumps):,} jumps in {moved:,} of {series:,} series of {runs[0]['num_steps']:,} steps;"
        f" {never:,} series had not settled when the training ended."
    )


def _effects(hypotheses: Sequence[Row]) -> Iterator[tuple[str, Estimate]]:
    seen: Counter[str] = Counter()
    for row in hypotheses:
        name = ".".join(_slug(part) for part in (row["quantity"], row.get("measure")) if part)
        seen[name] += 1
        key = f"{name}.{seen[name]}" if seen[name] > 1 else name
        yield key, Estimate(
            row["effect"], row["unit"], low=row["low"], high=row["high"],
            null_mean=row["null_mean"], null_sd=row["null_sd"], p=row["p"], q=row["q"],
            n=int(row["n"]), n_unit=row["n_unit"], label=_claim(row),
            undefined=int(not math.isfinite(row["effect"])), note=row["question"],
        )  # fmt: skip


def _slug(words: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", words.lower()).strip("_")


def _cards(effects: Mapping[str, Estimate], hypotheses: Sequence[Row]) -> tuple[str, ...]:
    """The first answer to each question, as far as it is defined."""
    first: dict[str, str] = {}
    for key, row in zip(effects, hypotheses, strict=True):
        if math.isfinite(row["effect"]):
            first.setdefault(row["question"], key)
    return tuple(first.values())[:CARDS]


def _learned(runs: Sequence[Row]) -> Iterator[tuple[str, Estimate]]:
    for family in sorted({row["family"] for row in runs}):
        mine = [row for row in runs if row["family"] == family]
        right = sum(row["accuracy_low"] > row["chance_accuracy"] for row in mine)
        share = wilson_interval(torch.tensor(right), torch.tensor(len(mine)))
        yield f"learned.{family}", Estimate(
            float(share.estimate), "share of trainings", low=float(share.low),
            high=float(share.high), null_mean=0.025, n=len(mine), n_unit="trainings",
            label=f"Trainings that learned, {family}",
            note="accuracy above the commonest class, interval and all; null: 2.5 % by chance",
        )  # fmt: skip


def _suspicious(
    runs: Sequence[Row], learned: Sequence[Row], tables: Mapping[str, pa.Table]
) -> Iterator[str]:
    if failed := [row["run"] for row in runs if row not in learned]:
        shown = ", ".join(failed[:5]) + (" and more" if len(failed) > 5 else "")
        yield f"{len(failed)} of {len(runs)} networks did not learn: {shown}."
    looks = tables["measurements"]
    undefined = sum(not math.isfinite(value) for value in looks["stable_rank"].to_pylist())
    if undefined:
        yield (
            f"{undefined:,} of {len(looks):,} looks at a site are undefined: all its activations"
            " were alike, or not finite."
        )
