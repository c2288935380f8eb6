"""What is planted is known: the study must say so, and must say so of nothing else."""

import json
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
import torch

from energylens.cli import main
from energylens.core.errors import BadInput
from energylens.report.figures import planted, planted_forces
from energylens.report.page import build
from energylens.report.records import Records
from energylens.run.execute import execute
from energylens.studies.planted_energies import PlantedEnergies
from energylens.studies.planted_energies.forces import force_rows
from energylens.studies.planted_energies.networks import (
    block_network,
    digits,
    hopfield_network,
    one_memory,
    random_block,
    random_patterns,
    seeded,
    simplex,
)
from energylens.studies.planted_energies.recovery import recover, settle
from tests.common.compare import assert_close
from tests.common.run_directory import columns_there, described_tables
from tests.oracles.fixed_points import block_fixed_point, hopfield_fixed_point

SMALL = dict(
    networks=4, patterns=(3,), betas=(32.0,), dimension=16, noises=(0.1, 0.5), memories=3,
    d_model=8, tokens=2, attention=(0.0,), draws=199,
)  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run that was killed on the way and taken up again: where, its summary, page and words."""

    class Killed(BaseException):
        pass

    def kill(line: str) -> None:
        if line.startswith("paths"):
            raise Killed

    monkeypatch = pytest.MonkeyPatch()
    # Fewer networks than any run may have: this one is about records, not about intervals.
    monkeypatch.setattr("energylens.run.execute.check_options", lambda options: None)
    options, out = PlantedEnergies(**SMALL), tmp_path_factory.mktemp("planted") / "out"
    with pytest.raises(Killed):
        execute("planted-energies", options, out, say=kill)
    said: list[str] = []
    summary = execute("planted-energies", options, out, say=said.append).summary
    monkeypatch.undo()
    return out, summary, build(out).read_text(encoding="utf-8"), said


def rows(run, name: str) -> list[dict]:
    return pq.read_table(run / "tables" / f"{name}.parquet").to_pylist()


# ---- networks


@pytest.mark.parametrize("beta", [1.0, 12.0])
def test_hopfield_networks_settle_where_a_slow_iteration_does(beta):
    patterns = random_patterns(5, 12, 0.3, seeded(0, "oracle"))
    found = settle(hopfield_network(patterns, beta), patterns)
    assert bool(found.still.all()) and found.rise <= 1e-12
    for state, start in zip(found.states, patterns, strict=True):
        assert_close(state, hopfield_fixed_point(patterns, start, beta), atol=1e-7)


def test_energy_transformers_settle_where_a_slow_iteration_does():
    generator = seeded(0, "oracle")
    memories = simplex(3, 8, generator)
    block = random_block(memories, 0.5, generator)
    planted = memories[torch.tensor([[0, 1], [2, 2]])] * 8**0.5
    found = settle(block_network(block, planted, 0.5), planted.flatten(1))
    assert bool(found.still.all())
    for state, start in zip(found.states.view(-1, 2, 8), planted, strict=True):
        assert_close(state, block_fixed_point(start, block, 0.5), atol=1e-6)


def test_memories_stand_as_far_apart_as_they_can():
    memories = simplex(4, 9, seeded(0, "simplex"))
    cosines = memories @ memories.T
    assert_close(cosines[0, 1:], torch.full((3,), -1 / 3, dtype=torch.float64), atol=1e-12)
    assert_close(memories.sum(1), torch.zeros(4, dtype=torch.float64), atol=1e-12)
    assert not torch.allclose(memories, simplex(4, 9, seeded(1, "simplex")))


def test_patterns_are_as_alike_as_was_asked():
    patterns = random_patterns(400, 256, 0.5, seeded(0, "alike"))
    cosines = patterns @ patterns.T
    assert_close(torch.linalg.vector_norm(patterns, dim=1), torch.ones(400, dtype=torch.float64))
    assert float(cosines[~torch.eye(400, dtype=torch.bool)].mean()) == pytest.approx(0.5, abs=0.02)
    assert digits().shape == (1797, 64)


# ---- recovery


def network(beta: float, seed: int = 0):
    return hopfield_network(random_patterns(6, 32, 0.0, seeded(seed, "patterns")), beta)


def test_what_is_planted_comes_back_and_nothing_else_does():
    whole, by_noise = recover(network(32.0), network(32.0, 1), (0.1, 0.5), seeded(0, "starts"))
    assert whole["own_minima"] == whole["basins"] == whole["reached"] == 6
    assert whole["converged"] == whole["at_fixed"] == whole["as_own"] == 1
    assert whole["off_fixed"] < 1e-5 and 1 - whole["cosine"] < 1e-6 < 1 - whole["cosine_other"]
    for row in by_noise:
        assert row["recovered"] == 1 > row["recovered_random"]
        assert row["recovered_other"] == 0


def test_where_patterns_share_a_minimum_nothing_is_called_recovered():
    whole, by_noise = recover(network(0.5), network(0.5, 1), (0.1,), seeded(0, "starts"))
    assert whole["minima"] == whole["shared_minima"] == whole["basins"] == 1
    assert whole["own_minima"] == 0 and by_noise[0]["recovered"] == 0
    assert whole["at_fixed"] == 1  # the mean state is a minimum all the same


def test_a_network_that_lies_about_its_update_is_caught():
    honest = network(32.0)
    turned = replace(honest, move=lambda states: honest.move(states).flip(1))
    whole, _ = recover(turned, network(32.0, 1), (0.1,), seeded(0, "starts"))
    assert 1 - whole["cosine"] > 0.01


# ---- forces


def by_kind(found: list[dict], analysis: str = "own energy") -> dict[str, dict]:
    return {row["kind"]: row for row in found if row["analysis"] == analysis}


def test_efas_is_the_correlation_with_the_networks_own_move():
    found = force_rows(network(32.0), network(32.0, 1), draws=199, generator=seeded(0, "forces"))
    assert all(row["closed_form_error"] < 1e-9 for row in found)
    kinds = by_kind(found)
    assert kinds["planted"]["attractors_both"] > 0.8 and kinds["planted"]["repulsors_signs"] == 0
    assert kinds["pulled back"]["repulsors_both"] == 1
    assert abs(kinds["distractor"]["efas"]) < 0.05 and kinds["distractor"]["any_both"] == 0
    # Another network knows nothing of these patterns: its energy pulls them back as well.
    assert by_kind(found, "another network's energy")["planted"]["attractors_both"] == 0


def test_at_low_beta_planted_directions_are_pulled_back():
    found = force_rows(network(0.5), network(0.5, 1), draws=199, generator=seeded(0, "forces"))
    assert by_kind(found)["planted"]["repulsors_both"] == 1


def test_the_null_of_rows_refuses_an_energy_of_one_direction():
    pair = one_memory(d_model=8, tokens=2, alpha=0.5).networks(2, 0)
    found = by_kind(force_rows(*pair, draws=199, generator=seeded(0, "forces")))["planted"]
    assert found["efas"] > 0.99 and found["attractors_signs"] == 1
    assert found["attractors_rows"] == found["attractors_both"] == 0


def test_families_of_nothing_are_rarely_found():
    wrong = 0
    for seed in range(20):
        found = force_rows(network(32.0, seed), network(32.0, seed + 1), draws=199,
                           generator=seeded(seed, "families"))  # fmt: skip
        wrong += any(row["any_both"] for row in found if row["analysis"] == "permuted rows"
                     or row["kind"] == "distractor")  # fmt: skip
    assert wrong <= 6  # four families each of 20 networks; at 5 % 4 or fewer networks are usual


# ---- the run


def test_the_run_says_what_was_planted(finished):
    out, summary, *_ = finished
    assert summary.grade == "control" and all(c.passed for c in summary.controls.values())
    sharp = [row for row in rows(out, "planted_minima") if row["setting"] == 32]
    assert all(row["cosine"] > 1 - 1e-6 and row["off_fixed"] < 1e-5 for row in sharp)
    assert len(rows(out, "planted_networks")) == 4 * (3 + 1)
    for row in rows(out, "planted_recovery"):
        assert row["recovered_other"] == 0 and 0 <= row["recovered_low"] <= row["recovered_high"]
    name = "recovered.digits.beta_32"
    stated = summary.figures[name]
    there = next(row for row in rows(out, "planted_recovery") if row["noise"] == 0.5
                 and row["subject"] == "digits" and row["setting"] == 32)  # fmt: skip
    assert stated.value == there["recovered"] and stated.null_mean == there["recovered_random"]
    assert name in summary.cards


def test_its_tables_are_described_and_its_page_has_every_figure(finished):
    out, summary, page, _ = finished
    there = columns_there(out)
    assert there == {name: described_tables()[name] for name in there}
    assert page.count("<figure id=") == 5 and page.count('class="card"') == len(summary.cards)
    for section in ("planted_recovery", "planted_minima", "planted_paths", "planted_direction",
                    "planted_features", "method-planted", "method-planted-forces"):  # fmt: skip
        assert f'id="{section}"' in page
    inputs = json.loads((out / "run.json").read_text())["inputs"]
    assert inputs["digits"]["images"] == 1797


def test_other_studies_have_none_of_its_figures():
    nothing = Records(run={}, summary={})
    makers = (planted.recovery, planted.minima, planted.paths, planted.direction)
    assert not [make for make in (*makers, planted_forces.figure) if make(nothing)]


def test_it_resumes_setting_by_setting(finished):
    out, _, _, said = finished
    assert said[0].startswith("paths") and not [x for x in said if x.startswith("recovery")]
    assert not (out / "scratch").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"betas": (16.0, 0.0)}, "option --betas is 0.0: it must be"),
        ({"betas": (-4.0,)}, "option --betas is -4.0"),
        ({"betas": (float("nan"),)}, "option --betas is nan"),
        ({"patterns": (0,)}, "option --patterns is 0: it must be 2 to 512"),
        ({"patterns": (8, 8)}, "option --patterns has 2 numbers, 1 of them different"),
        ({"noises": (-0.1,)}, "option --noises is -0.1: it must be 0 to 100"),
        ({"noises": ()}, "option --noises has 0 numbers"),
        ({"networks": 5}, "option --networks is 5: it must be 20 to 1,000"),
        ({"alpha": 0.0}, "option --alpha is 0.0"),
        ({"patterns": (64,)}, "--patterns of at least 64 in --dimension 64"),
        ({"memories": 16}, "--memories 16 of --d-model 16 cannot all be far apart"),
    ],
)
def test_bad_input_is_one_sentence_before_any_work(change, words, tmp_path):
    with pytest.raises(BadInput, match=words):
        execute("planted-energies", PlantedEnergies(**change), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_command_line_refuses_with_exit_code_2(tmp_path, capsys):
    words = ["run", "planted-energies", "--betas", "0", "--out", str(tmp_path / "out")]
    assert main(words) == 2
    assert "--betas" in capsys.readouterr().err and not (tmp_path / "out").exists()
