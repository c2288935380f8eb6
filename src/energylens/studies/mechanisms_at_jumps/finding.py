"""What a run says in words and figures, computed from its rows."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from energylens.results.format import interval, number, p_value, percent
from energylens.results.record import Control, Estimate, Summary
from energylens.studies.mechanisms_at_jumps import MechanismsAtJumps
from energylens.studies.mechanisms_at_jumps.contrasts import (
    ALL,
    CHOSEN_BY,
    DIRECTION,
    FEW,
    LESS,
    MORE,
    PLACEBO,
    SIZE,
)
from energylens.studies.mechanisms_at_jumps.moments import FAST, JUMP

Row = Mapping[str, Any]
Tables = Mapping[str, Sequence[Row]]
PLANTED, PLANTED_IN = "planted", "relative_weight_change"
SPECIALISED = "head_divergence"
WORDS = {JUMP: "jumps", FAST: "the moments at which dimensions move fastest"}


def summarise(options: MechanismsAtJumps, tables: Tables) -> Summary:
    """Figures, controls and the finding sentence."""
    contrasts = [row for row in tables["mechanism_contrasts"] if row["measure"] != CHOSEN_BY]
    figures = dict(_figures(options, tables, contrasts))
    return Summary(
        study="mechanisms-at-jumps",
        subject=f"{options.dataset} · {', '.join(options.architectures)}",
        finding=" ".join(_finding(kind, contrasts) for kind in (JUMP, FAST)),
        detail=_heads(contrasts),
        grade="real" if options.steps >= 1_000 else "quick",
        figures=figures,
        controls=_controls(tables),
        cards=tuple(name for name in figures if math.isfinite(figures[name].value))[:4],
        limits=_limits(options),
        suspicious=tuple(_suspicious(tables)),
    )  # fmt: skip


def _figures(
    options: MechanismsAtJumps, tables: Tables, contrasts: Sequence[Row]
) -> Iterator[tuple[str, Estimate]]:
    for run in options.architectures:
        jumps = [row for row in tables["jumps"] if row["run"] == run]
        yield f"jumps.{run}", Estimate(
            len(jumps), "jumps", label=f"Jumps of {run}", n=1, n_unit="trainings",
            note="of all sites and both dimensions; null: in the p of each",
        )  # fmt: skip
    named = {(row["run"], row["event_kind"], row["measure"], row["about"]): row
             for row in contrasts}  # fmt: skip
    for (run, kind, measure, about), row in named.items():
        if kind not in WORDS or row["verdict"] == FEW or about != SIZE:
            continue
        yield f"superiority.{measure}.{kind}_{run}", Estimate(
            row["superiority"], "share of pairs", low=row["superiority_low"],
            high=row["superiority_high"], null_mean=0.5, p=row["p"], n=row["events"],
            n_unit="events of " + ("all trainings" if run == ALL else "one training"),
            undefined=int(not math.isfinite(row["superiority"])),
            label=f"{_plain(measure)} changes more at {WORDS[kind]} ({run})",
            note="an event beside one of its quiet windows; p: of this measure alone",
        )  # fmt: skip


def _finding(kind: str, contrasts: Sequence[Row]) -> str:
    """One sentence on a kind of event, by the widest comparison that there is."""
    mine = [row for row in contrasts if row["event_kind"] == kind]
    told = [row for row in mine if row["verdict"] != FEW]
    where = WORDS[kind]
    if not told:
        most = max((row["events"] for row in mine), default=0)
        return (
            f"At {where} nothing can be said: of {most} with quiet windows beside them no test can"
            " tell more from chance."
        )
    together = [row for row in told if row["run"] == ALL]
    rows = together or told
    runs = "over all networks" if together else "in " + _listed(dict.fromkeys(
        row["run"] for row in told))  # fmt: skip
    events = max(row["events"] for row in rows)
    more = sorted((row for row in rows if row["verdict"] in (MORE, LESS)),
                  key=lambda row: row["p_adjusted"])  # fmt: skip
    tested = len({(row["measure"], row["about"]) for row in rows})
    if not more:
        least = min((row["p_adjusted"] for row in rows if math.isfinite(row["p_adjusted"])),
                    default=math.nan)  # fmt: skip
        return (
            f"At {where} nothing changes beyond quiet controls {runs}: {events} events, {tested}"
            f" questions, least family-wise p {p_value(least)}."
        )
    best = more[0]
    share = interval(best["superiority"], best["superiority_low"], best["superiority_high"])
    names = _listed(dict.fromkeys(_question(row) for row in more[:4]))
    rest = f" and {len(more) - 4} more" if len(more) > 4 else ""
    return (
        f"At {where} {len(more)} of {tested} questions differ from quiet controls {runs}: {names}"
        f"{rest}; the surest, {_question(best)}, is larger at an event in {share} of pairs (chance"
        f" .5; {events} events, family-wise p {p_value(best['p_adjusted'])})."
    )


def _heads(contrasts: Sequence[Row]) -> str:
    """Did heads specialise? Of each training that has heads."""
    told = []
    for row in contrasts:
        mine = (row["measure"], row["about"]) == (SPECIALISED, DIRECTION)
        if not mine or row["event_kind"] not in WORDS or row["run"] == ALL:
            continue
        if row["verdict"] == FEW:
            told.append(f"at {WORDS[row['event_kind']]} there are too few events")
            continue
        change = interval(row["difference"], row["difference_low"], row["difference_high"],
                          signed=True)  # fmt: skip
        told.append(
            f"at {WORDS[row['event_kind']]} their divergence changes by {change} nats more than in"
            f" quiet windows ({row['verdict']}, family-wise p {p_value(row['p_adjusted'])})"
        )
    return (
        f"Did the heads of the transformer specialise? {_capital('; '.join(told))}." if told else ""
    )


def _controls(tables: Tables) -> dict[str, Control]:
    contrasts = tables["mechanism_contrasts"]
    placebo = [row for row in contrasts
               if row["event_kind"] == PLACEBO and math.isfinite(row["p_adjusted"])]  # fmt: skip
    families = len({row["run"] for row in placebo})
    least = min((row["p_adjusted"] for row in placebo), default=math.nan)
    allowed = 0.01 / max(1, families)
    found = [row for row in contrasts if (row["event_kind"], row["measure"], row["about"])
             == (PLANTED, PLANTED_IN, SIZE)]  # fmt: skip
    p, events = (found[0]["p_adjusted"], found[0]["events"]) if found else (math.nan, 0)
    return {
        "planted": Control(
            label="Planted events", value=p, expected="family-wise p ≤ .05", passed=p <= 0.05,
            sentence=f"Pushes of all weights at {events} known steps are found as weight change"
            f" beyond quiet windows (family-wise p {p_value(p)}).",
        ),
        "quiet_as_events": Control(
            label="Quiet windows as events", value=least, expected=f"above {number(allowed)}",
            passed=not least < allowed,
            sentence="With a quiet window in the place of each event the least family-wise p of"
            f" {families} families: p {p_value(least)}.",
        ),
    }  # fmt: skip


def _limits(options: MechanismsAtJumps) -> tuple[str, ...]:
    return (
        "The unit is the window within its training: what is found holds for these trainings, of"
        f" seed {options.seed}, and not for networks in general.",
        "A fast moment is the fastest of many and need be nothing but chance; a jump is beyond"
        " noise and a smooth course.",
        "Events were found in dimensions of the same activations, so that representations change"
        " there is nearly the same fact; of heads, filters and neurons it is not.",
    )


def _suspicious(tables: Tables) -> Iterator[str]:
    lonely = [row for row in tables["mechanism_contrasts"]
              if row["event_kind"] in WORDS and row["about"] == SIZE
              and row["run"] != ALL and row["verdict"] != FEW]  # fmt: skip
    spans = {row["run"]: row["num_steps"] for row in tables["runs"]}
    far = {row["run"]: row["apart"] / spans[row["run"]] for row in lonely}
    if wide := {run: share for run, share in far.items() if share > 0.15}:
        told = " and ".join(f"{percent(share)} of the training in {run}"
                            for run, share in wide.items())  # fmt: skip
        yield f"Quiet windows lie far from their events, on average {told}: changes die down."
    undefined = sum(not math.isfinite(row["change"]) for row in tables["mechanism_changes"])
    if undefined:
        yield f"{undefined:,} of {len(tables['mechanism_changes']):,} changes are undefined."
    unlearned = [row["run"] for row in tables["runs"]
                 if row["final_accuracy"] < 2 * row["chance_accuracy"]]  # fmt: skip
    if unlearned:
        yield f"{_listed(unlearned)} hardly learned anything."


def _question(row: Row) -> str:
    what = _plain(row["measure"])
    return f"size of the change of {what}" if row["about"] == SIZE else f"direction of {what}"


def _plain(measure: str) -> str:
    return measure.replace("_", " ")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _listed(names: Any) -> str:
    *most, last = [str(name) for name in names]
    return f"{', '.join(most)} and {last}" if most else last
