"""Where do states run to when they go down the energy? Basins beside random states, and a map."""

from dataclasses import dataclass
from functools import partial

import numpy as np

from energylens.report.axes import Axes, frame
from energylens.report.figure import Column, Figure, Marks, Panel
from energylens.report.palette import LIGHT
from energylens.report.places import depth, site_label
from energylens.report.records import Records, Table, finite
from energylens.results.format import interval, number, percent, several

# Basins drawn on the first panel, the heaviest; maps beside it.
HEAVIEST, MAPS = 12, 5
LEVEL = 0.05
# Radius on the map of a token that all starts end at.
WIDEST = 0.42


def figure(records: Records) -> Figure | None:
    sites, basins = records.table("attractors"), records.table("basins")
    drawn = records.table("basin_map")
    if sites is None or drawn is None:
        return None
    panels = [] if basins is None else [_masses(basins)]
    order = sorted(set(drawn.text("site")), key=depth)[:MAPS]
    panels += [
        Panel(
            draw=partial(_map, here=drawn.equal("site", site), title=f"Layer {site_label(site)}"),
            label=f"Starts and ends of the descent at layer {site_label(site)}, by what they read.",
            height=330,
        )
        for site in order
    ]  # fmt: skip
    return Figure(
        name="basins",
        question="Where do states run to when they go down the energy?",
        short="Basins",
        answer=_answer(sites, basins, records.table("basin_labels")),
        notes=_notes(sites),
        method=("method-attractors", "attractors"),
        panels=panels,
        columns=_columns(sites) if basins is None else _basin_columns(basins),
        tells=("site",) if basins is None else ("token", "site", "mass", "mass_random", "q"),
        wide=True,
    )


def _basin_columns(basins: Table) -> list[Column]:
    numbers = {
        "n_text": "starts from the text", "n_random": "random states", "mass": "mass",
        "mass_low": "95 % from", "mass_high": "to", "mass_random": "mass, random states",
        "p": "p", "q": "q",
    }  # fmt: skip
    return [
        Column(name="site", label="site", cells=basins.text("site")),
        Column(name="token", label="reads", cells=basins.text("token")),
        *(Column(name=name, label=label, cells=basins.number(name))
          for name, label in numbers.items()),
    ]  # fmt: skip


def _columns(sites: Table) -> list[Column]:
    return [
        Column(name="site", label="site", cells=sites.text("site")),
        Column(name="converged", label="converged", cells=sites.number("converged")),
    ]


def _masses(basins: Table) -> Panel:
    heavy = np.argsort(-basins.number("mass"), kind="stable")[:HEAVIEST]
    return Panel(
        draw=partial(_draw_masses, basins=basins, rows=heavy),
        label="Share of starts in the heaviest basins, beside random states.",
        height=330,
    )  # fmt: skip


def _draw_masses(axes: Axes, *, basins: Table, rows: np.ndarray) -> Marks:
    frame(axes, across="share of starts (%)", up="", title="Heaviest basins")
    axes.grid(visible=False)
    y = np.arange(len(rows))
    value, low, high, null, null_low, null_high = (
        100 * basins.number(name)[rows]
        for name in ("mass", "mass_low", "mass_high", "mass_random", "mass_random_low",
                     "mass_random_high")
    )  # fmt: skip
    axes.barh(y, null_high - null_low, left=null_low, height=0.6, color=LIGHT["null"], zorder=1)
    axes.plot(null, y, "|", ms=9, color=LIGHT["dot"], zorder=2)
    sink = basins.number("q")[rows] <= LEVEL
    axes.hlines(y, low, high, color=LIGHT["accent"], linewidth=1.3, zorder=3)
    axes.scatter(value, y, s=30, color=[LIGHT["accent" if s else "paper"] for s in sink],
                 edgecolor=LIGHT["accent"], linewidth=1.2, zorder=4)  # fmt: skip
    names = [f"“{_short(basins.text('token')[row])}” {site_label(basins.text('site')[row])}"
             for row in rows]  # fmt: skip
    axes.set_yticks(y, names)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    # Room for the marks of a null of nothing, which would touch the names.
    axes.set_xlim(left=-0.02 * axes.get_xlim()[1])
    return Marks(x=value, y=y.astype(float), rows=rows)


def _map(axes: Axes, *, here: Table, title: str) -> None:
    """From where to where: a state is at the mean of the tokens around, weighted by probability."""
    from matplotlib.patches import Circle

    frame(axes, across="", up="", title=title)
    axes.grid(visible=False)
    axes.set(xlim=(-1.7, 1.7), ylim=(-1.55, 1.55), xticks=[], yticks=[], aspect="equal")
    axes.spines["bottom"].set_visible(False)
    axes.add_patch(Circle((0, 0), 1, fill=False, color=LIGHT["hairline"], linewidth=1, zorder=0))
    text = np.array([source == "text" for source in here.text("source")])
    x, y, end_x, end_y = (here.number(name) for name in ("x", "y", "end_x", "end_y"))
    for row in np.flatnonzero(text):
        axes.plot([x[row], end_x[row]], [y[row], end_y[row]], color=LIGHT["accent"],
                  linewidth=0.7, alpha=0.5, zorder=2)  # fmt: skip
    axes.plot(x[text], y[text], "o", ms=2.5, mec="none", color=LIGHT["dot"], zorder=4)
    for corner in _corners(here, text):
        at = (corner.x, corner.y)
        # Areas are shares of the starts, and of the random states.
        null, own = (WIDEST * share**0.5 for share in (corner.random, corner.share))
        axes.add_patch(Circle(at, null, color=LIGHT["null"], linewidth=0, zorder=1))
        axes.add_patch(Circle(at, own, fill=False, color=LIGHT["accent"], linewidth=1.6, zorder=3))
        if corner.token:
            out = 1.18 + max(null, own)
            axes.annotate(f"“{_short(corner.token)}”", (out * corner.x, out * corner.y),
                          fontsize=11, ha="center", va="center", zorder=6)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Corner:
    """Where ends of one token lie on the map, and how many of the starts and random states."""

    token: str
    x: float
    y: float
    share: float
    random: float


