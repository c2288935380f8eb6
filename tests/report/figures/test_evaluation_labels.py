"""Figures of labels, from tables made by hand: words, drawings, nothing defined."""

import pytest

from energylens.report.figure import draw, write_files
from energylens.report.figures import evaluation_labels as labels
from energylens.report.records import Records
from tests.report.figures.test_evaluation import records

NAN = float("nan")
WORTH = {"dictionary": 0.3, "random": 0.1, "short": 0.2, "raw": 0.15, "pca": 0.25}


def ends(name: str, value: float, half: float = 0.05) -> dict:
    return {name: value, f"{name}_low": value - half, f"{name}_high": value + half}


def probed(contender: str, k: int, label: str, kind: str, value: float) -> dict:
    return {"dictionary": "one", "contender": contender, "labels": kind, "label": label, "k": k,
            "positives": 30, "n_documents": 12, **ends("auroc", 0.9), **ends("accuracy", 0.8),
            "control_auroc": 0.6, "control_accuracy": 0.6,
            **ends("selectivity", value)}  # fmt: skip


def edited(contender: str, method: str, most: int, value: float) -> dict:
    return {"dictionary": "one", "task": "form_and_noun", "attribute": "form",
            "contender": contender, "method": method, "most": most, "pairs": 40, "turning": 36,
            **ends("accuracy", value), **ends("turned", value), **ends("effect", value),
            "weight": 0.1, "changed": 1.5}  # fmt: skip


def absorbed(letter: str, rate: float) -> dict:
    stands = rate == rate
    return {"dictionary": "one", "contender": "dictionary", "letter": letter, "words": 20,
            "main": 3, "main_features": 1, "recall": 0.7 if stands else 0.0, "false_alarms": 0.1,
            "stands": float(stands), "known": 20, "silent": 6, "absorbed": 5,
            **ends("rate", rate), "null_mean": 0.02, "null_sd": 0.01, "dealt": 0.1,
            "dealt_stands": 0.05, "absorbing": 7}  # fmt: skip


def everything(defined: bool = True) -> Records:
    worth = (lambda x: x) if defined else (lambda x: NAN)
    edits = [edited(who, method, most, worth(0.1 * most * factor))
             for who, factor in (("dictionary", 1.0), ("random", 0.1))
             for method in ("greedy", "random features") for most in (1, 2, 4, 8)]  # fmt: skip
    edits += [edited("labels", name, 0, worth(v))
              for name, v in (("no edit", 0.0), ("supervised, means", 0.9))]  # fmt: skip
    return records(
        evaluation_probes=[
            probed(who, k, label, kind, worth(value))
            for who, value in WORTH.items() for k in (1, 16)
            for label, kind in (("code", "token class"), ("code", "kind of text"))
        ],
        evaluation_control=edits,
        evaluation_absorption=[absorbed("s", worth(0.25)), absorbed("t", NAN)],
    )  # fmt: skip


MAKERS = (labels.probes, labels.control, labels.absorption)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (labels.probes, "one feature is right .3 more often than on control tasks, mean of 2"
         " labels, by intervals that lie above 0 for 2; one raw coordinate .15, one feature of"
         " random directions .1"),
        (labels.control, "form, form_and_noun: changing 2 features a place turns .20 [.15, .25] of"
         " the answers that patching turns, as many features at random .2, a random dictionary"
         " .02, a dictionary made from labels .9"),
        (labels.absorption, "of 2 first letters features stand for 1; of 20 words known 5 are"
         " absorbed, .25, with decoder rows permuted .02"),
    ],
)  # fmt: skip
def test_a_figure_answers_from_its_table_and_can_be_drawn(make, words, tmp_path):
    figure = make(everything())
    assert words in figure.answer
    write_files(figure, tmp_path)
    assert draw(figure) and (tmp_path / f"{figure.name}.png").stat().st_size > 5_000
    assert len({len(column.cells) for column in figure.columns}) == 1


def test_without_anything_defined_or_any_table_there_is_no_figure():
    for none in (everything(defined=False), Records(run={}, summary={})):
        assert all(make(none) is None for make in MAKERS)
