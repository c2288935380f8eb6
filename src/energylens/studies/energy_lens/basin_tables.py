"""Basins as tables: their mass beside random states, what starts in them, what features move."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from energylens.core.ports import Store
from energylens.core.sites import layer_of
from energylens.results.record import Estimate
from energylens.sources.token_classes import display_tokens
from energylens.sources.tokenizer import Tokenizer
from energylens.stats.enrichment import enrichment_p
from energylens.stats.multiplicity import benjamini_hochberg
from energylens.stats.rates import poisson_interval, wilson_interval
from energylens.stats.robust import cluster_mean_interval, cluster_robust_t
from energylens.studies.energy_lens.attractors import SOURCES, STATE, TEXT
from energylens.studies.energy_lens.tables import Row, table

LEVEL = 0.05


@dataclass(frozen=True, kw_only=True)
class Ended:
    """Where the starts of one site ended, and the words to tell it with.

    Attributes:
        documents: Document of each window of half B.
        classes: Class of each token of each window.
    """

    site: str
    found: Mapping[str, Tensor]
    documents: Int[Tensor, " window"]
    classes: Sequence[Sequence[str]]
    tokenizer: Tokenizer

    def of(self, source: int) -> Bool[Tensor, " start"]:
        return self.found["source"] == source

    @property
    def count(self) -> int:
        """Basins found."""
        return len(self.found["basin_token"])

    def word(self, token: int) -> str:
        return display_tokens([token], self.tokenizer)[0] if token >= 0 else "(no one token)"

    def start_classes(self) -> list[str]:
        """Class of the token that each start from the text stands on."""
        text = self.of(TEXT)
        where = zip(self.found["window"][text].tolist(), self.found["place"][text].tolist(),
                    strict=True)  # fmt: skip
        return [self.classes[window][place + 1] for window, place in where]


def attractor_tables(
    store: Store,
    documents: Mapping[str, Int[Tensor, " window"]],
    classes: Sequence[Sequence[str]],
    tokenizer: Tokenizer,
) -> dict[str, pa.Table]:
    """Tables `attractors`, `basins`, `basin_labels`, `basin_map` and `attractor_shift`."""
    sites = [
        Ended(site=site, found=store.tensors(f"attractors.{site}"), documents=of_windows,
              classes=classes, tokenizer=tokenizer)
        for site, of_windows in documents.items()
    ]  # fmt: skip
    basins = _adjusted([row for ended in sites for row in _basin_rows(ended)])
    sinks = [(row["site"], row["basin"]) for row in basins if row["sink"]]
    return {
        "attractors": table([_site_row(ended, sinks) for ended in sites]),
        "basins": table(basins),
        "basin_labels": table(_adjusted([row for ended in sites for row in _label_rows(ended)])),
        "basin_map": table([row for ended in sites for row in _map_rows(ended)]),
        "attractor_shift": table([row for ended in sites for row in _shift_rows(ended)]),
    }


def _adjusted(rows: list[Row]) -> list[Row]:
    """With q after Benjamini–Hochberg over all rows; a basin below .05 is a sink."""
    p = torch.tensor([row["p"] for row in rows], dtype=torch.float64)
    for row, q in zip(rows, benjamini_hochberg(p).tolist(), strict=True):
        row["q"] = q
        if "sink" in row:
            row["sink"] = q <= LEVEL
    return rows


def _basin_rows(ended: Ended) -> Iterator[Row]:
    """Whether states of the text run into a basin more often than random states alike do."""
    text, state = ended.of(TEXT), ended.of(STATE)
    pooled = text | state
    basin = ended.found["basin"][pooled]
    inside = basin[:, None] == torch.arange(ended.count)
    p = enrichment_p(inside, text[pooled][:, None])[:, 0]
    real, null = inside[text[pooled]].sum(0), inside[state[pooled]].sum(0)
    units, random = int(text.sum()), int(state.sum())
    mass = wilson_interval(real, torch.tensor(units))
    chance = wilson_interval(null, torch.tensor(random))
    for number, token in enumerate(ended.found["basin_token"].tolist()):
        yield {
            "site": ended.site, "layer": layer_of(ended.site), "basin": number,
            "token": ended.word(token), "n_text": int(real[number]), "n_random": int(null[number]),
            "mass": float(mass.estimate[number]), "mass_low": float(mass.low[number]),
            "mass_high": float(mass.high[number]), "mass_random": float(chance.estimate[number]),
            "mass_random_low": float(chance.low[number]),
            "mass_random_high": float(chance.high[number]),
            "p": float(p[number]), "q": float("nan"), "sink": False,
        }  # fmt: skip


def _label_rows(ended: Ended) -> Iterator[Row]:
    """Which classes of tokens the starts of a basin stand on more often than all starts do."""
    basin, classes = ended.found["basin"][ended.of(TEXT)], ended.start_classes()
    names = sorted(set(classes))
    inside = basin[:, None] == torch.arange(ended.count)
    labelled = torch.tensor([[label == name for name in names] for label in classes])
    p = enrichment_p(inside, labelled)
    both = inside.long().T @ labelled.long()
    for number, token in enumerate(ended.found["basin_token"].tolist()):
        for column, name in enumerate(names):
            yield {
                "site": ended.site, "layer": layer_of(ended.site), "basin": number,
                "token": ended.word(token), "class": name, "n": int(both[number, column]),
                "n_basin": int(inside[:, number].sum()), "n_class": int(labelled[:, column].sum()),
                "p": float(p[number, column]), "q": float("nan"),
            }  # fmt: skip


def _map_rows(ended: Ended) -> Iterator[Row]:
    """Every start of text and every random state: from where to where on the map."""
    shown = (ended.found["source"] <= STATE).nonzero()[:, 0].tolist()
    map_, columns = ended.found["map"], {
        name: ended.found[name].tolist()
        for name in ("source", "basin", "token", "start_token", "energy", "start_energy",
                     "converged", "turned", "window")
    }  # fmt: skip
    for start in shown:
        here = {name: values[start] for name, values in columns.items()}
        x, y, end_x, end_y = map_[start].tolist()
        yield {
            "site": ended.site, "layer": layer_of(ended.site), "source": SOURCES[here["source"]],
            "document": int(ended.documents[here["window"]]), "basin": here["basin"],
            "token": ended.word(here["token"]), "start_token": ended.word(here["start_token"]),
            "x": x, "y": y, "end_x": end_x, "end_y": end_y, "energy": here["energy"],
            "start_energy": here["start_energy"], "turned": here["turned"],
            "converged": here["converged"],
        }  # fmt: skip


def _site_row(ended: Ended, sinks: Sequence[tuple[str, int]]) -> Row:
    found, text = ended.found, ended.of(TEXT)
    start, end = (cluster_mean_interval(found[name][text].double()[:, None])
                  for name in ("start_energy", "energy"))  # fmt: skip
    kept = (found["token"] == found["start_token"])[text]
    same = wilson_interval(kept.sum(), torch.tensor(len(kept)))
    return {
        "site": ended.site, "layer": layer_of(ended.site), "n_starts": int(text.sum()),
        "n_random": int(ended.of(STATE).sum()),
        "converged": int(found["converged"][text].sum()),
        "diverged": int(found["diverged"][text].sum()),
        "converged_random": int(found["converged"][ended.of(STATE)].sum()),
        "steps": float(found["steps"][text].double().mean()),
        "start_energy": float(start.estimate), "start_energy_low": float(start.low),
        "start_energy_high": float(start.high), "end_energy": float(end.estimate),
        "turned": float(found["turned"][text].double().median()),
        "turned_random": float(found["turned"][ended.of(STATE)].double().median()),
        "kept_token": float(same.estimate), "kept_token_low": float(same.low),
        "kept_token_high": float(same.high),
        "basins": ended.count, "alone": int((found["basin"][text] < 0).sum()),
        "sinks": sum(site == ended.site for site, _ in sinks),
        **_moved(ended),
    }  # fmt: skip


def _moved(ended: Ended) -> Row:
    """How much further ablations of features move the ends than random steps do, by document."""
    found = ended.found
    names = ("angle", "switched")
    further = torch.stack([
        found[f"shift_{name}"].double() - found[f"shift_{name}_random"].double() for name in names
    ], dim=1)  # fmt: skip
    unit, of_unit = ended.documents[found["shift_window"]].unique(return_inverse=True)
    columns = ("excess", "excess_low", "excess_high", "p")
    if len(unit) < 2:
        return {f"{name}_{c}": float("nan") for name in names for c in columns} | {
            "n_shifted": len(further)}  # fmt: skip
    sums = torch.zeros(len(unit), 2, dtype=torch.float64).index_add_(0, of_unit, further)
    mean = sums * len(unit) / len(further)  # the mean over units is the mean over all starts
    bounds, p = cluster_mean_interval(mean), cluster_robust_t(sums).p
    return {
        f"{name}_{column}": float(values[number])
        for number, name in enumerate(names)
        for column, values in zip(columns, (bounds.estimate, bounds.low, bounds.high, p),
                                  strict=True)
    } | {"n_shifted": len(further)}  # fmt: skip


def _shift_rows(ended: Ended) -> Iterator[Row]:
    """Attractor shift of each intervened feature, beside a random step of the same size."""
    found = ended.found
    for feature in found["shift_feature"].unique().tolist():
        mine = found["shift_feature"] == feature

        def mean(name: str, rows: Tensor = mine) -> float:
            return float(found[f"shift_{name}"][rows].double().mean())

        yield {
            "site": ended.site, "layer": layer_of(ended.site), "feature": feature,
            "n": int(mine.sum()), "angle": mean("angle"), "angle_random": mean("angle_random"),
            "switched": mean("switched"), "switched_random": mean("switched_random"),
            "barrier": mean("barrier"),
        }  # fmt: skip


def attractor_figures(rows: Mapping[str, Sequence[Row]]) -> dict[str, Estimate]:
    """Figures of the summary: how many converge, and how many basins are sinks."""
    sites, basins = rows["attractors"], rows["basins"]
    starts, converged = (sum(row[name] for row in sites) for name in ("n_starts", "converged"))
    random = sum(row["n_random"] for row in sites)
    chance = sum(row["converged_random"] for row in sites) / max(random, 1)
    share = wilson_interval(torch.tensor(converged), torch.tensor(starts))
    sinks = sum(row["sink"] for row in basins)
    bounds = poisson_interval(torch.tensor(sinks))
    return {
        "attractors_converged": Estimate(
            float(share.estimate), "share of starts", low=float(share.low), high=float(share.high),
            null_mean=chance, null_sd=math.sqrt(chance * (1 - chance) / max(random, 1)), n=starts,
            n_unit="states", label="Descents that reach a floor",
            note="entropy of the tuned lens; null: random states alike"),
        "attractor_sinks": Estimate(
            sinks, f"of {len(basins):,} basins", low=float(bounds.low), high=float(bounds.high),
            null_mean=LEVEL, null_sd=math.sqrt(LEVEL), n=starts, n_unit="states",
            label="Basins that hold more than random states",
            note="null: random states alike, Benjamini–Hochberg at .05"),
    }  # fmt: skip
