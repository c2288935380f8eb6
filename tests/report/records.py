"""A run folder with every table of the schema, made of noise, planted features and hostile text.

Nothing in it was measured: its grade is `control`, and the page says so in red.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

HOSTILE: tuple[str, ...] = (
    "</script><script>window.broken=1</script>",
    '"><svg onload="window.broken=2">',
    "<img src=x onerror=window.broken=3>",
    "<!--<script>",
    "'-alert(4)-'",
    "{{7*7}}{% raw %}",
    "javascript:window.broken=5",
    "\u202egnp.exe\u202c",
    "\x1b[31mred\x1b[0m",
    "a\x00b",
    "\ud800".encode("utf-8", "replace").decode(),
    "\u2028line\u2029paragraph",
    "x" * 5000,
    "$\\frac{1}{0}$",
    "&lt;b&gt;&amp;",
    "`${window.broken=6}`",
    "=HYPERLINK(0)",
    "]]><![CDATA[",
    "e\u0301\u0316\u0317\u0318\u0319" * 8,
    "</style><style>body{display:none}</style>",
)
SPEECH = (
    " the fiscal year ending June 30 , the expenditures were estimated at dollars and a surplus of "
    "revenue for Congress to act upon . I recommend that the law be amended so that peace and "
    "commerce with all nations may continue ; return self . model ( x ) def forward None import"
)
WORDS = SPEECH.split(" ")
LAYERS = (5, 15, 25)
TEXTS = ("code", "dialogue", "numbers", HOSTILE[0])


def site(layer: int) -> str:
    return f"blocks.{layer}.resid_post"


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How large the folder is: the default makes a page in about a second."""

    width: int = 400
    featured: int = 18
    contexts: int = 5
    tokens: int = 41


def write_run(folder: Path, *, seed: int = 0, scale: Scale | None = None) -> Path:
    """Write run.json, summary.json and all tables; returns the folder."""
    scale = scale or Scale()
    random = np.random.default_rng(seed)
    features = feature_rows(random, scale)
    chosen = pick(features, scale)
    tables = {
        "features": features,
        "featured": [featured_row(random, row) for row in chosen],
        "contexts": [c for row in chosen for c in context_rows(random, row, scale)],
        "effects": [e for row in chosen for e in effect_rows(random, row)],
        "calibration": [calibration_row(layer) for layer in LAYERS],
        "calibration_rules": [rule_row(rule) for rule in ("attribution", "efas", "random")],
        "calibration_pooled": [pooled_row()],
        "contest": contest_rows(),
        "saliency": [saliency_row(random, row) for row in chosen],
        "completeness": [completeness_row(layer) for layer in LAYERS],
        "depth": depth_rows(),
        "dictionaries": dictionary_rows(),
        "controls": control_rows(scale),
        "layers": [layer_row(features, layer) for layer in LAYERS],
        "attractors": [attractor_row(layer) for layer in LAYERS],
        "basins": [basin_row(layer, number) for layer in LAYERS for number in range(3)],
        "basin_labels": [label_row(layer, name) for layer in LAYERS for name in ("word", "number")],
        "basin_map": [row for layer in LAYERS for row in map_rows(layer)],
        **behaviour_tables(random, chosen),
        "text_documents": [
            {"class": kind, "training": 20, "held_out": 8, "half_b": 4} for kind in TEXTS
        ],
        "text_classes": text_rows(),
        "feature_classes": [
            row
            for number, feature in enumerate(chosen)
            for row in feature_class_rows(feature, number)
        ],
        "token_sites": [sink_row(layer) for layer in LAYERS],
    }
    (folder / "tables").mkdir(parents=True, exist_ok=True)
    for name, rows in tables.items():
        pq.write_table(pa.Table.from_pylist(rows), folder / "tables" / f"{name}.parquet")
    write_json(folder / "run.json", run_record())
    write_json(folder / "summary.json", summary_record(features))
    return folder


def write_json(path: Path, record: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(record, allow_nan=False, ensure_ascii=False), encoding="utf-8")


def feature_rows(random: np.random.Generator, scale: Scale) -> list[dict[str, Any]]:
    rows = []
    for layer in LAYERS:
        for feature in range(scale.width):
            rows.append(feature_row(random, layer, feature))
    return rows


