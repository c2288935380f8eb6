"""Tables of what was measured, one row a feature, a site, a control or an intervention."""

from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from energylens.core.ports import Store
from energylens.core.sites import layer_of
from energylens.features.evaluate import loss_recovered
from energylens.stats.bootstrap import weighted_means_interval
from energylens.stats.rates import wilson_interval
from energylens.stats.robust import cluster_mean_interval
from energylens.studies.energy_lens import EnergyLens
from energylens.studies.energy_lens.bench import Bench
from energylens.studies.energy_lens.calibration import (
    calibration_by_rule,
    calibration_rows,
    pooled_calibration,
)
from energylens.studies.energy_lens.contest_tables import (
    completeness_rows,
    contest_rows,
    saliency_rows,
)
from energylens.studies.energy_lens.lens import LENS, TUNED
from energylens.studies.energy_lens.parts import part_of
from energylens.studies.energy_lens.passes import Pass
from energylens.studies.energy_lens.proof import KINDS
from energylens.studies.energy_lens.scoring import Scored
from energylens.studies.energy_lens.statistics import Inference, SiteScores
from energylens.studies.energy_lens.tally import CODE_OF, HEADLINE

Row = dict[str, Any]
QUANTILES = (5, 25, 50, 75, 95)
EXPECTED = "about 5 % of features at p < .05, no discovery"


def table(rows: list[Row]) -> pa.Table:
    """Rows to an Arrow table; no rows give an empty one."""
    return pa.Table.from_pylist(rows)


def feature_rows(
    benches: Mapping[str, Bench], scored: Scored, inference: Inference
) -> Iterator[Row]:
    """Every feature of every site, scored or not."""
    for site in benches:
        scores = inference.headline[site]
        total = scored.total(f"{site}/features/total")
        active = scored.total(f"{site}/features/active")
        samples = float(scored.total(f"{site}/features/samples"))
        fired = active > 0
        columns = {
            "density": active / samples,
            "mean_activation": total / torch.where(fired, active, torch.nan),
            "max_activation": torch.where(fired, scored.largest(site, len(total)), torch.nan),
            "n_active": active.long(), "n_documents": scores.n_units.long(),
            **{name: getattr(scores, name)
               for name in ("efas", "low", "high", "t", "p", "q", "p_max_t", "p_documents",
                            "p_rows", "attribution", "beyond")},
            **{f"{name}_{energy}": getattr(inference.energies[energy][site], name)
               for energy in inference.energies if energy != inference.headline_name
               for name in ("efas", "p_max_t")},
            "defined": scores.scored, "agree": inference.replicated[site],
        }  # fmt: skip
        for f, values in enumerate(zip(*(c.tolist() for c in columns.values()), strict=True)):
            row = dict(zip(columns, values, strict=True))
            defined, agree = row.pop("defined"), row.pop("agree")
            status = "scored" if defined else "too few active" if row["n_active"] else "dead"
            yield {
                "site": site, "layer": layer_of(site), "feature": f, "status": status, **row,
                "replicated": agree if row["beyond"] else None,
                "verdict": _verdict(defined, row["beyond"], row["efas"]),
            }  # fmt: skip


def _verdict(defined: bool, beyond: bool, efas: float) -> str:
    if not defined:
        return "undefined"
    if not beyond:
        return "within chance"
    return "attractor" if efas > 0 else "repulsor"


def layer_rows(inference: Inference) -> Iterator[Row]:
    """One row a site and energy: how many features are beyond chance, and how EFAS spreads."""
    for energy, sites in inference.energies.items():
        for site, scores in sites.items():
            efas = scores.efas[scores.scored]
            null = inference.controls["permuted decoder"][site]
            null_efas = null.efas[null.scored]
            top = _largest(scores)
            yield {
                "site": site, "layer": layer_of(site), "energy": energy,
                "scored": int(scores.scored.sum()), "undefined": int((~scores.scored).sum()),
                "beyond": int(scores.beyond.sum()),
                "attractors": int((scores.beyond & (scores.efas > 0)).sum()),
                "repulsors": int((scores.beyond & (scores.efas < 0)).sum()),
                "largest_efas": top[0], "largest_low": top[1], "largest_high": top[2],
                "threshold_t": scores.threshold,
                "threshold_efas_median": _median_threshold(scores),
                **_rate(scores),
                "replicated": (int((inference.replicated[site] & scores.beyond).sum())
                               if energy == inference.headline_name else None),
                **{f"quantile_{q:02d}": _quantile(efas, q) for q in QUANTILES},
                "null_05": _quantile(null_efas, 5), "null_95": _quantile(null_efas, 95),
            }  # fmt: skip


