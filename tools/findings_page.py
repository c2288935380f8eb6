"""Write the page of findings from the summaries of runs: python tools/findings_page.py RUN...

Every number on the page is read from `summary.json`; a run of another study than energy-lens is
shown by its finding alone.
"""

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from energylens.results.format import interval, number
from energylens.results.plain import decode
from energylens.results.record import Estimate, Summary

PAGE = Path(__file__).parents[1] / "docs" / "findings.md"
FEATURES = (
    ("features_beyond_chance.downstream", "features beyond chance, downstream"),
    ("features_beyond_chance.tuned", "beyond chance, tuned lens"),
    ("features_beyond_chance.random_weights", "beyond chance, random weights"),
    ("features_beyond_chance.permuted_decoder", "beyond chance, permuted decoders"),
    ("features_covarying.downstream", "covarying with the force at all"),
    ("features_covarying.permuted_decoder", "covarying, permuted decoders"),
    ("features_covarying.random_weights", "covarying, random weights"),
    ("rate_at_05.downstream", "p < .05 one by one"),
    ("rate_at_05.permuted_decoder", "p < .05, permuted decoders"),
    ("rate_at_05.random_weights", "p < .05, random weights"),
    ("efas_max.downstream", "largest \\|EFAS\\|"),
    ("calibration_correlation", "predicted against measured ablation"),
    ("calibration_rank_correlation", "predicted against measured, ranks"),
    ("behaviour_contrast.ablate", "ablating top features, in effects of matched ones"),
    ("behaviour_contrast.double", "doubling top features, likewise"),
    ("attractors_converged", "descents that converged"),
    ("attractor_sinks", "basins that take more than chance"),
)
HEAD = """# Findings

What runs of Energylens have found so far, the nothing included. This page is written by
`tools/findings_page.py` from the `summary.json` of each run; the commands stand above the tables.
In brackets the 95 % interval, after ± the spread of the null around the mean before it.
"""


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run as its records tell it."""

    summary: Summary
    record: dict[str, object]


def main(folders: Sequence[str]) -> None:
    runs = [_read(Path(folder)) for folder in folders]
    lens = [run for run in runs if run.summary.study == "energy-lens"]
    parts = [HEAD, *map(_about, runs)]
    if lens:
        parts += [
            "## Features and forces\n", _table(lens, FEATURES),
            "## Which score foretells an ablation?\n\nSpearman correlation of each score with the"
            " measured effect; [how](contest.md).\n",
            _table(lens, _named(lens, "contest_spearman")),
            "## What the models can do\n\nShare of items right; the null is what answers to other"
            " items' questions get right; [how](behaviour.md).\n",
            _table(lens, _named(lens, "behaviour_accuracy")),
        ]  # fmt: skip
    PAGE.write_text("\n".join(parts), encoding="utf-8")


def _read(folder: Path) -> Run:
    summary = Summary.from_json((folder / "summary.json").read_bytes(), str(folder))
    return Run(summary=summary, record=decode((folder / "run.json").read_bytes(), str(folder)))


def _about(run: Run) -> str:
    told = [run.summary.finding, run.summary.detail]
    minutes = float(str(run.record["seconds"])) / 60
    command = re.sub(r" --out \S+", "", str(run.record["command"]))  # a folder of this machine
    return (
        f"## {run.summary.subject}\n\n`{command}` ({minutes:.1f} minutes):"
        f" {' '.join(filter(None, told))}\n"
    )


def _named(runs: Sequence[Run], prefix: str) -> list[tuple[str, str]]:
    """Figures of one kind, by the mean of their values in the runs."""
    names = dict.fromkeys(n for run in runs for n in run.summary.figures if n.startswith(prefix))

    def mean(name: str) -> float:
        values = [r.summary.figures[name].value for r in runs if name in r.summary.figures]
        return sum(values) / len(values)

    return [(name, name.split(".")[1].replace("_", " ")) for name in sorted(names, key=mean)[::-1]]


def _table(runs: Sequence[Run], names: Sequence[tuple[str, str]]) -> str:
    subjects = [run.summary.subject.split(" · ")[0] for run in runs]
    rows = [
        f"| {label} | " + " | ".join(_cell(run.summary.figures.get(name)) for run in runs) + " |"
        for name, label in names
    ]
    head = f"| | {' | '.join(subjects)} |\n|---|{'---|' * len(runs)}\n"
    return head + "\n".join(rows) + "\n"


def _cell(found: Estimate | None) -> str:
    return "–" if found is None else ", null ".join(_said(found))


def _said(found: Estimate) -> Iterator[str]:
    if found.unit.startswith("of "):
        yield f"{found.value:,.0f} {found.unit.removesuffix(' scored features')}"
        return
    yield interval(found.value, found.low, found.high)
    if found.null_mean == found.null_mean:
        yield f"{number(found.null_mean, digits=2)}" + (
            f" ± {number(found.null_sd, digits=2)}" if found.null_sd else ""
        )


if __name__ == "__main__":
    main(sys.argv[1:])
