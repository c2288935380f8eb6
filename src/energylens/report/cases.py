"""Case studies: what is on record about the features with the surest alignment, in sentences."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from energylens.report.feature_table import by_strength, names, peak_tokens
from energylens.report.records import Records, Table
from energylens.results.format import interval, number, p_value, percent

CASES = 5
LEVEL = 0.05
TOKENS = 4
VERBS = {"ablate": "ablated", "double": "doubled", "clamp": "clamped"}


@dataclass(frozen=True, kw_only=True)
class Case:
    """One feature in words."""

    name: str
    token: str
    sentences: Sequence[str]


def cases(records: Records) -> list[Case]:
    """The surest features that have a page, each told from its records; none without features."""
    features, featured = records.table("features"), records.table("featured")
    if features is None or featured is None:
        return []
    shown = set(zip(featured.text("site"), featured.number("feature"), strict=True))
    peaks = peak_tokens(records.table("contexts"))
    found = []
    for row in range(min(features.rows, 20 * CASES)):
        one = by_strength(features).where([row])
        key = (one.text("site")[0], float(one.number("feature")[0]))
        if key not in shown or not np.isfinite(one.number("efas")[0]):
            continue
        page = _of(featured, *key)
        found.append(Case(
            name=names(one)[0], token=peaks.get((key[0], int(key[1])), ""),
            sentences=[*_alignment(one), *_place(one, page, records, key), *_effects(page),
                       *_shift(page), *_behaviour(records, key)],
        ))  # fmt: skip
        if len(found) == CASES:
            break
    return found


def _of(table: Table, site: str, feature: float) -> Table:
    here = table.equal("site", site)
    return here.where(np.flatnonzero(here.number("feature") == feature))


def _value(table: Table, name: str, row: int = 0) -> float:
    return float(table.number(name)[row]) if name in table.columns else float("nan")


def _alignment(one: Table) -> Iterator[str]:
    efas = interval(*(_value(one, name) for name in ("efas", "low", "high")), signed=True)
    verdict = one.text("verdict")[0]
    beyond = f"an {verdict}" if verdict == "attractor" else f"a {verdict}"
    told = "within chance" if verdict == "within chance" else beyond
    yield f"EFAS {efas}: {told} (family-wise p {p_value(_value(one, 'p_max_t'))})."


def _place(one: Table, page: Table, records: Records, key: tuple[str, float]) -> Iterator[str]:
    density, documents = percent(_value(one, "density")), int(_value(one, "n_documents"))
    text = f"Active on {density} of the tokens, in {documents:,} documents"
    kinds = records.table("feature_classes")
    if kinds is not None:
        mine = _of(kinds, *key)
        clear = [r for r in range(mine.rows)
                 if _value(mine, "q", r) <= LEVEL and _value(mine, "ratio", r) > 1]  # fmt: skip
        if clear:
            best = max(clear, key=lambda r: _value(mine, "ratio", r))
            times = number(_value(mine, "ratio", best), digits=2)
            text += f", {times} times as often on {mine.text('class')[best]} as elsewhere"
    yield text + "."
    raised, lowered = (", ".join(f"“{token}”" for token in page.lists(f"{way}_tokens")[0][:TOKENS])
                       for way in ("raised", "lowered"))  # fmt: skip
    yield f"Its direction raises {raised} and lowers {lowered}."


def _effects(page: Table) -> Iterator[str]:
    measured = _value(page, "ablation_measured")
    if not np.isfinite(measured):
        return
    told = interval(measured, _value(page, "ablation_low"), _value(page, "ablation_high"),
                    signed=True)  # fmt: skip
    windows = int(_value(page, "ablation_contexts"))
    predicted = number(_value(page, "ablation_predicted"), signed=True)
    text = (
        f"Ablating it changed the loss of {windows} windows by {told} nats on average,"
        f" predicted {predicted}"
    )
    random = _value(page, "ablation_random")
    if np.isfinite(random):
        text += f"; a random step of its size, {number(random, signed=True)}"
    yield text + "."


def _shift(page: Table) -> Iterator[str]:
    if not _value(page, "shift_states") > 0:
        return
    own, random = (
        percent(_value(page, f"shift_{name}")) for name in ("switched", "switched_random")
    )
    yield (
        f"Without it {own} of {int(_value(page, 'shift_states'))} descents end at another token;"
        f" after a random step, {random}."
    )


def _behaviour(records: Records, key: tuple[str, float]) -> Iterator[str]:
    """The change of behaviour that is furthest beyond matched features, if any is."""
    effects = records.table("behaviour")
    if effects is None:
        return
    mine = _of(effects.equal("role", "top"), *key)
    if not mine.rows:
        return
    clear = [row for row in range(mine.rows) if _value(mine, "q", row) <= LEVEL]
    if not clear:
        yield "In the behaviour tasks it does nothing that features like it do not."
        return
    best = min(clear, key=lambda row: _value(mine, "q", row))
    change = interval(*(_value(mine, f"difference{end}", best) for end in ("", "_low", "_high")),
                      signed=True)  # fmt: skip
    yield (
        f"{VERBS[mine.text('intervention')[best]].capitalize()}, it changes the preference in"
        f" {mine.text('task')[best].replace('_', ' ')} by {change} nats more than features like it"
        f" (q {p_value(_value(mine, 'q', best))}; {len(clear)} of {mine.rows} such changes have"
        " q below .05)."
    )
