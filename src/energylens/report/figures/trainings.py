"""How did training go, and how good are the dictionaries that came of it?"""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from energylens.report.axes import Axes, Curve, frame, name_curves
from energylens.report.figure import Column, Figure, Marks, Panel
from energylens.report.palette import LIGHT
from energylens.report.records import Records, Table, finite
from energylens.results.format import interval, number, percent, several

MOST_LINES = 24
MOST_PLACES = 48
POINTS = 160
COLUMNS: tuple[tuple[str, str], ...] = (
    ("width", "width"), ("k", "k"), ("seed", "seed"), ("steps", "steps"), ("tokens", "tokens"),
    ("massive_rows", "massive rows left out"), ("fvu", "FVU"), ("fvu_low", "95 % from"),
    ("fvu_high", "to"), ("fvu_null", "FVU by chance"), ("l0", "L0"), ("dead_share", "dead share"),
    ("dense_share", "dense share"), ("loss_recovered", "loss recovered"),
    ("loss_recovered_low", "95 % from"), ("loss_recovered_high", "to"),
    ("loss_clean", "loss, clean"), ("loss_ablated", "loss, ablated"),
    ("loss_reconstructed", "loss, reconstructed"), ("held_out_tokens", "held-out tokens"),
    ("held_out_massive", "massive of these"), ("documents", "documents"), ("seconds", "seconds"),
)  # fmt: skip
WORDS = (("label", "dictionary"), ("map", "map"), ("site", "site"), ("target", "target"),
         ("architecture", "kind"))  # fmt: skip
OF_SITES = tuple(
    (name, label) for name, label in COLUMNS
    if name not in ("width", "k", "seed", "steps", "tokens", "massive_rows", "seconds")
)  # fmt: skip


def quality(records: Records) -> Figure | None:
    """FVU and loss recovered of every dictionary, beside chance."""
    table = records.table("trained_dictionaries")
    if table is None:
        return None
    shown = _closest(table)
    height = 90 + 30 * len(shown)
    draws = [("fvu", "variance unexplained, FVU (share)")]
    if len(finite(table.number("loss_recovered"))):
        draws.append(("loss_recovered", "loss recovered (share; 0 = mean state, 1 = untouched)"))
    return Figure(
        name="trained_dictionaries", question="How much of the states do the dictionaries keep?",
        short="Dictionaries", answer=_answer(table), notes=_notes(table, len(shown)),
        method=("method-training", "training"),
        panels=[
            Panel(draw=partial(_draw, table=table, rows=shown, name=name, across=across,
                               called=_short),
                  height=height, label=f"By dictionary: {across}.")
            for name, across in draws
        ],
        columns=[
            *(Column(name=name, label=label, cells=table.text(name)) for name, label in WORDS),
            *(Column(name=name, label=label, cells=table.number(name)) for name, label in COLUMNS),
        ],
        tells=("label", "fvu", "fvu_null", "l0", "loss_recovered"), wide=True,
    )  # fmt: skip


def by_place(records: Records) -> Figure | None:
    """FVU of every place that a dictionary of several makes, beside chance."""
    table = records.table("trained_sites")
    if table is None:
        return None
    shown = list(range(table.rows))[:MOST_PLACES]
    across = "variance unexplained, FVU (share)"
    notes = [
        f"n = {int(table.number('documents')[0]):,} held-out documents; bars: 95 % over documents",
        "null (grey): of a crosscoder random directions of the same width and k, drawn where all"
        " places count alike; across layers its decoder rows dealt out",
        "loss recovered: each place changed alone",
    ]
    if len(shown) < table.rows:
        notes.append(f"the first {len(shown)} of {table.rows:,} are drawn; all in the table")
    return Figure(
        name="trained_sites", question="How much do they keep, by place?", short="By place",
        answer=_answer_by_place(table), notes=notes, method=("method-training", "training"),
        panels=[Panel(
            draw=partial(_draw, table=table, rows=shown, name="fvu", across=across, called=_place),
            height=90 + 30 * len(shown), label=f"By dictionary and place: {across}.",
        )],
        columns=[
            *(Column(name=name, label=label, cells=table.text(name))
              for name, label in (("label", "dictionary"), ("map", "map"), ("site", "place"))),
            *(Column(name=name, label=label, cells=table.number(name)) for name, label in OF_SITES),
        ],
        tells=("label", "site", "fvu", "fvu_null", "loss_recovered"), wide=True,
    )  # fmt: skip


