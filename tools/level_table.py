"""Simulate every inference that a table shows on data without an effect, and write its level.

    python -m tools.level_table [--sets 200] [--workers 2] [--only WORLD ...] [--page]

`make levels` runs it. What was measured is kept in docs/levels.json, the page docs/levels.md is
written from it, and `tests/controls/test_level_table.py` fails where the page differs, or where a
table has an inference that no world covers.
"""

import argparse
import json
import os
import re
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import torch
from tools.levels import (
    browse,
    effects,
    features,
    groups,
    image_effects,
    images,
    mechanisms,
    sizes,
    trainings,
)
from tools.levels.world import PLANTED_SETS, SETS, Claim, World, measure, verdict

DOCS = Path(__file__).parents[1] / "docs"
PAGE, KEPT, TABLES = DOCS / "levels.md", DOCS / "levels.json", DOCS / "run-directory.md"
WORLDS: dict[str, World] = {
    world.name: world
    for room in (features, effects, groups, images, image_effects, sizes, browse, trainings,
                 mechanisms)
    for world in room.WORLDS
}  # fmt: skip
# A name that is one of an inference, or a description that promises one.
_NAMED = re.compile(
    r"^[pq]$|^[pq]_|_[pq]$|^(beyond|replicated|verdict|discoveries|sinks?|attractors|repulsors)$|^rate_"
)
_PROMISED = re.compile(r"\b[pq]\w*`? ?[<≤]|beyond chance|[Ww]hether `|came out so|hold more of")
# Described beside one, and none themselves.
NO_INFERENCE = {
    "behaviour_classes.chance": "what `can` compares with",
    "controls.scored": "how many were tested",
    "controls.expected": "what `passed` is judged by, in words",
    "attractors.basins": "how many were found; those that hold more of the text are `sinks`",
    "attractors.alone": "how many starts are in none",
    "models.scored": "how many were tested",
}
HEAD = """\
# Levels

What is called significant at .05 where there is nothing must be so in one case of twenty. This page
shows how often each p, q and verdict of the tables fires on simulated data without an effect,
through the code that a run goes through. The data are otherwise like the real thing: documents as
clusters of correlated tokens, sparse features, heavy tails, few documents. `make levels` simulates
it anew ({sets} data sets a world, {took}); a test fails when a table shows an inference that is not
here.

**Share at .05, at .01**: of the tests with p at or below it; for *any*, of the data sets with any
such test. In brackets the 95 % interval with the data set as its unit
(`rates.clustered_rate_interval`). **Power**: the same at .05 of planted effects, over
{planted} data sets more; it only shows that a test can reject. **Verdict**, at .05: *holds* where
the interval has or touches the level, *conservative* where it lies below, *too liberal* where it
lies above. Verdicts with one nominal rate show it in front.

With {claims} rows, one or two intervals would lie above their level by chance alone.

"""


def shown_inferences() -> dict[str, set[str]]:
    """Columns that show an inference, by table, as docs/run-directory.md describes them."""
    found: dict[str, set[str]] = {}
    for section in re.split(r"^### ", TABLES.read_text(encoding="utf-8"), flags=re.M)[1:]:
        name = section.split("`")[1]
        rows = re.findall(r"^\| (`.*?) \|(.*)\|$", section, re.M)
        found[name] = {
            column for cell, says in rows for column in re.findall(r"`(\w+)`", cell)
            if _shows(column, says) and f"{name}.{column}" not in NO_INFERENCE
        }  # fmt: skip
    return {name: columns for name, columns in found.items() if columns}


def _shows(column: str, says: str) -> bool:
    ends = column.endswith(("_low", "_high")) or column in ("low", "high")
    return not ends and bool(_NAMED.search(column) or _PROMISED.search(says))


def covered() -> set[str]:
    """Every `table.column` that a world has a claim of."""
    return {
        column for world in WORLDS.values() for claim in world.claims for column in claim.columns
    }


# ---- the run


def run(names: list[str], *, sets: int, workers: int) -> None:
    """Measure worlds in processes of their own; keep each when it is done, and say so."""
    with ProcessPoolExecutor(workers, initializer=_alone) as pool:
        waiting = {pool.submit(_timed, name, sets): name for name in names}
        for number, done in enumerate(as_completed(waiting), start=1):
            name, measured = waiting[done], done.result()
            keep(name, measured)
            sys.stderr.write(f"{number}/{len(names)} {name}: {measured['seconds']:.0f} s\n")


def _alone() -> None:
    torch.set_num_threads(1)