def _largest(scores: SiteScores) -> tuple[float, float, float]:
    if not bool(scores.scored.any()):
        return (float("nan"),) * 3
    f = int(scores.efas.abs().nan_to_num(-1).argmax())
    return float(scores.efas[f]), float(scores.low[f]), float(scores.high[f])


def _median_threshold(scores: SiteScores) -> float:
    """EFAS at which a typical feature would be beyond chance: its own scale, the family's |t|."""
    ratio = (scores.efas / scores.t).abs()[scores.scored]
    return float(ratio.nanmedian()) * scores.threshold if len(ratio) else float("nan")


def _quantile(values: Tensor, percent: int) -> float:
    return float(values.quantile(percent / 100)) if len(values) else float("nan")


def control_rows(inference: Inference) -> Iterator[Row]:
    """Every control: rate of p < .05, discoveries, largest |EFAS|."""
    for control, sites in inference.controls.items():
        for site, scores in sites.items():
            n = int(scores.scored.sum())
            discoveries = int(scores.beyond.sum())
            largest = scores.efas[scores.scored].abs()
            yield {
                "control": control, "energy": inference.headline_name, "site": site,
                "layer": layer_of(site),
                "scored": n, "documents": scores.documents,
                "discoveries": discoveries,
                **_rate(scores),
                "largest": float(largest.max()) if len(largest) else float("nan"),
                "expected": EXPECTED, "passed": discoveries <= allowed(n),
            }  # fmt: skip


def _rate(scores: SiteScores) -> Row:
    """Share of scored features with p below .05, with its Wilson interval."""
    p = scores.p[scores.scored]
    rate = wilson_interval((p < 0.05).sum(), torch.tensor(len(p)))
    return {
        "rate_at_05": float(rate.estimate), "rate_low": float(rate.low),
        "rate_high": float(rate.high),
    }  # fmt: skip


def allowed(scored: int) -> int:
    """Discoveries a control may make at one site and still pass.

    Max-T lets a family have any discovery once in twenty; features that fire together make it a
    few at once. Half a percent of the features, at least one, is far below any real finding.
    """
    return max(1, round(0.005 * scored))


def dictionary_rows(
    benches: Mapping[str, Bench], scored: Scored, store: Store, *, model: str, label: str, seed: int
) -> Iterator[Row]:
    """Held-out reconstruction of every dictionary, beside random directions of the same k."""
    generator = torch.Generator().manual_seed(seed)
    for site, bench in benches.items():
        record = store.record(part_of(f"dictionary.{model}", site))
        samples = scored.total(f"{site}/features/samples")
        residual, variance = residual_and_variance(scored, site)
        fvu = weighted_means_interval(residual, variance, draws=1000, generator=generator)
        active = scored.total(f"{site}/features/active")
        row = {
            "site": site, "layer": layer_of(site), "d_in": bench.dictionary.d_in,
            "width": bench.dictionary.width, "k": bench.dictionary.k,
            "tokens": record["rows"], "steps": record["steps"],
            "fvu": float(fvu.estimate), "fvu_low": float(fvu.low), "fvu_high": float(fvu.high),
            "fvu_null": _defined(record["fvu_random"]), "l0": float(active.sum() / samples),
            "dead_share": float((active == 0).double().mean()), "model": label,
            **dict.fromkeys(("loss_recovered", "loss_clean", "loss_ablated", "loss_reconstructed"),
                            float("nan")),
        }  # fmt: skip
        substitution = part_of("substitution", site)
        if store.done(substitution) and model == "trained":
            clean, ablated, rebuilt = store.tensors(substitution)["losses"].mean(1)
            row |= {
                "loss_clean": float(clean), "loss_ablated": float(ablated),
                "loss_reconstructed": float(rebuilt),
                "loss_recovered": float(loss_recovered(clean, ablated, rebuilt)),
            }  # fmt: skip
        yield row


def residual_and_variance(scored: Scored, site: str) -> tuple[Tensor, Tensor]:
    """What the dictionary leaves, and the variance about the mean of all text, by document."""
    samples, total = scored.all(f"{site}/features/samples"), scored.all(f"{site}/sum")
    mean = total.sum(0) / samples.sum()
    variance = scored.all(f"{site}/square") - 2 * total @ mean + samples * mean.square().sum()
    return scored.all(f"{site}/residual"), variance


def depth_rows(benches: Mapping[str, Bench], scored: Scored) -> Iterator[Row]:
    """Mean energy by depth; the downstream energy is the model's loss, the same at every site."""
    loss = scored.loss_by_unit()
    for site in benches:
        means = {name: lens_mean(scored if name == TUNED else scored.half_b, site, name)
                 for name in LENS}  # fmt: skip
        for energy, by_unit in (means | {HEADLINE: loss}).items():
            mean = cluster_mean_interval(by_unit[:, None])
            yield {
                "energy": energy, "site": site, "layer": layer_of(site),
                "mean": float(mean.estimate), "low": float(mean.low), "high": float(mean.high),
                "n_documents": len(by_unit),
            }  # fmt: skip


