"""Figures say what the tables say, in words and in points; without their table they are absent."""

from dataclasses import replace

import numpy as np
import pytest

from energylens.report.figure import draw
from energylens.report.figures import figures
from energylens.report.figures.volcano import threshold
from energylens.report.records import Records, Table
from tests.common.compare import assert_close

NEEDS = {
    "volcano": ["features"], "layers": ["layers"], "calibration": ["effects", "calibration"],
    "contest": ["contest"], "depth": ["depth"], "basins": ["attractors", "basin_map"],
    "text_classes": ["text_classes"], "controls": ["controls"],
    "dictionaries": ["dictionaries"],
    "behaviour": ["behaviour_tasks"],
}  # fmt: skip


def by_name(records):
    return {figure.name: figure for figure in figures(records)}


def undefined(table):
    """The same table with every measured number undefined; counts stay counts."""
    kept = {"layer", "feature", "peak", "rank", "scored", "undefined", "beyond", "attractors"}
    kept |= {"repulsors", "discoveries", "width", "k", "tokens", "steps", "d_in", "n_features"}
    kept |= {
        "n_documents",
        "n_contexts",
        "n_active",
        "n_starts",
        "converged",
        "diverged",
        "n",
        "sites",
        "n_tied",
    }
    kept |= {"n_basin", "n_class", "n_text", "n_random"}
    columns = {
        name: np.full(table.rows, np.nan)
        if isinstance(cells, np.ndarray) and name not in kept
        else cells
        for name, cells in table.columns.items()
    }
    if "verdict" in columns:
        columns["verdict"] = ["undefined"] * table.rows
    return replace(table, columns=columns)


def without(records, *names):
    return replace(records, tables={k: v for k, v in records.tables.items() if k not in names})


@pytest.mark.parametrize("name", NEEDS)
def test_a_figure_is_there_with_its_tables_and_absent_without(records, name):
    assert name in by_name(records)
    for table in NEEDS[name]:
        assert name not in by_name(without(records, table))


def test_the_basins_tell_what_holds_more_than_random_states(records):
    answer = by_name(records)["basins"].answer
    assert "117 of 120 states reach a floor" in answer
    assert "Of 9 basins, 3 hold more of the text" in answer and "40 %, random 10 %" in answer
    assert "“,” at layer 5 from number (9 of 16)" in answer
    assert "at 1 of 3 sites; largest difference +5 [+1, +9] points" in answer
    assert "states reach a floor" in by_name(without(records, "basins"))["basins"].answer


def test_kinds_of_text_tell_what_differs_and_what_features_are_drawn_to(records):
    figure = by_name(records)["text_classes"]
    assert figure.answer.startswith(
        "The loss differs most on numbers: −1 [−1.4, −.6] nats per token from that on all other "
        "text, beyond chance. Comparisons of one kind with all others that are beyond chance: 1 of "
        "4 in the model's own loss, 0 of 3 in effect of ablations, 0 of 12 in variance"
    )
    assert figure.answer.endswith(
        "6 of 18 features with a page are active more often on a kind of text than elsewhere, most "
        "often on numbers (6)."
    )
    alone = by_name(without(records, "feature_classes"))["text_classes"]
    assert "with a page" not in alone.answer and len(alone.panels) == 3
    none = replace(records.table("text_classes"), rows=0, columns={})
    assert "text_classes" not in by_name(
        replace(records, tables={**records.tables, "text_classes": none})
    )


def test_no_tables_no_figures():
    assert figures(Records(run={}, summary={})) == []


def test_the_volcano_counts_what_the_table_has(records):
    verdict = records.table("features").text("verdict")
    attractors, repulsors = verdict.count("attractor"), verdict.count("repulsor")
    scored = len(verdict) - verdict.count("undefined")
    answer = by_name(records)["volcano"].answer
    assert f"{attractors + repulsors} of {scored:,} scored features" in answer
    assert f"{attractors} attract" in answer and f"{repulsors} repel" in answer


def test_the_volcano_without_a_discovery_says_none(records):
    features = records.table("features")
    verdict = ["within chance" if v != "undefined" else v for v in features.text("verdict")]
    ones = np.where(np.isfinite(features.number("t")), 1.0, np.nan)
    none = replace(features, columns={**features.columns, "verdict": verdict, "p_max_t": ones})
    answer = by_name(replace(records, tables={"features": none}))["volcano"].answer
    assert answer.startswith("None of 1,059 scored features is beyond chance. The largest EFAS is")


def scored(t, p) -> Table:
    columns = {"t": np.array(t), "p_max_t": np.array(p)}
    return Table(name="features", columns=columns, rows=len(t))


