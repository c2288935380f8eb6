"""What the evaluation says in words and figures, computed from its tables."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from energylens.results.format import interval, number, percent
from energylens.results.record import Control, Estimate, Summary
from energylens.studies.evaluate_dictionary import EvaluateDictionary
from energylens.studies.evaluate_dictionary.material import Material
from energylens.studies.evaluate_dictionary.rivals import RANDOM_WEIGHTS, RIVALS
from energylens.studies.evaluate_dictionary.tables import ITSELF
from energylens.studies.evaluate_dictionary.told import label_figures, label_limits

Row = dict[str, Any]
Rows = Mapping[str, Sequence[Row]]
MEASURED = {
    "fvu": ("share of variance", "Variance unexplained"),
    "fvu_all": ("share of variance", "Variance unexplained, massive rows included"),
    "l0": ("active features a row", "L0"),
    "cosine": ("cosine", "Cosine with the row"),
    "norm_ratio": ("ratio of norms", "Norm of the reconstruction over the row's"),
    "scale": ("factor", "Least-squares scale"),
    "loss_recovered_ce": ("share of loss", "Loss recovered, of mean ablation"),
    "loss_recovered_ce_zero": ("share of loss", "Loss recovered, of zero ablation"),
    "loss_recovered_kl": ("share of KL", "KL recovered, of mean ablation"),
    "loss_recovered_kl_zero": ("share of KL", "KL recovered, of zero ablation"),
}
SHARES = {"dead_share": "Dead features", "dense_share": "Dense features"}
CALLED = {
    ITSELF: "dictionary", "pca": "PCA, k components a row", "pca_subspace": "PCA, k dimensions",
    "ica": "ICA, k components a row", "random": "random directions", "short": "short training",
    "shuffled": "short training, shuffled activations",
    RANDOM_WEIGHTS: "short training, random-weight model",
}  # fmt: skip
MOSTLY_DEAD = 0.5
MOST_TOLD = 4


def summarise(
    options: EvaluateDictionary, material: Material, rows: Rows, records: Mapping[str, Row]
) -> Summary:
    """Figures, controls and the finding sentence."""
    table = {(row["dictionary"], row["contender"]): row for row in rows["evaluation"]}
    labels = list(dict.fromkeys(row["dictionary"] for row in rows["evaluation"]))
    figures = _figures(table, labels) | _differences(rows["evaluation_differences"])
    figures |= label_figures(rows)
    models = dict.fromkeys(read.subject.loaded.name for read in material.read.values())
    return Summary(
        study="evaluate-dictionary",
        subject=f"{', '.join(labels)} · {', '.join(models)} · {material.corpus.name}",
        finding=_finding(table, labels, rows),
        detail=_detail(table, labels),
        grade="real",
        figures=figures,
        controls=_controls(table, labels, rows["evaluation_differences"]),
        cards=_cards(_best_first(table, labels)[0], figures),
        limits=(*_limits(options, table, labels), *sorted(label_limits(rows))),
        suspicious=tuple(_suspicious(table, labels, rows, records)),
    )


Table = Mapping[tuple[str, str], Row]


def _best_first(table: Table, labels: Sequence[str]) -> list[str]:
    """Dictionaries by what they leave unexplained, the least first; undefined ones last."""

    def left(label: str) -> float:
        fvu = table[label, ITSELF]["fvu"]
        return fvu if math.isfinite(fvu) else math.inf

    return sorted(labels, key=left)


def _figures(table: Table, labels: Sequence[str]) -> dict[str, Estimate]:
    """Every measure of every dictionary, the null being random directions; and the baselines'
    own."""
    figures = {}
    for label in labels:
        own, null = table[label, ITSELF], table[label, "random"]
        for measure, (unit, called) in MEASURED.items():
            figures[f"{measure}.{label}"] = Estimate(
                own[measure], unit, low=own[f"{measure}_low"], high=own[f"{measure}_high"],
                null_mean=null[measure], null_sd=_sd(null, measure), n=_n(own, measure),
                n_unit="documents", undefined=int(math.isnan(own[measure])),
                label=f"{called}, {label}", note="null: random directions of the same width and k",
            )  # fmt: skip
        for share, called in SHARES.items():
            figures[f"{share}.{label}"] = Estimate(
                own[share], "share of features", null_mean=null[share], n=own["n_documents"],
                n_unit="documents", label=f"{called}, {label}",
                note=f"over {own['rows']:,} tokens; null: random directions",
            )  # fmt: skip
        for rival in RIVALS:
            row = table[label, rival]
            for measure in ("fvu", "loss_recovered_ce", "loss_recovered_kl"):
                unit, called = MEASURED[measure]
                figures[f"{measure}.{label}.{rival}"] = Estimate(
                    row[measure], unit, low=row[f"{measure}_low"], high=row[f"{measure}_high"],
                    null_mean=null[measure] if rival != RANDOM_WEIGHTS else math.nan,
                    null_sd=_sd(null, measure) if rival != RANDOM_WEIGHTS else math.nan,
                    n=_n(row, measure), n_unit="documents",
                    undefined=int(math.isnan(row[measure])), label=f"{called}, {CALLED[rival]}",
                )  # fmt: skip
    return figures


def _differences(rows: Sequence[Row]) -> dict[str, Estimate]:
    figures = {}
    for row in rows:
        if row["measure"] in ("fvu", "loss_recovered_ce", "loss_recovered_kl"):
            unit, called = MEASURED[row["measure"]]
            figures[f"{row['measure']}_gained.{row['dictionary']}.{row['contender']}"] = Estimate(
                row["difference"], unit, low=row["low"], high=row["high"], null_mean=0.0,
                n=row["n_documents"], n_unit="documents",
                undefined=int(math.isnan(row["difference"])),
                label=f"{called}, {row['dictionary']} less {CALLED[row['contender']]}",
                note="both on the same resampled documents",
            )  # fmt: skip
    return figures


def _sd(row: Row, measure: str) -> float:
    return (row[f"{measure}_high"] - row[f"{measure}_low"]) / (2 * 1.96)


def _n(row: Row, measure: str) -> int:
    return int(row["n_loss_documents" if measure.startswith("loss") else "n_documents"])


def _cards(label: str, figures: Mapping[str, Estimate]) -> tuple[str, ...]:
    wanted = ("fvu", "l0", "loss_recovered_ce", "loss_recovered_kl", "cosine", "dead_share")
    named = [f"{measure}.{label}" for measure in wanted]
    return tuple(name for name in named if math.isfinite(figures[name].value))


def _explained(row: Row, *, digits: int = 2) -> str:
    return percent(1 - row["fvu"], digits=digits)


def _finding(table: Table, labels: Sequence[str], rows: Rows) -> str:
    """Of the dictionary that leaves least unexplained."""
    label = _best_first(table, labels)[0]
    own = table[label, ITSELF]
    fvu = interval(100 * (1 - own["fvu"]), 100 * (1 - own["fvu_high"]),
                   100 * (1 - own["fvu_low"]))  # fmt: skip
    lead = label if len(labels) == 1 else f"Of {len(labels)} dictionaries, {label}"
    text = f"{lead} explains {fvu} % of the variance at L0 {number(own['l0'], digits=2)}"
    if math.isfinite(own["loss_recovered_ce"]):
        text += f" and recovers {percent(own['loss_recovered_ce'])} of the loss"
    worse = _beaten_by(rows["evaluation_differences"], label)
    text += (
        f"; PCA of as many numbers {_explained(table[label, 'pca'])}, the best subspace"
        f" {_explained(table[label, 'pca_subspace'])}, random directions"
        f" {_explained(table[label, 'random'])}; on a random-weight model a dictionary explains"
        f" {_explained(table[label, RANDOM_WEIGHTS])}."
    )
    if worse:
        text += f" It leaves more unexplained than {_and([CALLED[name] for name in worse])}."
    return text


def _beaten_by(differences: Sequence[Row], label: str) -> list[str]:
    """Baselines that leave less unexplained on the same rows, by the interval over documents."""
    return [row["contender"] for row in differences
            if row["dictionary"] == label and row["measure"] == "fvu" and row["low"] > 0
            and row["contender"] != RANDOM_WEIGHTS]  # fmt: skip


def _detail(table: Table, labels: Sequence[str]) -> str:
    best, *others = _best_first(table, labels)
    row = table[best, ITSELF]
    text = (
        f"A dictionary trained briefly on the model's own activations explains"
        f" {_explained(table[best, 'short'])}, on shuffled ones"
        f" {_explained(table[best, 'shuffled'])}. Of {row['width']:,} features"
        f" {percent(row['dead_share'])} never fired and {percent(row['dense_share'])} fire on more"
        " than a tenth of the tokens."
    )
    told = [
        f"{label} explains {_explained(table[label, ITSELF])} at L0"
        f" {number(table[label, ITSELF]['l0'], digits=2)}"
        for label in others[:MOST_TOLD]
    ]
    return text + (f" {'; '.join(told)}." if told else "")


def _controls(
    table: Table, labels: Sequence[str], differences: Sequence[Row]
) -> dict[str, Control]:
    """What must come out whatever the dictionary is."""
    controls = {}
    for label in labels:
        short, shuffled, random, pca = (
            table[label, name]["fvu"] for name in ("short", "shuffled", "random", "pca")
        )
        controls[f"shuffled.{label}"] = Control(
            label="Shuffled activations", value=shuffled, expected="more than the unshuffled leave",
            passed=shuffled > short,
            sentence=f"{label}: trained on activations whose columns were shuffled,"
            f" {percent(shuffled)} stays unexplained; unshuffled, {percent(short)}.",
        )  # fmt: skip
        controls[f"random.{label}"] = Control(
            label="Random directions", value=random, expected="more than PCA leaves",
            passed=random > pca,
            sentence=f"{label}: random directions leave {percent(random)} unexplained, as many"
            f" principal components {percent(pca)}.",
        )  # fmt: skip
    return controls


def _limits(options: EvaluateDictionary, table: Table, labels: Sequence[str]) -> tuple[str, ...]:
    own = table[labels[0], ITSELF]
    return (
        "Whether a dictionary was trained on some of these documents is not known.",
        f"Baselines are fitted on {options.train_tokens:,} tokens, and the three short trainings"
        " last as long: a dictionary that was trained on more has that advantage over them.",
        f"Dead means never active on {own['rows']:,} tokens: a feature that fires more rarely"
        " counts as dead.",
        f"Loss and KL come from {own['n_loss_documents']} documents; the first position and massive"
        " activations keep their own state.",
        "A measure of reconstruction says nothing of whether a feature means anything.",
    )  # fmt: skip


def _suspicious(
    table: Table, labels: Sequence[str], rows: Rows, records: Mapping[str, Row]
) -> Iterator[str]:
    for label in labels:
        own = table[label, ITSELF]
        for name in _beaten_by(rows["evaluation_differences"], label):
            yield (
                f"{label} leaves {percent(own['fvu'])} unexplained, {CALLED[name]}"
                f" {percent(table[label, name]['fvu'])}: it does not earn its training."
            )
        if own["dead_share"] > MOSTLY_DEAD:
            yield f"{label}: {percent(own['dead_share'])} of the features never fired."
        if own["massive_rows"]:
            verb = "row is" if own["massive_rows"] == 1 else "rows are"
            yield (
                f"{label}: {own['massive_rows']:,} massive {verb} left out; with them the"
                f" variance unexplained is {number(own['fvu_all'])}."
            )
        if math.isnan(own["loss_recovered_ce"]):
            yield f"{label}: mean ablation does not cost loss beyond chance; none can be recovered."
        if abs(own["scale"] - 1) > 0.2:
            wrong = "shrunk" if own["scale"] > 1 else "too long"
            yield (
                f"{label}: reconstructions are {wrong}; times {number(own['scale'], digits=2)} they"
                " would be nearer."
            )
    for label, record in records.items():
        if not record["ica_settled"]:
            yield f"{label}: the independent components had not settled."


def _and(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