def feature_row(random: np.random.Generator, layer: int, feature: int) -> dict[str, Any]:
    planted = feature % 61 == 7
    status = {0: "dead", 1: "too few active"}.get(feature % 17, "scored")
    status = "scored" if planted else status
    half = 0.02 * np.exp(0.4 * random.standard_normal())
    t = (1 if feature % 2 else -1) * random.uniform(4.4, 8) if planted else random.standard_t(40)
    efas = t * half / 2
    scored = status == "scored"
    p_max_t = float(min(1.0, 0.05 * np.exp(3 * (4.2 - abs(t)))))
    beyond = scored and p_max_t < 0.05
    verdict = ("attractor" if efas > 0 else "repulsor") if beyond else "within chance"
    nan = float("nan")
    density = float(random.lognormal(-5, 1))
    return {
        "site": site(layer), "layer": layer, "feature": feature, "status": status,
        "density": density if status != "dead" else 0.0,
        "mean_activation": float(random.lognormal(1, 0.3)) if scored else nan,
        "max_activation": float(random.lognormal(2, 0.3)) if scored else nan,
        "n_active": int(40_000 * density) + 30 * scored, "n_documents": 40 if scored else 2,
        "efas": efas if scored else nan,
        "low": efas - half if scored else nan, "high": efas + half if scored else nan,
        "t": t if scored else nan,
        "p": float(np.exp(-abs(t) * 1.5)) if scored else nan,
        "q": float(min(1, 8 * np.exp(-abs(t) * 1.4))) if scored else nan,
        "p_max_t": p_max_t if scored else nan, "p_documents": p_max_t if scored else nan,
        "p_rows": p_max_t / 2 if scored else nan, "beyond": beyond,
        "replicated": bool(feature % 3) if beyond else None,
        "attribution": efas * 0.01 if scored else nan,
        "verdict": verdict if scored else "undefined",
        "efas_surprisal": efas / 2 if scored else nan, "p_max_t_surprisal": 1.0 if scored else nan,
        "efas_free_energy": -efas if scored else nan,
        "p_max_t_free_energy": 0.7 if scored else nan,
        "efas_entropy": efas / 3 if scored else nan, "p_max_t_entropy": 0.9 if scored else nan,
        "efas_tuned": efas if scored else nan, "p_max_t_tuned": 0.02 if scored else nan,
    }  # fmt: skip


def pick(features: list[dict[str, Any]], scale: Scale) -> list[dict[str, Any]]:
    scored = [row for row in features if row["status"] == "scored"]
    return sorted(scored, key=lambda row: -abs(row["t"]))[: scale.featured]


def featured_row(random: np.random.Generator, row: dict[str, Any]) -> dict[str, Any]:
    activation = random.lognormal(1, 0.6, 300)
    slope = row["efas"] / 40
    force = slope * activation + 0.01 * random.standard_normal(300)
    counts, edges = np.histogram(activation, bins=24)
    hostile = HOSTILE[row["feature"] % len(HOSTILE)]
    words = [str(w) for w in random.choice(WORDS, 9)]
    measured = 100 * row["efas"]
    return {
        "site": row["site"], "layer": row["layer"], "feature": row["feature"],
        "activation_edges": edges.tolist(), "activation_counts": counts.tolist(),
        "scatter_activation": activation.tolist(), "scatter_force": force.tolist(),
        "scatter_slope": slope, "scatter_intercept": 0.0,
        "scatter_null_low": -0.001, "scatter_null_high": 0.001,
        "raised_tokens": [" year", hostile, *words[:6]],
        "raised_logits": np.linspace(4, 1.5, 8).tolist(),
        "lowered_tokens": [hostile, *words[2:9]],
        "lowered_logits": np.linspace(-3.2, -1, 8).tolist(),
        "neighbour_features": [(row["feature"] + k) % 61 for k in (1, 2, 3, 61)],
        "neighbour_cosines": [0.71, 0.52, 0.4, 0.31],
        "ablation_measured": measured, "ablation_low": measured - 4, "ablation_high": measured + 4,
        "ablation_predicted": measured * 1.1, "ablation_contexts": 12,
        "ablation_random": 0.4, "kl_mean": 0.03, "double_measured": -measured / 2,
        "shift_states": 4, "shift_angle": 0.21, "shift_angle_random": 0.2,
        "shift_switched": 0.25, "shift_switched_random": 0.0,
        "classes": ["word", "number", "punctuation", "code", hostile],
        "class_effects": [measured, 0.1, -measured / 3, float("nan"), 0.4],
    }  # fmt: skip