def lens_mean(scored: Scored, site: str, energy: str) -> Tensor:
    """Mean energy of each document."""
    samples = scored.all(f"{site}/{CODE_OF[energy]}/features/samples")
    return scored.all(f"{site}/mean/{energy}") / samples


def lens_rows(benches: Mapping[str, Bench]) -> Iterator[Row]:
    """How far the lens is from the model's own output at each site, raw and tuned."""
    for site, bench in benches.items():
        assert bench.translator is not None
        yield {
            "site": site, "layer": layer_of(site), "kl_raw": bench.translator.kl_untuned,
            "kl_tuned": bench.translator.kl,
        }  # fmt: skip


def _defined(value: float | None) -> float:
    """What a record says; JSON has null for what is undefined."""
    return float("nan") if value is None else value


def sink_rows(benches: Mapping[str, Bench], scored: Scored) -> Iterator[Row]:
    """Norms of states: the first position's massive activation is why it is left out."""
    for site in benches:
        norms, massive = scored.all(f"{site}/norms"), scored.all(f"{site}/massive")
        yield {
            "site": site, "layer": layer_of(site), "norm_median": float(norms[:, 1:].median()),
            "norm_max": float(norms.max()), "norm_first": float(norms[:, 0].median()),
            "massive_elsewhere": int(massive.sum()), "positions": massive.numel(),
        }  # fmt: skip


def effect_rows(store: Store, sites: Mapping[str, Bench], documents: Mapping[str, Tensor]) -> (
    Iterator[Row]
):  # fmt: skip
    """One row a feature and intervention: predicted and measured change, mean over windows."""
    for site in sites:
        part = part_of("proof", site)
        proof, record = store.tensors(part), store.record(part)
        chosen, energies = record["choices"], record.get("energies", LENS)
        for feature, rule in chosen:
            for number, kind in enumerate(KINDS):
                mine = (proof["feature"] == feature) & (proof["kind"] == number)
                if not bool(mine.any()):
                    continue
                measured = proof["measured"][mine].double()
                several = len(measured) > 1
                bounds = cluster_mean_interval(measured[:, None]) if several else None
                document = documents[site][proof["window"][mine]]
                lens = proof["lens"][mine].mean(0).tolist()
                yield {
                    "site": site, "layer": layer_of(site), "feature": feature,
                    "intervention": kind, "chosen_by": rule, "n_contexts": int(mine.sum()),
                    "n_documents": int(document.unique().numel()),
                    "predicted": float(proof["predicted"][mine].mean()),
                    "measured": float(measured.mean()),
                    "low": float(bounds.low) if bounds else float("nan"),
                    "high": float(bounds.high) if bounds else float("nan"),
                    "kl": float(proof["kl"][mine].mean()),
                    **{f"{what}_{energy}": lens[len(energies) * measured + number]
                       for number, energy in enumerate(energies)
                       for measured, what in enumerate(("predicted", "measured"))},
                }  # fmt: skip


def measurement_tables(
    trained: Pass, control: Pass | None, inference: Inference, store: Store, options: EnergyLens
) -> dict[str, pa.Table]:
    """Every table but those of the feature pages."""
    benches, scored = trained.benches, trained.scored
    documents = {site: trained.documents_of_half_b for site in benches}
    dictionaries = list(dictionary_rows(benches, scored, store, model="trained", label="trained",
                                        seed=options.seed))  # fmt: skip
    if control is not None:
        dictionaries += dictionary_rows(control.benches, control.scored, store,
                                        model="random_weights", label="random weights",
                                        seed=options.seed)  # fmt: skip
    return {
        "features": table(list(feature_rows(benches, scored, inference))),
        "layers": table(list(layer_rows(inference))),
        "controls": table(list(control_rows(inference))),
        "dictionaries": table(dictionaries),
        "depth": table(list(depth_rows(benches, scored))),
        "lenses": table(list(lens_rows(benches))),
        "token_sites": table(list(sink_rows(benches, scored))),
        "effects": table(list(effect_rows(store, benches, documents))),
        "calibration": table(list(calibration_rows(store, benches, documents,
                                                   seed=options.seed))),
        "calibration_rules": table(list(calibration_by_rule(store, benches, documents,
                                                            seed=options.seed))),
        "calibration_pooled": table([pooled_calibration(store, benches, documents,
                                                        seed=options.seed)]),
        "contest": table(list(contest_rows(store, list(benches), documents, seed=options.seed))),
        "saliency": table(list(saliency_rows(store, list(benches), documents))),
        "completeness": table(list(completeness_rows(store, list(benches)))),
    }  # fmt: skip