def _timed(name: str, sets: int) -> dict[str, Any]:
    start = time.process_time()
    claims = measure(WORLDS[name], sets=sets)
    return {"claims": claims, "seconds": round(time.process_time() - start, 1)}


def keep(name: str, measured: Mapping[str, Any]) -> None:
    """Put what was measured beside what was kept."""
    there = {**kept(), name: measured}
    ordered = {name: there[name] for name in WORLDS if name in there}
    KEPT.write_text(json.dumps(ordered, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def kept() -> dict[str, Any]:
    """What was measured last, by world."""
    return json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.is_file() else {}


# ---- the page


def page(measured: Mapping[str, Any]) -> str:
    """The text of the page."""
    rows = [(world, claim, measured[world.name]["claims"][claim.name])
            for world in WORLDS.values() for claim in world.claims]  # fmt: skip
    minutes = sum(found["seconds"] for found in measured.values()) / 60
    text = HEAD.format(
        sets=SETS, planted=PLANTED_SETS, claims=len(rows),
        took=f"{minutes:.0f} minutes of processor time",
    )  # fmt: skip
    text += _odd(rows)
    for world in WORLDS.values():
        text += f"## {_capital(world.name)}\n\n{_capital(world.says)}.\n\n"
        text += (
            "| where | computed by | null hypothesis | tests | share at .05 | at .01 | power |"
            " verdict |\n|---|---|---|---|---|---|---|---|\n"
        )
        found = measured[world.name]["claims"]
        text += "".join(_row(claim, found[claim.name]) for claim in world.claims) + "\n"
        text += f"{world.note}\n\n" if world.note else ""
    return text.rstrip() + "\n"


def _odd(rows: list[tuple[World, Claim, Mapping[str, Any]]]) -> str:
    """Which are too liberal, and which never reject."""
    told = "## What does not hold\n\nWhy, where it is known, stands below the tables.\n\n"
    for world, claim, found in rows:
        at = [level for level in claim.levels if verdict(found, level) == "too liberal"]
        for level in at:
            told += (
                f"- **{_where(claim)}**, {world.name}: {_share(found, level)} at {_plain(level)}.\n"
            )
    never = [
        f"- **{_where(claim)}**, {world.name}: rejects {_short(found['power'])} of the planted"
        " effects.\n"
        for world, claim, found in rows if found["power"] is not None and found["power"] < 0.1
    ]  # fmt: skip
    return told + "".join(never) + "\n"


def _row(claim: Claim, found: Mapping[str, Any]) -> str:
    nominal = claim.levels[0]
    first = _share(found, nominal)
    if nominal != 0.05:
        first = f"nominal {_plain(nominal)}: {first}"
    second = _share(found, 0.01) if 0.01 in claim.levels else "–"
    undefined = f", {found['undefined']:,} undefined" if found["undefined"] else ""
    tests = f"{found['tests']:,} {'any' if claim.family else 'each'}{undefined}"
    power = "–" if found["power"] is None else _short(found["power"])
    cells = (_where(claim), claim.function, claim.null, tests, first, second, power,
             verdict(found, nominal))  # fmt: skip
    return f"| {' | '.join(cells)} |\n"


def _where(claim: Claim) -> str:
    return ", ".join(f"`{column}`" for column in claim.columns)


def _share(found: Mapping[str, Any], level: float) -> str:
    measured = found["levels"][f"{level:g}"]
    rate, low, high = (measured[name] for name in ("rate", "low", "high"))
    return "undefined" if rate is None else f"{_short(rate)} [{_short(low)}, {_short(high)}]"


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _plain(level: float) -> str:
    return f"{level:g}"[1:]


def _short(share: float) -> str:
    digits = 3 if share >= 0.001 or share == 0 else 4
    text = f"{share:.{digits}f}"
    return text if share >= 0.9995 else text[1:]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", type=int, default=SETS)
    parser.add_argument("--workers", type=int, default=min(4, os.cpu_count() or 1))
    parser.add_argument("--only", nargs="+", choices=WORLDS, default=list(WORLDS))
    parser.add_argument("--page", action="store_true", help="write the page from what was kept")
    given = parser.parse_args()
    if not given.page:
        run(given.only, sets=given.sets, workers=given.workers)
    missing = sorted(set(WORLDS) - set(kept()))
    if missing:
        sys.exit(f"no page yet: {', '.join(missing)} were not simulated: run without --only")
    PAGE.write_text(page(kept()), encoding="utf-8")