def context_rows(
    random: np.random.Generator, row: dict[str, Any], scale: Scale
) -> list[dict[str, Any]]:
    rows = []
    groups = ("top", "upper quarter", "median", "off, large force")
    for number, group in enumerate(groups):
        for rank in range(scale.contexts):
            tokens = [" " + str(w) for w in random.choice(WORDS, scale.tokens)]
            peak = scale.tokens // 2
            tokens[peak] = " fiscal" if rank % 2 else " year"
            tokens[peak + 2] = HOSTILE[(4 * rank + number) % len(HOSTILE)]
            tokens[peak - 6] = "\n"
            near = np.exp(-0.5 * ((np.arange(scale.tokens) - peak) / 1.5) ** 2)
            activation = near * (near > 0.3) * (6 - rank) * (group != "off, large force")
            force = row["efas"] * random.standard_normal(scale.tokens) + near * row["efas"]
            rows.append({
                "site": row["site"], "feature": row["feature"], "group": group, "rank": rank,
                "document": f"18{row['feature'] % 90 + 10} Annual message <{rank}>",
                "position": int(random.integers(20, 900)), "tokens": tokens,
                "activation": activation.tolist(), "force": force.tolist(), "peak": peak,
            })  # fmt: skip
    return rows


def effect_rows(random: np.random.Generator, row: dict[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for intervention, share in (("ablate", 1.0), ("double", -0.8), ("random direction", 0.0)):
        predicted = 100 * row["efas"] * (share or 1)
        measured = 0.95 * predicted * (share != 0) + random.normal(0, 1.2)
        rows.append({
            "site": row["site"], "layer": row["layer"], "feature": row["feature"],
            "intervention": intervention, "chosen_by": ["attribution", "efas", "random"][
                row["feature"] % 3
            ],
            "n_contexts": 12, "n_documents": 10, "predicted": predicted, "measured": measured,
            "low": measured - 1.5, "high": measured + 1.5, "kl": 0.02,
            "predicted_surprisal": predicted / 2, "measured_surprisal": measured / 2,
            "predicted_free_energy": float("nan"), "measured_free_energy": float("nan"),
            "predicted_entropy": 0.1, "measured_entropy": 0.2,
            "predicted_tuned": predicted, "measured_tuned": measured,
        })  # fmt: skip
    return rows


def calibration_row(layer: int) -> dict[str, Any]:
    return {
        "site": site(layer), "layer": layer, "slope": 0.95, "slope_low": 0.82, "slope_high": 1.1,
        "correlation": 0.8 + layer / 250, "correlation_low": 0.65, "correlation_high": 0.95,
        "n_features": 6, "n_documents": 40, "null_correlation_mean": 0.01,
        "null_correlation_sd": 0.11, "null_correlation_p": 0.001,
        "rank_correlation": 0.7, "rank_correlation_low": 0.5, "rank_correlation_high": 0.85,
        "null_rank_correlation_mean": 0.0, "null_rank_correlation_sd": 0.12,
        "null_rank_correlation_p": 0.002,
    }  # fmt: skip


def pooled_row() -> dict[str, Any]:
    row = calibration_row(15)
    del row["site"], row["layer"]
    return row | {"sites": len(LAYERS), "n_features": 18}


def rule_row(rule: str) -> dict[str, Any]:
    row = pooled_row()
    del row["sites"]
    return {"chosen_by": rule} | row | {"n_features": 6}


def attractor_row(layer: int) -> dict[str, Any]:
    return {
        "site": site(layer), "layer": layer, "n_starts": 40, "n_random": 80, "converged": 39,
        "diverged": 0, "converged_random": 78, "steps": 11.0, "start_energy": 3.1,
        "start_energy_low": 2.8, "start_energy_high": 3.4, "end_energy": 0.001,
        "turned": 0.15 + layer / 1000, "turned_random": 0.2, "kept_token": 0.85,
        "kept_token_low": 0.7, "kept_token_high": 0.93, "basins": 3, "alone": 6, "sinks": 1,
        "angle_excess": 0.01, "angle_excess_low": -0.02, "angle_excess_high": 0.04, "angle_p": 0.4,
        "switched_excess": 0.05, "switched_excess_low": 0.01, "switched_excess_high": 0.09,
        "switched_p": 0.001 if layer == 5 else 0.3, "n_shifted": 48,
    }  # fmt: skip


def basin_row(layer: int, number: int) -> dict[str, Any]:
    mass = 0.4 / (1 + number)
    return {
        "site": site(layer), "layer": layer, "basin": number,
        "token": [",", HOSTILE[0], " the"][number], "n_text": round(40 * mass), "n_random": 8,
        "mass": mass, "mass_low": mass / 2, "mass_high": 1.4 * mass, "mass_random": 0.1,
        "mass_random_low": 0.05, "mass_random_high": 0.18, "p": 1e-4 if number == 0 else 0.3,
        "q": 1e-3 if number == 0 else 0.4, "sink": number == 0,
    }  # fmt: skip


def label_row(layer: int, name: str) -> dict[str, Any]:
    return {
        "site": site(layer), "layer": layer, "basin": 0, "token": ",", "class": name, "n": 9,
        "n_basin": 16, "n_class": 12, "p": 1e-4 if name == "number" else 0.2,
        "q": 1e-3 if name == "number" else 0.3,
    }  # fmt: skip


def map_rows(layer: int) -> list[dict[str, Any]]:
    rows = []
    for start in range(60):
        turn, out = 2 * np.pi * (start % 3) / 3, float(start % 4 != 0)
        rows.append({
            "site": site(layer), "layer": layer, "document": start % 20, "basin": start % 3,
            "source": "text" if start < 20 else "random state",
            "token": [",", HOSTILE[0], " the"][start % 3], "start_token": " a",
            "x": 0.2 * np.sin(turn), "y": 0.2 * np.cos(turn), "end_x": out * np.sin(turn),
            "end_y": out * np.cos(turn), "energy": 1e-4, "start_energy": 3.0, "turned": 0.2,
            "converged": True,
        })  # fmt: skip
    return rows


CONTEST = {
    "attribution": 0.85, "gradient_x_activation": 0.8, "integrated_gradients": 0.75, "efas": 0.5,
    "attribution_elsewhere": 0.6, "direct_logit": 0.4, "activation": 0.45,
    "attention_rollout": float("nan"), "gradient_x_input": 0.35, "random": -0.04,
}  # fmt: skip


def contest_rows() -> list[dict[str, Any]]:
    """Attribution leads, but not clear of gradient × activation; there is no rollout."""
    rows = []
    places = [("all", None, "all"), ("all", None, "random")]
    places += [(site(layer), layer, "all") for layer in LAYERS]
    for where, layer, chosen_by in places:
        for score, rho in CONTEST.items():
            behind = 0.85 - rho
            rows.append({
                "site": where, "layer": layer, "chosen_by": chosen_by, "score": score,
                "n_features": 6 if layer else 18, "n_documents": 10, "n_tied": 0, "sites": 3,
                "spearman": rho, "low": rho - 0.1, "high": min(1.0, rho + 0.1),
                "null_mean": 0.0, "null_sd": 0.2, "p": 0.001 if rho > 0.3 else 0.4,
                "k": 1, "precision": max(rho, 0), "precision_low": 0.0, "precision_high": 1.0,
                "precision_null": 0.17, "behind": behind, "behind_low": behind - 0.07,
                "behind_high": behind + 0.07,
                "absent": "a kernel that makes no pattern" if np.isnan(rho) else "",
            })  # fmt: skip
    return rows


def saliency_row(random: np.random.Generator, row: dict[str, Any]) -> dict[str, Any]:
    return {
        "site": row["site"], "layer": row["layer"], "feature": row["feature"],
        "chosen_by": ["attribution", "efas", "random"][row["feature"] % 3], "n_contexts": 4,
        "n_documents": 4, "measured": 100 * row["efas"],
        **{score: float(random.standard_normal()) for score in CONTEST},
    }  # fmt: skip


def completeness_row(layer: int) -> dict[str, Any]:
    return {
        "site": site(layer), "layer": layer, "n_contexts": 8, "ablations": 30,
        "ablations_used": 24, "passes": 2, "change": -600.0, "summed": -540.0, "error": 0.1,
    }  # fmt: skip


def text_rows() -> list[dict[str, Any]]:
    """The loss on numbers is a nat lower; nothing else differs, and ablations are too few to say of
    dialogue."""
    places = [("logits", None, "downstream"), ("all sites", None, "ablation")]
    places += [(site(layer), layer, "fvu") for layer in LAYERS]
    rows = []
    for where, layer, quantity in places:
        for kind in TEXTS:
            apart = -1.0 if (quantity, kind) == ("downstream", "numbers") else 0.0
            here = {
                "n_documents": 8, "mean": 3 + apart, "low": 2.7 + apart, "high": 3.3 + apart,
                "null_low": 2.6, "null_high": 3.2, "rest": 3.0, "difference": apart,
                "difference_low": apart - 0.4, "difference_high": apart + 0.4,
                "p": 1e-4 if apart else 0.5, "q": 0.002 if apart else 0.6,
            }  # fmt: skip
            if (quantity, kind) == ("ablation", "dialogue"):
                here = dict.fromkeys(here, float("nan")) | {"n_documents": 3}
            rows.append({"site": where, "layer": layer, "quantity": quantity, "class": kind} | here)
    return rows


def feature_class_rows(row: dict[str, Any], number: int) -> list[dict[str, Any]]:
    """Every third feature is drawn to numbers, and away from code."""
    rows = []
    for kind in TEXTS:
        here = 0.02 if kind == "numbers" else 0.001 if kind == "code" else 0.01
        found = number % 3 == 0 and kind in ("numbers", "code")
        rows.append({
            "site": row["site"], "layer": row["layer"], "feature": row["feature"], "class": kind,
            "n_documents": 8, "density": here, "density_rest": 0.01, "ratio": here / 0.01,
            "p": 1e-4 if found else 0.4, "q": 0.01 if found else 0.5,
        })  # fmt: skip
    return rows


def depth_rows() -> list[dict[str, Any]]:
    curves = {
        "surprisal": lambda x: 11.5 - 8 * x**3,
        "free_energy": lambda x: -14 - 9 * x,
        "entropy": lambda x: 9 - 6 * x,
        "tuned": lambda x: 7 - 4 * x,
        "downstream": lambda x: 3.4 + 0 * x,
    }
    rows = []
    for energy, curve in curves.items():
        for layer in LAYERS:
            mean = float(curve(layer / 29))
            rows.append({
                "energy": energy, "site": site(layer), "layer": layer, "mean": mean,
                "low": mean - 0.15, "high": mean + 0.15, "n_documents": 40,
            })  # fmt: skip
    return rows


def dictionary_rows() -> list[dict[str, Any]]:
    rows = []
    for model, fvu in (("trained", 0.11), ("random weights", 0.42)):
        for step, layer in enumerate(LAYERS):
            value = fvu + 0.03 * step
            rows.append({
                "site": site(layer), "layer": layer, "d_in": 576, "width": 400, "k": 32,
                "tokens": 30_000, "steps": 300, "fvu": value, "fvu_low": value - 0.01,
                "fvu_high": value + 0.01, "fvu_null": 0.93, "l0": 32.0, "dead_share": 0.06,
                "loss_recovered": 0.97 - value / 4 if model == "trained" else float("nan"),
                "loss_clean": 3.4, "loss_ablated": 9.8, "loss_reconstructed": 3.7, "model": model,
            })  # fmt: skip
    return rows


CONTROLS = {
    "permuted decoder": (0.051, 0, True),
    "matched random directions": (0.048, 0, True),
    "activations of another document": (0.055, 1, False),
    "random-weight model": (0.046, 0, None),
}


def control_rows(scale: Scale) -> list[dict[str, Any]]:
    rows = []
    for control, (rate, discoveries, passed) in CONTROLS.items():
        for step, layer in enumerate(LAYERS):
            value = rate + 0.004 * (step - 1)
            rows.append({
                "control": control, "energy": "downstream", "site": site(layer), "layer": layer,
                "scored": scale.width - 48, "discoveries": discoveries * (step == 1),
                "rate_at_05": value, "rate_low": value - 0.02, "rate_high": value + 0.02,
                "largest": 0.08, "expected": "5 % of features at p < .05, no discovery",
                "passed": passed,
            })  # fmt: skip
    return rows


def layer_row(features: list[dict[str, Any]], layer: int) -> dict[str, Any]:
    rows = [r for r in features if r["layer"] == layer and r["status"] == "scored"]
    efas = np.array([r["efas"] for r in rows])
    top = max(rows, key=lambda r: abs(r["efas"]))
    quantiles = {
        f"quantile_{q:02d}": float(np.quantile(efas, q / 100)) for q in (5, 25, 50, 75, 95)
    }
    return {
        "site": site(layer), "layer": layer, "energy": "downstream", "scored": len(rows),
        "undefined": sum(r["layer"] == layer for r in features) - len(rows),
        "beyond": sum(r["beyond"] for r in rows),
        "attractors": sum(r["verdict"] == "attractor" for r in rows),
        "repulsors": sum(r["verdict"] == "repulsor" for r in rows),
        "largest_efas": top["efas"], "largest_low": top["low"], "largest_high": top["high"],
        "threshold_t": 4.2, "threshold_efas_median": 0.046, "rate_at_05": 0.068,
        "replicated": sum(bool(r["replicated"]) for r in rows),
        **quantiles, "null_05": -0.0165, "null_95": 0.0165,
    }  # fmt: skip


def sink_row(layer: int) -> dict[str, Any]:
    return {
        "site": site(layer), "layer": layer, "norm_median": 60.0, "norm_max": 7200.0,
        "norm_first": 6400.0,
    }  # fmt: skip


TASKS = {"agreement": "subject nouns", "capitals": "pairs of countries", "induction": "sequences"}


def behaviour_tables(
    random: np.random.Generator, chosen: list[dict[str, Any]]
) -> dict[str, list[dict[str, Any]]]:
    """Two tasks the model can do and one whose answers its vocabulary does not have."""
    nan = float("nan")
    tasks, effects, contrast = [], [], []
    for task, unit in TASKS.items():
        can = task != "capitals"
        tasks.append({
            "task": task, "question": f"Can it do {task}?", "items": 20 * can, "units": 10 * can,
            "unit": unit, "accuracy": 0.9 if can else nan, "low": 0.6 if can else nan,
            "high": 0.98 if can else nan, "chance": 0.5 if can else nan, "can": can,
            "why": "" if can else f"needs 8 pairs and found 0 {HOSTILE[0]}", "left_out": 7,
            "left_out_words": ["Accra", HOSTILE[1]],
        })  # fmt: skip
        for kind in ("ablate", "double", "clamp") if can else ():
            for number, row in enumerate(chosen[:9]):
                effect = float(random.normal(0, 0.1)) - 0.4 * (number % 3 == 0)
                effects.append({
                    "task": task, "site": row["site"], "layer": row["layer"],
                    "feature": row["feature"], "role": "matched" if number % 3 else "top",
                    "set": number // 3, "intervention": kind, "items": 20, "active_items": 12,
                    "units": 10, "effect": effect, "low": effect - 0.1, "high": effect + 0.1,
                    "accuracy_change": -0.1, "difference": effect, "difference_low": effect - 0.2,
                    "difference_high": effect + 0.2, "p": 0.01, "q": 0.03,
                })  # fmt: skip
    for task in ("agreement", "induction", "all tasks"):
        for kind, p in (("ablate", 0.004), ("double", 0.2), ("clamp", nan)):
            contrast.append({
                "task": task, "intervention": kind, "sets": 3, "top": 1.5, "matched": 0.6,
                "difference": 0.9, "low": 0.2, "high": 1.6, "null_sd": 0.3, "p": p, "p_max_t": p,
                "unit": "typical effects",
            })  # fmt: skip
    return {"behaviour_tasks": tasks, "behaviour": effects, "behaviour_contrast": contrast}


def run_record() -> dict[str, Any]:
    return {
        "schema": 1, "study": "energy-lens",
        "question": "Do sparse features follow the energy a model moves down?",
        "options": {"model": "tiny", "width": 400, "k": 32}, "key": "ab" * 32, "status": "done",
        "command": "energylens run energy-lens --model tiny",
        "started": "2026-11-21T09:14:03+00:00", "finished": "2026-11-21T09:19:15+00:00",
        "seconds": 312.4, "sittings": 1,
        "versions": {"energylens": "0.1.0", "python": "3.11.7", "torch": "2.13.0+cpu"},
        "hardware": {"machine": "x86_64", "processor": "made up", "cores": 2, "threads": 2,
                     "memory_gb": 23.4, "device": "cpu"},
        "code": {"version": "0.1.0", "git": None}, "seeds": [0],
        "inputs": {
            "model": {"name": "synthetic", "source": "tests", "sha256": "bc" * 32,
                      "family": "none"},
            "text": {"name": HOSTILE[0], "sha256": "de" * 32, "documents": 40},
        },
        "peak_memory_mb": 2103.5,
    }  # fmt: skip


def summary_record(features: list[dict[str, Any]]) -> dict[str, Any]:
    scored = [r for r in features if r["status"] == "scored"]
    beyond = [r for r in scored if r["beyond"]]
    top = max(beyond, key=lambda r: abs(r["efas"]))
    found = estimate(
        len(beyond), "features", low=len(beyond) - 6, high=len(beyond) + 8, null_mean=0.05,
        null_sd=0.22, n=len(scored), n_unit="features", undefined=len(features) - len(scored),
        label="Features beyond chance", note="max-T .05, joint over sites",
    )  # fmt: skip
    return {
        "schema": 1, "study": "energy-lens",
        "subject": "synthetic noise · planted features · no model",
        "finding": f"{len(beyond)} of {len(scored):,} features follow the energy beyond chance; "
        "a random-weight model: none.",
        "detail": "Nothing here was measured: every number was made up to try the page.",
        "grade": "control",
        "figures": {
            "features_beyond_chance.downstream": found,
            "efas_max.downstream": estimate(
                abs(top["efas"]), "correlation", low=abs(top["efas"]) - 0.03,
                high=abs(top["efas"]) + 0.03, null_mean=0.058,
                null_sd=0.007, p=0.0001, n=40, n_unit="documents", label="Largest |EFAS|",
                note=f"L{top['layer']}·{top['feature']}"),
            "calibration_correlation": estimate(
                0.84, "correlation", low=0.69, high=0.92, null_mean=0.01, null_sd=0.11, n=18,
                n_unit="features", label="Ablation calibration", note="predicted against measured"),
            "calibration_rank_correlation": estimate(
                0.7, "correlation", low=0.5, high=0.85, null_mean=0.0, null_sd=0.12, n=18,
                n_unit="features", label="The same, of ranks", note="predicted against measured"),
            "features_beyond_chance.random_weights": estimate(
                0, "features", low=0, high=3.7, null_mean=0.05, null_sd=0.22, n=1056,
                n_unit="features", label="Random-weight model", note="the same analysis"),
            "uniform_surprisal": estimate(10.8, "nats", label="Uniform guess", note="ln V"),
        },
        "controls": {
            "permuted_decoder": {"label": "Permuted decoder", "value": 0, "expected": 0,
                                 "passed": True, "sentence": "No feature beyond chance."},
            "other_document": {"label": "Activations of another document", "value": 1,
                               "expected": 0, "passed": False,
                               "sentence": f"One beyond chance, none expected. {HOSTILE[1]}"},
        },
        "cards": ["features_beyond_chance.downstream", "efas_max.downstream",
                  "calibration_correlation", "calibration_rank_correlation",
                  "features_beyond_chance.random_weights", "uniform_surprisal"],
        "limits": ["One seed: how much the dictionary itself varies is not known.",
                   "First-order attribution says nothing of what happens far from the state."],
        "suspicious": [],
    }  # fmt: skip


def estimate(value: float, unit: str, **rest: Any) -> dict[str, Any]:
    blank = dict.fromkeys(("low", "high", "null_mean", "null_sd", "p", "q"))
    return blank | {"value": value, "unit": unit, "n": 0, "n_unit": "", "undefined": 0,
                    "label": "", "note": ""} | rest  # fmt: skip
