"""The common analysis: planted events are found in its tables, and noise answers no question."""

import math
from dataclasses import replace

import pyarrow as pa
import pytest
import torch

from energylens.core.errors import BadInput
from energylens.dynamics.history import History
from energylens.dynamics.jumps import JumpOptions
from energylens.studies.dynamics_analysis.analyse import analyse
from energylens.studies.dynamics_analysis.events import dated, jump_rows
from energylens.studies.dynamics_analysis.hypotheses import Material, hypothesis_rows
from energylens.studies.dynamics_analysis.types import type_jumps
from tests.common.compare import assert_close
from tests.stats.test_stationarity import autoregressive

STEPS = torch.arange(0, 1000, 5)
MEASURES = ("stable_rank", "participation_ratio")


def history(generator, *, sites=3, jump=0.0, at=100):
    values = {
        name: 5 + 0.1 * autoregressive(sites, len(STEPS), 0.3, generator)
        + jump * (torch.arange(len(STEPS)) >= at)
        for name in MEASURES
    }  # fmt: skip
    return History(
        steps=STEPS, sites=tuple(f"layer{i}" for i in range(sites)), values=values,
        again={name: x + 0.01 for name, x in values.items()},
        ceiling=torch.full((sites,), 64),
        training={"loss": 2 * torch.exp(-STEPS / 100) + 0.05 * torch.rand(200, generator=generator)
                  },
    )  # fmt: skip


def info(run, family="mlp", **more):
    return {"run": run, "family": family, "architecture": family, "dataset": "one", "depth": 3,
            "parameters": 100, "num_steps": 1000, "final_accuracy": 0.9, "chance_accuracy": 0.1,
            **more}  # fmt: skip


@pytest.fixture(scope="module")
def analysed():
    g = torch.Generator().manual_seed(0)
    histories = {f"jumping{i}": history(g, jump=2.0, at=60 + 20 * i) for i in range(3)}
    histories |= {f"quiet{i}": history(g) for i in range(2)}
    histories["single"] = history(g, sites=1)
    runs = pa.Table.from_pylist([info(run) for run in histories])
    return histories, analyse(histories, runs, g, draws=800)


def test_planted_jumps_are_dated_at_every_site_and_nowhere_else(analysed):
    jumps = [row for row in analysed[1]["jumps"].to_pylist() if row["kind"] == "level"]
    for i in range(3):
        mine = [row for row in jumps if row["run"] == f"jumping{i}"]
        truth = 5 * (60 + 20 * i)
        near = {(row["site"], row["measure"]) for row in mine if abs(row["step"] - truth) <= 10}
        assert len(near) == 6
        assert all(0.9 < abs(row["amplitude"]) / 2 < 1.1 and row["direction"] == "up"
                   and row["low"] <= row["step"] <= row["high"] and 0.5 < row["size"] <= 1.1
                   for row in mine if abs(row["step"] - truth) <= 10)  # fmt: skip
    assert len(jumps) <= 20


def test_every_run_measure_and_site_has_its_rows(analysed):
    histories, tables = analysed
    sites = sum(len(h.sites) for h in histories.values())
    assert tables["settling"].num_rows == 2 * sites
    for name in ("order", "coordination", "loss_link"):
        assert tables[name].num_rows == 2 * len(histories)
    settled = [row for row in tables["settling"].to_pylist() if row["run"].startswith("jumping")]
    at = [row["settled_step"] for row in settled if not row["censored"]]
    assert len(at) >= 14
    assert sum(step in (300.0, 400.0, 500.0) for step in at) >= 0.8 * len(at)
    curves = tables["settling_curves"].to_pylist()
    assert {row["n"] for row in curves} == {sites}


def test_a_network_of_one_site_has_nan_and_a_pattern_of_none(analysed):
    tables = analysed[1]
    alone = [row for row in tables["coordination"].to_pylist() if row["run"] == "single"]
    assert all(math.isnan(row["strength"]) and math.isnan(row["q"]) for row in alone)
    jumping = [r for r in tables["coordination"].to_pylist() if r["run"].startswith("jumping")]
    assert all(row["max_coordination"] == 1 for row in jumping)


def test_hypotheses_have_effects_nulls_and_verdicts(analysed):
    rows = analysed[1]["hypotheses"].to_pylist()
    assert {"question", "hypothesis", "quantity", "effect", "unit", "low", "high", "null_mean",
            "null_sd", "p", "q", "n", "n_unit", "verdict"} <= set(rows[0])  # fmt: skip
    assert len({row["question"] for row in rows}) == 5
    for row in rows:
        assert (row["verdict"] == "undefined") == math.isnan(row["q"])
        assert (row["verdict"] in ("supported", "contradicted")) == (row["q"] <= 0.05)
    both = next(row for row in rows if "are jumps of" in row["hypothesis"])
    assert both["effect"] > 0.8 and both["null_mean"] < 0.3


def test_nothing_to_find_gives_tables_with_no_events(generator):
    histories = {f"quiet{i}": history(generator, sites=2) for i in range(2)}
    runs = pa.Table.from_pylist([info(run, final_accuracy=math.nan) for run in histories])
    tables = analyse(histories, runs, generator, measures=MEASURES[:1], draws=400)
    assert tables["jumps"].num_rows <= 1 and "type" in tables["jumps"].column_names
    assert tables["jump_types"].num_rows == 0
    verdicts = {row["verdict"] for row in tables["hypotheses"].to_pylist()}
    assert "contradicted" not in verdicts