def curves(records: Records) -> Figure | None:
    """What each step was like."""
    table, made = records.table("training_steps"), records.table("trained_dictionaries")
    if table is None or made is None or not table.rows:
        return None
    thinned = _thinned(table, [made.text("label")[row] for row in _closest(made)])
    draws = (
        ("fvu", "FVU of the batch (share of variance)"),
        ("dead_share", "dead features (share)"),
        ("l0", "active features a token, L0"),
    )
    return Figure(
        name="training_steps", question="How did training go?", short="Training",
        answer=_course(table),
        notes=[
            f"n = {several(len(set(thinned.text('label'))), 'dictionary', 'dictionaries')}, each"
            f" step a batch; at most {POINTS} steps of each are drawn, all are in the Parquet file",
            "dead: silent for as many tokens as the option --dead-after says; no null: these are"
            " batches that were trained on",
        ],
        method=("method-training", "training"),
        panels=[
            Panel(draw=partial(_draw_curves, table=thinned, name=name, up=up), height=280,
                  label=f"By step: {up}.")
            for name, up in draws
        ],
        columns=[
            Column(name="label", label="dictionary", cells=thinned.text("label")),
            *(Column(name=name, label=name.replace("_", " "), cells=thinned.number(name))
              for name in ("step", "loss", "fvu", "dead_share", "l0")),
        ],
        tells=("label", "step", "fvu", "dead_share", "l0"), wide=True,
    )  # fmt: skip


def _closest(table: Table) -> list[int]:
    """Rows to draw: in the order given, the least FVU where there are too many."""
    order = np.argsort(np.nan_to_num(table.number("fvu"), nan=np.inf), kind="stable")
    return sorted(order[:MOST_LINES].tolist())


