"""The figure of several sites, from tables made by hand: words, a drawing, nothing defined."""

from energylens.report.figure import Figure, draw, write_files
from energylens.report.figures.evaluation_sites import by_site
from tests.report.figures.test_evaluation import FVU, NAN, records

SITES = {"blocks.0.mlp_out": 0.0, "blocks.1.mlp_out": 0.15}


def of_sites(*labels: str, worth: float = 1.0):
    rows = [
        {"dictionary": label, "contender": kind, "site": site, "fvu": worth * (value + more),
         "fvu_low": worth * (value + more - 0.02), "fvu_high": worth * (value + more + 0.02),
         "n_documents": 20, "rows": 600}
        for label in labels for kind, value in FVU.items() for site, more in SITES.items()
    ]  # fmt: skip
    return records(evaluation_sites=rows)


def test_the_best_and_the_worst_site_are_told_and_every_baseline_is_drawn(tmp_path):
    figure = by_site(of_sites("one", "other"))
    assert (
        "one leaves least unexplained at blocks.0.mlp_out, .2, and most at blocks.1.mlp_out, .35"
        in figure.answer
    )
    assert len(figure.panels) == 2
    for drawing in draw(figure):
        assert drawing.svg.count("short training") == 1
        assert len(drawing.marks[0]) == len(FVU) * len(SITES)
    write_files(figure, tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} == {".svg", ".png"}


def test_nothing_defined_is_no_figure():
    assert by_site(of_sites("one", worth=NAN)) is None
    assert by_site(records()) is None


def test_a_figure_of_words_alone_has_no_files(tmp_path):
    write_files(
        Figure(name="words", question="What?", short="What", answer="Nothing.", notes=[],
               method=("a", "b"), panels=[], columns=[], tells=()),
        tmp_path,
    )  # fmt: skip
    assert not list(tmp_path.iterdir())
