"""No table shows a p without its level, and levels are what docs/levels.md says of them."""

import pytest
import torch
from tools import level_table
from tools.levels.world import Claim, World, measure, verdict

from tests.common.run_directory import described_tables

# Worlds of inferences that no other test simulates, and that take a second or three.
QUICK = (
    "basins", "ability", "ability by class", "ablation of the method", "behaviour by feature",
    "classes by feature", "accuracy of images", "accuracy by feature",
)  # fmt: skip
SLOW = tuple(name for name in level_table.WORLDS if name not in QUICK)


def test_every_inference_that_a_table_shows_has_its_level():
    shown = {f"{table}.{column}" for table, columns in level_table.shown_inferences().items()
             for column in columns}  # fmt: skip
    missing = sorted(shown - level_table.covered())
    assert not missing, f"add a claim to tools/levels for {missing} and run `make levels`"
    assert len(shown) > 60


def test_what_is_covered_exists():
    there = {f"{table}.{column}" for table, columns in described_tables().items()
             for column in columns}  # fmt: skip
    named = level_table.covered() | set(level_table.NO_INFERENCE)
    gone = sorted(c for c in named - there if not c.startswith("summary."))
    assert not gone, f"no table has {gone} any more"


@pytest.mark.parametrize(
    ("column", "says"),
    [("p", "something"), ("p_new", ""), ("new_p", ""), ("q", ""), ("null_new_p", ""),
     ("verdict", "which"), ("larger", "share with p < .05"), ("sure", "`q` ≤ .05"),
     ("found", "beyond chance"), ("can", "whether `low` is above chance")],
)  # fmt: skip
def test_a_new_inference_would_be_noticed(column, says):
    assert level_table._shows(column, says)


@pytest.mark.parametrize(
    ("column", "says"),
    [("passes", "windows"), ("positions", "looked at"), ("precision_low", "share with p < .05"),
     ("mean", "over documents"), ("predicted", "mean change of the loss")],
)  # fmt: skip
def test_other_columns_are_not_taken_for_one(column, says):
    assert not level_table._shows(column, says)


def test_the_page_of_levels_is_current():
    measured = level_table.kept()
    claims = {world.name: {claim.name for claim in world.claims}
              for world in level_table.WORLDS.values()}  # fmt: skip
    there = {name: set(found["claims"]) for name, found in measured.items()}
    assert there == claims, "run `make levels`: worlds or claims have changed"
    assert level_table.PAGE.read_text(encoding="utf-8") == level_table.page(measured), (
        "run `make levels ARGS=--page`: docs/levels.md differs from what was measured"
    )


@pytest.mark.parametrize(
    ("power", "wanted"), [(1.0, "holds"), (2.0, "too liberal"), (0.4, "conservative")]
)
@pytest.mark.parametrize("family", [False, True])
def test_the_verdict_sees_what_p_does(power, wanted, family):
    """Uniform p to some power: at 1 the level holds."""

    def draw(generator, planted):
        p = torch.rand(1 if family else 20, generator=generator) ** power
        return {"p": 1e-9 * p if planted else p}

    claim = Claim(name="p", columns=(), function="", null="", family=family)
    found = measure(World(name="made up", says="", claims=(claim,), draw=draw), sets=600)["p"]
    assert verdict(found, 0.05) == wanted
    assert found["power"] == 1.0
    assert found["tests"] == (600 if family else 12_000)


def test_undefined_tests_are_counted_and_not_rejected():
    def draw(generator, planted):
        return {"p": torch.tensor([torch.nan, 0.5])}

    claim = Claim(name="p", columns=(), function="", null="")
    found = measure(World(name="made up", says="", claims=(claim,), draw=draw), sets=30)["p"]
    assert (found["tests"], found["undefined"], found["levels"]["0.05"]["rate"]) == (30, 30, 0)


@pytest.mark.parametrize("name", [
    *QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)
])  # fmt: skip
def test_no_inference_is_more_liberal_than_the_page_says(name):
    """Forty data sets: enough to see a level of .05 that has become .2."""
    world = level_table.WORLDS[name]
    kept = level_table.kept()[name]["claims"]
    found = measure(world, sets=40, planted_sets=2)
    for claim in world.claims:
        for level in (f"{level:g}" for level in claim.levels):
            said = max(float(level), kept[claim.name]["levels"][level]["high"])
            low = found[claim.name]["levels"][level]["low"]
            assert low <= said + 0.02, f"{claim.name} at {level}: {low} or more, said {said}"