def _draw(
    axes: Axes,
    *,
    table: Table,
    rows: Sequence[int],
    name: str,
    across: str,
    called: Callable[[Table, int], str],
) -> Marks:
    frame(axes, across=across, up="")
    axes.grid(visible=False)
    y = np.arange(len(rows))
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_yticks(y, [called(table, row) for row in rows], fontsize=10)
    value = table.number(name)[rows]
    if name == "fvu":
        axes.plot(table.number("fvu_null")[rows], y, "|", ms=15, mew=5, color=LIGHT["null"],
                  zorder=1)  # fmt: skip
        axes.set_xlim(0, 1.05 * max(1.0, float(finite(table.number("fvu_null")).max(initial=0.0))))
    else:
        axes.axvline(1, color=LIGHT["dot"], linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
        axes.set_xlim(min(0.0, 1.1 * float(finite(value).min(initial=0.0))), 1.08)
    axes.hlines(y, table.number(f"{name}_low")[rows], table.number(f"{name}_high")[rows],
                color=LIGHT["accent"], linewidth=1.4, zorder=3)  # fmt: skip
    axes.plot(value, y, "o", ms=5.5, color=LIGHT["accent"], mec=LIGHT["paper"], mew=0.6, zorder=4)
    known = np.isfinite(value)
    return Marks(x=value[known], y=y[known], rows=np.array(rows)[known])


def _short(table: Table, row: int) -> str:
    """What tells a dictionary from the others: only what differs between them."""
    parts = []
    for name in ("site", "architecture"):
        if len(set(table.text(name))) > 1:
            parts.append(table.text(name)[row].removeprefix("blocks."))
    for name, sign in (("width", ""), ("k", "k "), ("seed", "seed ")):
        if len(set(table.number(name).tolist())) > 1:
            parts.append(f"{sign}{int(table.number(name)[row]):,}")
    return " · ".join(parts) or f"{table.text('architecture')[row]}"


def _place(table: Table, row: int) -> str:
    """A place and, where there are several, the dictionary that makes it."""
    several_made = len(set(table.text("label"))) > 1
    whose = f"{table.text('label')[row]} · " if several_made else ""
    return whose + table.text("site")[row].removeprefix("blocks.")


def _thinned(table: Table, labels: Sequence[str]) -> Table:
    """Some steps of some dictionaries, evenly, the first and the last among them."""
    of = np.array(table.text("label"))
    kept: list[int] = []
    for label in labels:
        rows = np.flatnonzero(of == label)
        some = np.linspace(0, len(rows) - 1, min(POINTS, len(rows))).round().astype(int)
        kept += rows[np.unique(some)].tolist()
    return table.where(kept)


def _draw_curves(axes: Axes, *, table: Table, name: str, up: str) -> Marks:
    frame(axes, across="step", up=up)
    label, step, value = np.array(table.text("label")), table.number("step"), table.number(name)
    last = {one: value[label == one][-1] for one in dict.fromkeys(label.tolist())}
    named = []
    for one in last:
        mine = label == one
        best = one == min(last, key=lambda key: last[key])
        color = LIGHT["accent" if best or len(last) == 1 else "dot"]
        axes.plot(step[mine], value[mine], color=color, linewidth=1.4, zorder=3 if best else 2)
        if best and len(last) > 1:
            named.append(Curve(text="least at the end", x=step[mine], y=value[mine], color=color))
    top = float(np.quantile(finite(value), 0.98)) if len(finite(value)) else 1.0
    axes.set_ylim(0, max(1.15 * top, 1e-3))
    name_curves(axes, named)
    return Marks(x=step, y=np.minimum(value, max(1.15 * top, 1e-3)), rows=np.arange(table.rows))


def _answer(table: Table) -> str:
    fvu = table.number("fvu")
    if not len(finite(fvu)):
        return "How much they leave unexplained is undefined for every dictionary."
    best = int(np.nanargmin(fvu))
    low, high, null = (float(table.number(f"fvu_{n}")[best]) for n in ("low", "high", "null"))
    text = (
        f"{table.text('label')[best]} leaves least unexplained:"
        f" {interval(float(fvu[best]), low, high)} of the variance, by chance"
        f" {number(null, digits=2)}."
    )
    recovered = table.number("loss_recovered")
    if len(finite(recovered)):
        top = int(np.nanargmax(recovered))
        share = [float(table.number(f"loss_recovered{end}")[top]) for end in ("", "_low", "_high")]
        who = "It" if top == best else table.text("label")[top]
        text += f" {who} recovers most of the loss: {interval(*share)}."
    return text


def _answer_by_place(table: Table) -> str:
    fvu = table.number("fvu")
    if not len(finite(fvu)):
        return "How much they leave unexplained is undefined at every place."
    ends = [int(find(fvu)) for find in (np.nanargmin, np.nanargmax)]
    best, worst = (
        f"{number(float(fvu[row]), digits=2)} of the variance at {table.text('site')[row]}"
        for row in ends
    )
    chance = int(np.sum(table.number("fvu_high") >= table.number("fvu_null")))
    text = f"Between {best} and {worst} is left unexplained."
    if chance:
        text += f" At {several(chance, 'place', 'places')} that is not beyond chance."
    return text


def _notes(table: Table, shown: int) -> list[str]:
    notes = [
        f"n = {int(table.number('documents')[0]):,} held-out documents; bars: 95 % over documents",
        "null (grey): random directions of the same width and k; of a transcoder, its decoder rows"
        " dealt out; what makes several places counts each alike",
        f"dead on held-out text: at most"
        f" {percent(float(finite(table.number('dead_share')).max(initial=0.0)))} of the features",
    ]
    if shown < table.rows:
        notes.append(
            f"the {shown} of {table.rows:,} with the least FVU are drawn; all in the table"
        )
    return notes


def _course(table: Table) -> str:
    label, fvu = np.array(table.text("label")), table.number("fvu")
    first, last = [], []
    for one in dict.fromkeys(label.tolist()):
        mine = fvu[label == one]
        tenth = max(1, len(mine) // 10)
        first.append(float(np.nanmean(mine[:tenth])))
        last.append(float(np.nanmean(mine[-tenth:])))
    best = int(np.argmin(last))
    text = (
        f"FVU of the batches falls from {number(first[best], digits=2)} in the first tenth of the"
        f" steps to {number(last[best], digits=2)} in the last"
    )
    rising = sum(b > a for a, b in zip(first, last, strict=True))
    text += f" ({'the one' if len(first) > 1 else 'the dictionary'} that ends lowest)."
    if rising:
        text += f" {several(rising, 'dictionary', 'dictionaries')} of {len(first)} got worse."
    return text