def test_the_threshold_lies_between_the_last_within_and_the_first_beyond():
    assert_close(threshold(scored([-5.0, 4, 3, 1], [0.001, 0.04, 0.06, 1]), None), 3.5)
    assert_close(threshold(scored([-5.0, 4, 3, 1], [1.0, 1, 1, 1]), None), np.nan)
    assert_close(threshold(scored([-5.0], [0.001]), None), 5.0)


def test_the_threshold_that_the_study_gives_comes_first(records):
    assert_close(threshold(scored([-5.0], [0.001]), records.table("layers")), 4.2)


def test_layers_name_the_fullest_layer(records):
    layers = records.table("layers")
    most = int(layers.number("beyond").argmax())
    expected = f"Layer {int(layers.number('layer')[most])} holds the most"
    assert by_name(records)["layers"].answer.startswith(expected)


def test_controls_stand_beside_the_real_thing_in_one_table(records):
    figure = by_name(records)["controls"]
    what = next(column for column in figure.columns if column.name == "what").cells
    assert what.count("the real features") == 3 and len(what) == 15
    assert "1 is beyond chance" in figure.answer


def test_calibration_has_a_panel_a_site_and_says_the_worst(records):
    figure = by_name(records)["calibration"]
    assert len(figure.panels) == 3
    assert figure.answer.startswith("Slope .95 [.82, 1.10] (1 is a perfect prediction)")
    assert "Beyond its null at 3 of 3 sites: best at layer 25" in figure.answer


def test_the_contest_names_no_winner_that_is_not_clear_of_the_next(records):
    answer = by_name(records)["contest"].answer
    assert answer.startswith("The best scores are not told apart: attribution has Spearman ρ")
    assert "and gradient × activation may do as well." in answer
    assert "|EFAS|, measured on other text, has .50 [.40, .60]." in answer
    assert "On the 18 features chosen at random, attribution has" in answer
    assert answer.endswith("8 of 9 scores beat effects shuffled.")


def test_the_contest_names_a_winner_that_is_clear_of_all(records):
    contest = records.table("contest")
    low = np.where(contest.number("behind") > 0, 0.01, 0.0)
    clear = replace(contest, columns={**contest.columns, "behind_low": low})
    answer = by_name(replace(records, tables={"contest": clear}))["contest"].answer
    assert answer.startswith("Attribution ranks features best: Spearman ρ .85 [.75, .95], clear of")


def test_the_contest_says_which_score_could_not_enter_and_how_far_the_path_is_off(records):
    notes = by_name(records)["contest"].notes
    assert "no attention rollout: a kernel that makes no pattern" in notes
    assert "integrated gradients miss 10 % to 10 % of the change along their path, by site" in notes
    assert len(by_name(records)["contest"].panels) == 3


def test_depth_says_where_the_lens_is_worse_than_a_guess(records):
    assert "At 1 of 3 sites it is worse than a uniform guess." in by_name(records)["depth"].answer


def test_behaviour_says_what_the_model_can_and_how_the_strongest_compare(records):
    figure = by_name(records)["behaviour"]
    assert figure.answer == (
        "The model is beyond chance in 2 of 3 tasks. Ablated, its strongest features change"
        " its preference by 1.5, features that match them by .6 typical effects, beyond chance"
        " (p = .004). Doubled, its strongest features change its preference by 1.5, features that"
        " match them by .6 typical effects, within chance (p = .20)."
    )
    assert len(figure.panels) == 4
    assert any(note.startswith("cannot: capitals: needs 8 pairs") for note in figure.notes)
    accuracies = [cell for cell in figure.columns[1].cells if cell == "accuracy"]
    effects = records.table("behaviour").rows
    assert len(figure.columns[0].cells) == len(accuracies) + effects == 3 + 54


def test_a_model_that_can_do_nothing_has_one_panel_and_says_so(records):
    tasks = records.table("behaviour_tasks").equal("task", "capitals")
    figure = by_name(Records(run={}, summary={}, tables={"behaviour_tasks": tasks}))["behaviour"]
    assert figure.answer == (
        "The model is beyond chance in none of 1 task, so no effect on behaviour was measured."
    )
    assert len(figure.panels) == 1 and draw(figure)


def test_one_site_draws_in_one_panel(records):
    tables = {
        name: table.equal("site", "blocks.15.resid_post")
        for name, table in records.tables.items()
        if "site" in table.columns
    }
    tables["behaviour_tasks"] = records.table("behaviour_tasks")
    one = by_name(replace(records, tables=tables))
    assert one.keys() == NEEDS.keys()
    assert one["calibration"].answer.startswith("Slope .95 [.82, 1.10]")
    for figure in one.values():
        assert draw(figure)


@pytest.mark.parametrize("name", NEEDS)
def test_undefined_numbers_are_drawn_as_nothing_and_said(records, name):
    tables = {key: undefined(table) for key, table in records.tables.items()}
    found = by_name(replace(records, tables=tables))
    if name in found:
        assert draw(found[name])
        assert "nan" not in found[name].answer