def test_what_does_not_fit_together_is_refused(generator):
    histories = {"one": history(generator)}
    with pytest.raises(BadInput, match="differ in other"):
        analyse(histories, pa.Table.from_pylist([info("one"), info("other")]), generator)
    with pytest.raises(BadInput, match="not measured in spectral_exponent"):
        analyse(histories, pa.Table.from_pylist([info("one")]), generator,
                measures=("spectral_exponent",))  # fmt: skip


# ---- hypotheses from made-up tables


def material(generator, *, early=1.0, rho=0.0, linked=0.0, runs=24):
    """Runs whose jumps come `early` times as often in the first tenth, and settle by `rho`."""
    rows = [info(f"r{i}", ("cnn", "mlp", "transformer")[i % 3], depth=3 + i % 5,
                 final_accuracy=float(torch.rand(1, generator=generator)))
            for i in range(runs)]  # fmt: skip
    jumps, settling = [], []
    for row in rows:
        for _ in range(4):
            first = float(torch.rand(1, generator=generator)) < early / (early + 9)
            share = float(torch.rand(1, generator=generator))
            jumps.append({"run": row["run"], "site": "a", "phase": 0.1 * share if first else
                          0.1 + 0.9 * share})  # fmt: skip
        settling += [
            {"run": row["run"], "settled_step": float(1000 * torch.rand(1, generator=generator)),
             "censored": False} for _ in range(3)
        ]  # fmt: skip
    noise = torch.randn(6, runs, generator=generator)
    p = torch.rand(4, runs, generator=generator).clamp(min=0.01).tolist()
    none = {"null_mean": 1.0, "strength_course": 1.0, "null_mean_course": 1.0}
    return Material(
        measure="stable_rank", runs=rows, jumps=jumps, settling=settling, draws=800,
        histories={row["run"]: history(generator) for row in rows},
        order=[{"rho": rho + 0.3 * float(x)} for x in noise[0]],
        coordination=[{**none, "strength": 1.0, "p": a, "p_course": b}
                      for a, b in zip(p[0], p[1], strict=True)],
        loss_link=[{"correlation": 0.1, "null_mean": 0.1, "p": a, "base_rate": 0.5,
                    "share_falling": 0.5 + linked + 0.05 * float(x)}
                   for a, x in zip(p[2], noise[1], strict=True)],
        watched=torch.tensor([[0.0, 1.0]] * runs, dtype=torch.float64),
    )  # fmt: skip


def verdicts(generator, **planted):
    rows = hypothesis_rows([material(generator, **planted)], None, generator)
    return {row["hypothesis"]: row["verdict"] for row in rows}


def test_planted_effects_are_supported_or_contradicted_by_their_side(generator):
    found = verdicts(generator, early=8.0, rho=0.5, linked=0.1)
    assert found["jumps come early"] == "supported"
    assert found["layers settle from the input up"] == "supported"
    assert found["the loss falls when layers change fast"] == "supported"
    other = verdicts(generator, rho=-0.5, linked=-0.1)
    assert other["layers settle from the input up"] == "contradicted"
    assert other["the loss falls when layers change fast"] == "contradicted"


def test_events_without_a_date_do_not_say_when(generator):
    """Only in what asks for no date do they count: with 40 a run at no time, rates by family."""
    planted = material(generator, early=8.0)
    nowhere = [{"run": row["run"], "site": "a", "phase": math.nan} for row in planted.runs] * 40

    def found(jumps):
        g = torch.Generator().manual_seed(1)
        rows = hypothesis_rows([replace(planted, jumps=jumps)], None, g)
        return {row["hypothesis"]: row["effect"] for row in rows}

    before, after = found(planted.jumps), found([*planted.jumps, *nowhere])
    when = [name for name in before if name.startswith("jumps c")]
    assert len(when) == 3  # early, cease half-way, while the loss falls first
    assert_close(torch.tensor([after[name] for name in when]),
                 torch.tensor([before[name] for name in when]))  # fmt: skip
    rate = planted.rate()
    assert_close(replace(planted, jumps=nowhere).rate(), rate * 10)
    assert not replace(planted, jumps=nowhere).rate(torch.zeros(len(rate))).any()


def test_events_without_a_date_have_no_phase_and_no_type(generator):
    histories = {name: history(generator, jump=2.0) for name in ("a", "b")}
    steps = dict.fromkeys(histories, 1000)
    found = jump_rows(histories, steps, MEASURES[:1], torch.Generator(), JumpOptions())
    half = 0.5 * float(STEPS[-1])
    assert {row["high"] - row["low"] < half for row in found} == {True, False}  # of both kinds
    for row in found:
        known = row["high"] - row["low"] < half
        assert (row in dated(found)) == known
        assert row["phase"] == row["step"] / 1000 if known else math.isnan(row["phase"])
    near = 0.02 * torch.randn(40, 4, generator=generator)
    two = [{"kind": "level", "phase": at + x[0], "size": at + x[1], "speed": at + x[2],
            "amplitude": 1.0, "depth": at + x[3]}
           for i, x in enumerate(near.tolist()) for at in (0.2 + 0.6 * (i % 2),)]  # fmt: skip
    somewhere = dict(two[0]) | {"phase": math.nan}
    types = type_jumps([*two, somewhere], generator, 99)
    assert types is not None and types.sizes == (20, 20)
    assert somewhere["type"] is None and {row["type"] for row in two} == {0, 1}


def test_where_nothing_is_nothing_is_found(generator):
    """Over all hypotheses of a set, any finding in about one set of twenty."""
    sets = 5
    any_found = sum(
        bool({"supported", "contradicted"} & set(verdicts(generator).values())) for _ in range(sets)
    )
    assert any_found <= 2