def _corners(here: Table, text: np.ndarray) -> list[Corner]:
    """The tokens on the circle, and without a name all that ends near the centre."""
    tokens = np.array(here.text("token"))
    x, y = here.number("end_x"), here.number("end_y")
    around = np.hypot(x, y) > 0.5

    def corner(some: np.ndarray, token: str) -> Corner:
        at = some & around if token else some
        return Corner(
            token=token, x=float(x[at].mean()) if token else 0.0,
            y=float(y[at].mean()) if token else 0.0,
            share=float((some & text).sum() / max(text.sum(), 1)),
            random=float((some & ~text).sum() / max((~text).sum(), 1)),
        )  # fmt: skip

    named = sorted(set(tokens[around & text]))
    corners = [corner(tokens == token, str(token)) for token in named]
    return [*corners, corner(~np.isin(tokens, named), "")]


def _short(token: str) -> str:
    return f"{token[:12]}{'…' * (len(token) > 12)}"


def _answer(sites: Table, basins: Table | None, labels: Table | None) -> str:
    starts, converged = (int(sites.number(name).sum()) for name in ("n_starts", "converged"))
    text = (
        f"{converged:,} of {several(starts, 'state')} reach a floor of the tuned lens's entropy, "
        f"turning by {_range(sites, 'turned')} rad, and {_range(sites, 'kept_token', percent)} of "
        "them become certain of the token that they already held likeliest."
    )
    if basins is None:
        return text + " No token holds enough of them to make a basin."
    sink = np.flatnonzero(basins.number("q") <= LEVEL)
    text += f" Of {several(basins.rows, 'basin')}, {len(sink) or 'none'} "
    text += "holds" if len(sink) == 1 else "hold"
    text += " more of the text than of random states alike"
    if len(sink):
        best = sink[np.argsort(basins.number("q")[sink], kind="stable")][:3]
        text += " (" + ", ".join(_sink(basins, int(row)) for row in best) + ")"
    return text + "." + _labelled(labels) + _moved(sites)


def _sink(basins: Table, row: int) -> str:
    share = percent(float(basins.number("mass")[row]))
    null = percent(float(basins.number("mass_random")[row]))
    return (
        f"“{_short(basins.text('token')[row])}” at layer {site_label(basins.text('site')[row])}: "
        f"{share}, random {null}"
    )


def _range(sites: Table, name: str, shown: object = number) -> str:
    values = finite(sites.number(name))
    if not len(values):
        return "an undefined share"
    assert callable(shown)
    low, high = shown(float(values.min())), shown(float(values.max()))
    return low if low == high else f"{low.removesuffix(' %')} to {high}"


def _labelled(labels: Table | None) -> str:
    if labels is None:
        return ""
    found = np.flatnonzero(labels.number("q") <= LEVEL)
    if not len(found):
        return " No basin is drawn from one class of tokens."
    told = [
        f"“{_short(labels.text('token')[row])}” at layer {site_label(labels.text('site')[row])} "
        f"from {labels.text('class')[row]} ({int(labels.number('n')[row])} of "
        f"{int(labels.number('n_basin')[row])})"
        for row in found[:3]
    ]
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return f" Drawn from one class of tokens: {', '.join(told)}{more}."


def _moved(sites: Table) -> str:
    known = np.flatnonzero(np.isfinite(sites.number("switched_excess")))
    if not len(known):
        return ""
    clear = [row for row in known if sites.number("switched_p")[row] < LEVEL / len(known)]
    best = max(known, key=lambda row: abs(sites.number("switched_excess")[row]))
    value, low, high = (100 * float(sites.number(f"switched_excess{end}")[best])
                        for end in ("", "_low", "_high"))  # fmt: skip
    return (
        " Ablating a feature changes what the end reads more often than a random step of its size "
        f"does at {len(clear)} of {several(len(known), 'site')}; largest difference "
        f"{interval(value, low, high, signed=True)} points, at layer "
        f"{site_label(sites.text('site')[best])}."
    )


def _notes(sites: Table) -> list[str]:
    return [
        f"n = {several(int(sites.number('n_starts').max()), 'state')} a site, one a document",
        "energy: entropy of the tuned lens; the norm of each state is kept",
        f"not converged: {int((sites.number('n_starts') - sites.number('converged')).sum())}; "
        f"diverged: {int(sites.number('diverged').sum())}",
        "null (grey): random states with the mean, covariance and norms of the text's own, one-"
        "sided hypergeometric, Benjamini–Hochberg over basins; filled: q < .05",
        "maps: a state is at the mean of the tokens around, weighted by what the lens reads; all "
        "other tokens are at the centre; dots are starts, lines lead to their ends; areas: teal "
        "the share of starts that end there, grey that of random states",
    ]
