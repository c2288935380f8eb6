"""What was recovered of what was planted, in words and figures, from the tables."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from energylens.results.format import interval, number, percent
from energylens.results.record import Control, Estimate, Summary
from energylens.studies.planted_energies import PlantedEnergies
from energylens.studies.planted_energies.forces import (
    DISTRACTOR,
    OTHER,
    OWN,
    PERMUTED,
    PLANTED,
    PULLED,
)
from energylens.studies.planted_energies.recovery import SAME

Row = dict[str, Any]
Tables = Mapping[str, Sequence[Row]]
# How nearly the direction of a network's own update has to be that of the negative gradient, and
# how much an energy may seem to rise by rounding, in parts of its size.
DIRECTION, ROUNDING = 1e-6, 1e-12
LEVEL = 0.05


def summarise(options: PlantedEnergies, tables: Tables) -> Summary:
    """Figures, controls and the finding sentence."""
    minima, recovery = tables["planted_minima"], tables["planted_recovery"]
    features = tables["planted_features"]
    noise = sorted(options.noises)[len(options.noises) // 2]
    sharp = [row for row in recovery if _sharpest(row, recovery)]
    figures = {
        **_recovered(sharp, noise), **_directions(minima), **_complete(minima),
        **_efas(features),
    }  # fmt: skip
    return Summary(
        study="planted-energies",
        subject=f"{options.networks} networks a setting: modern Hopfield networks, energy"
        " transformers",
        finding=_finding(figures, sharp, noise),
        detail=_detail(minima, features),
        grade="control",
        figures=figures,
        controls=_controls(minima, recovery, features),
        cards=_cards(figures),
        limits=_limits(options),
        suspicious=tuple(_suspicious(minima)),
    )


def _sharpest(row: Row, rows: Sequence[Row]) -> bool:
    """Whether a row is of the setting that plants most distinctly: the largest beta, the weakest
    attention, and most patterns."""
    alike = [other for other in rows if other["subject"] == row["subject"]]
    settings = [other["setting"] for other in alike]
    best = max(settings) if row["dial"] == "beta" else min(settings)
    return row["setting"] == best and row["size"] == max(other["size"] for other in alike)


def figure_name(quantity: str, row: Row) -> str:
    """As in `recovered.digits.beta_64`."""
    setting = f"{row['setting']:g}".replace(".", "_").replace("-", "m").replace("+", "")
    return f"{quantity}.{row['subject'].replace(' ', '_')}.{row['dial']}_{setting}"


def _recovered(sharp: Sequence[Row], noise: float) -> dict[str, Estimate]:
    return {
        figure_name("recovered", row): Estimate(
            row["recovered"], "share of starts", low=row["recovered_low"],
            high=row["recovered_high"], null_mean=row["recovered_random"],
            null_sd=(row["recovered_random_high"] - row["recovered_random_low"]) / (2 * 1.96),
            n=row["n_networks"], n_unit="networks",
            label=f"Back at what was planted: {row['subject']}",
            note=f"{row['dial']} {row['setting']:g}, noise {row['noise']:g}; null: random states"
            " alike, and the interval of their mean",
        )
        for row in sharp if row["noise"] == noise
    }  # fmt: skip


def _directions(minima: Sequence[Row]) -> dict[str, Estimate]:
    """The worst state of all networks of each subject beside the moves of other networks."""
    figures = {}
    for subject in dict.fromkeys(row["subject"] for row in minima):
        rows = [row for row in minima if row["subject"] == subject]
        others = [row["cosine_other"] for row in rows]
        figures[f"cosine.{subject.replace(' ', '_')}"] = Estimate(
            min(row["cosine"] for row in rows), "cosine", null_mean=math.fsum(others) / len(others),
            null_sd=(max(others) - min(others)) / (2 * 1.96),
            n=sum(row["n_networks"] for row in rows), n_unit="networks",
            label=f"−∇E and the network's own update: {subject}",
            note="the worst state of all; null: the updates of other networks, over all settings",
        )  # fmt: skip
    return figures


def _complete(minima: Sequence[Row]) -> dict[str, Estimate]:
    return {
        figure_name("complete", row): Estimate(
            row["complete"], "networks", null_mean=0.0, null_sd=0.0, low=_count(row, "low"),
            high=_count(row, "high"), n=row["n_networks"], n_unit="networks",
            label=f"Every planted minimum found: {row['subject']}, {row['size']} planted,"
            f" {row['dial']} {row['setting']:g}",
            note="null: another network's minima, of which none is found",
        )
        for row in minima if row["size"] == max(
            other["size"] for other in minima if other["subject"] == row["subject"])
    }  # fmt: skip


def _count(row: Row, end: str) -> float:
    return row[f"complete_{end}"] * row["n_networks"]


def _efas(features: Sequence[Row]) -> dict[str, Estimate]:
    """Shares of features beyond both nulls, beside the same features with rows dealt out."""
    figures = {}
    permuted = {(row["subject"], row["setting"], row["kind"]): row
                for row in features if row["analysis"] == PERMUTED}  # fmt: skip
    for row in features:
        if row["analysis"] != OWN:
            continue
        verdict = "repulsors" if row["kind"] == PULLED else "attractors"
        null = permuted[row["subject"], row["setting"], row["kind"]]
        figures[figure_name(f"efas_{row['kind'].replace(' ', '_')}", row)] = Estimate(
            row[f"{verdict}_both"], "share of features", low=row[f"{verdict}_both_low"],
            high=row[f"{verdict}_both_high"], null_mean=null[f"{verdict}_both"],
            null_sd=(null[f"{verdict}_both_high"] - null[f"{verdict}_both_low"]) / (2 * 1.96),
            n=row["n_networks"], n_unit="networks", undefined=row["undefined"],
            label=f"EFAS: {row['kind']} features found as {verdict} ({row['subject']})",
            note=f"{row['dial']} {row['setting']:g}; beyond both nulls; null: rows dealt out",
        )  # fmt: skip
    return figures


def _cards(figures: Mapping[str, Estimate]) -> tuple[str, ...]:
    recovered = [name for name in figures if name.startswith("recovered.")]
    direction = min((name for name in figures if name.startswith("cosine.")),
                    key=lambda name: figures[name].value)  # fmt: skip
    sharpest = [
        [name for name in figures if name.startswith(f"efas_{kind}.random_patterns.")][-1:]
        for kind in ("planted", "distractor")
    ]
    wanted = ("random_patterns", "digits", "energy_transformer")
    return (*(name for name in recovered if name.split(".")[1] in wanted), direction,
            *(name for some in sharpest for name in some))  # fmt: skip


def _finding(figures: Mapping[str, Estimate], sharp: Sequence[Row], noise: float) -> str:
    rows = [row for row in sharp if row["noise"] == noise]
    least = min(rows, key=lambda row: row["recovered"])
    worst = 1 - min(f.value for name, f in figures.items() if name.startswith("cosine."))
    chance = max(row["recovered_random"] for row in rows)
    loud = "as large as" if noise == 1 else f"of {number(noise)} times"
    direction = (
        f"Their own updates point down the gradient (1 − cosine at most {_bound(worst)})."
        if worst <= DIRECTION
        else f"Their own updates depart from the gradient (1 − cosine up to {number(worst)})."
    )
    return (
        f"With noise {loud} what was planted, {_share(least, 'recovered')} of the starts or more"
        f" descend to the planted minimum itself, in each of {len(rows)} kinds of networks (random"
        f" states alike: at most {percent(chance)}). {direction}"
    )


def _share(row: Row, name: str) -> str:
    """A share with its interval in percent."""
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    if high <= low:
        return percent(row[name])
    return f"{percent(row[name])} [{percent(low)}, {percent(high)}]"


def _bound(size: float) -> str:
    """A power of ten that bounds a size."""
    if size <= 0:
        return "10⁻¹⁶"
    exponent = math.ceil(math.log10(size))
    return number(10.0**exponent, digits=1).removeprefix("1 × ")


def _detail(minima: Sequence[Row], features: Sequence[Row]) -> str:
    """Where nothing is planted that could be found, and what EFAS makes of known forces."""
    text = ""
    own = {
        beta: _own_share([row for row in minima
                          if row["dial"] == "beta" and row["setting"] == beta])
        for beta in sorted({row["setting"] for row in minima if row["dial"] == "beta"})
    }  # fmt: skip
    if blunt := [beta for beta, share in own.items() if share < 0.5]:
        told = " and ".join(f"{percent(own[beta])} at beta {beta:g}" for beta in blunt)
        text = (
            f"Of the patterns {told} have a minimum of their own; the rest share one, and descent"
            " ends there, as the network does. "
        )
    planted = [_efas_told(row) for row in features
            if row["analysis"] == OWN and row["kind"] == PLANTED
            and _sharpest(row, [r for r in features if r["analysis"] == OWN])]  # fmt: skip
    wrong = [row for row in features if row["analysis"] == OWN and row["kind"] == DISTRACTOR]
    families, of = sum(row["any_both"] for row in wrong), sum(row["n_networks"] for row in wrong)
    return (
        f"{text}EFAS finds as attractors, beyond both nulls, of planted features:"
        f" {'; '.join(planted)}."
        f" A distractor is found in {families} of {of} networks."
    )


def _own_share(rows: Sequence[Row]) -> float:
    """Share of planted patterns that have a minimum to themselves."""
    return sum(row["own_minima"] for row in rows) / sum(row["planted"] for row in rows)


def _efas_told(row: Row) -> str:
    return (
        f"{percent(row['attractors_both'])} in {row['subject']} (flipped signs alone"
        f" {percent(row['attractors_signs'])})"
    )


def _controls(
    minima: Sequence[Row], recovery: Sequence[Row], features: Sequence[Row]
) -> dict[str, Control]:
    worst = 1 - min(row["cosine"] for row in minima)
    rise = max(row["rise"] for row in minima)
    other = max(row["recovered_other"] for row in recovery)
    first = min(row["noise"] for row in recovery)
    sharp = [row for row in recovery if row["noise"] == first and _sharpest(row, recovery)]
    overlapping = [row["subject"] for row in sharp
                   if not row["recovered_low"] > row["recovered_random_high"]]  # fmt: skip
    return {
        "direction": Control(
            label="Own direction", value=worst, expected=f"at most {number(DIRECTION)}",
            passed=worst <= DIRECTION,
            sentence=f"1 − cosine of the negative gradient with the network's own update is at most"
            f" {number(worst, digits=2)}.",
        ),
        "energy_never_rises": Control(
            label="Own updates lower the energy", value=rise,
            expected=f"at most {number(ROUNDING)} (rounding)", passed=rise <= ROUNDING,
            sentence=f"The largest rise in one of a network's own updates is"
            f" {number(rise, digits=2)} of the energy.",
        ),
        "another_network": Control(
            label="Patterns of another network", value=other, expected=0.0, passed=other == 0.0,
            sentence=f"Of the same ends at most {percent(other)} lie at fixed points of another"
            " network drawn alike.",
        ),
        "random_states": Control(
            label="Random states alike", value=len(overlapping), expected="no subject overlaps",
            passed=not overlapping,
            sentence=f"With noise {first:g} the share that comes back is beyond that of random"
            f" states, intervals apart, in {len(sharp) - len(overlapping)} of {len(sharp)} kinds of"
            " network.",
        ),
        **dict(_families(features)),
    }  # fmt: skip


def _families(features: Sequence[Row]) -> Iterator[tuple[str, Control]]:
    """Families in which something was found where nothing is."""
    for name, label, rows in (
        ("distractors", "Distractors", [row for row in features if row["kind"] == DISTRACTOR
                                        and row["analysis"] in (OWN, OTHER)]),
        ("permuted_rows", "Rows dealt out", [row for row in features
                                             if row["analysis"] == PERMUTED]),
    ):  # fmt: skip
        found = sum(row["any_both"] for row in rows)
        of = sum(row["n_networks"] for row in rows)
        over = [row for row in rows if row["any_low"] > LEVEL]
        yield name, Control(
            label=f"{label} beyond both nulls", value=found,
            expected="no more than 1 family in 20, within its interval", passed=not over,
            sentence=f"{found} of {of} families have one;"
            f" {'no setting has' if not over else f'{len(over)} settings have'} significantly more"
            " than one in twenty.",
        )  # fmt: skip


def _limits(options: PlantedEnergies) -> tuple[str, ...]:
    return (
        "Everything here was planted: it says that the lens finds what is there, not what is in a"
        " language model.",
        f"Intervals are over {options.networks} networks drawn by seeds; where all agree, the"
        " interval of their mean is a point, and the count of networks has a better one.",
        "Networks of digits are drawn from the same 1,797 images, so two may share some.",
        "Memories of the energy transformer stand at obtuse angles: those that point the same way"
        " share one flat minimum, and would be no minima by themselves.",
        "An energy transformer's tokens would grow without end along their memories; each update"
        " here begins at their layer norm, which the energy alone sees.",
        "The null of dealt-out rows asks whether another direction would do as well. Where forces"
        " span few directions another nearly does, and the null refuses true features: flipped"
        " signs stand beside it.",
    )  # fmt: skip


def _suspicious(minima: Sequence[Row]) -> Iterator[str]:
    for row in minima:
        where = f"{row['subject']}, {row['size']} planted, {row['dial']} {row['setting']:g}"
        if row["converged"] < 1:
            yield f"{where}: {percent(1 - row['converged'])} of the descents did not converge."
        if row["at_fixed"] < 1:
            size = interval(1 - row["at_fixed"], math.nan, math.nan)
            yield f"{where}: a share of {size} of the ends is no fixed point to {number(SAME)}."
        if row["unsettled"]:
            yield f"{where}: {row['unsettled']:,} of the network's own iterations did not settle."
        if row["as_own"] < 1 and row["dial"] == "attention":
            yield (
                f"{where}: {percent(1 - row['as_own'])} of the descents end elsewhere than the"
                " network's own updates."
            )
        if row["basins"] > row["minima"] + 1:
            yield (
                f"{where}: {number(row['basins'], digits=2)} basins a network beside"
                f" {number(row['minima'], digits=2)} planted minima: others are there too."
            )
