"""Summaries keep every number, undefined ones too, and say no to what is not a finding."""

import json
from dataclasses import replace
from importlib.resources import files

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from energylens.core.errors import ArtifactRefused
from energylens.results.record import Control, Estimate, Summary, check_name
from tests.common.compare import assert_close

NUMBERS = ("value", "low", "high", "null_mean", "null_sd", "p", "q")


def summary() -> Summary:
    return Summary(
        study="toy",
        subject="tiny · speeches",
        finding="2 of 9 features follow the energy.",
        figures={
            "efas_max.downstream": Estimate(
                0.218, "correlation", low=0.17, high=0.26, null_mean=0.0, null_sd=0.02,
                p=0.0001, q=0.004, n=160, n_unit="documents", undefined=3, label="Largest",
            ),
            "slope": Estimate(float("nan"), "nats per nat", undefined=1),
        },
        controls={
            "random_weights": Control(
                label="Random weights", value=0, expected="none", passed=True, sentence="None."
            )
        },
        cards=("slope", "efas_max.downstream"),
        limits=("One model.",),
    )  # fmt: skip


def schema(name: str) -> dict:
    return json.loads(files("energylens").joinpath(f"results/schema/{name}").read_text())


def test_reading_gives_back_what_was_written():
    there = summary()
    back = Summary.from_json(there.to_json())
    assert replace(back, figures={}, cards=()) == replace(there, figures={}, cards=())
    assert back.cards == there.cards
    for name, figure in there.figures.items():
        assert_close(
            [getattr(back.figures[name], k) for k in NUMBERS], [getattr(figure, k) for k in NUMBERS]
        )
        assert back.figures[name].n == figure.n
    assert back.to_json() == there.to_json()


def test_undefined_is_null_in_the_file_and_the_file_follows_the_schema():
    record = json.loads(summary().to_json())
    assert record["figures"]["slope"]["value"] is None
    jsonschema.Draft202012Validator(schema("summary.schema.json")).validate(record)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda r: r["figures"].update({"EFAS max": r["figures"]["slope"]}),
        lambda r: r["figures"]["slope"].pop("n"),
        lambda r: r["figures"]["slope"].update(p=1.5),
        lambda r: r.update(grade="excellent"),
        lambda r: r.pop("suspicious"),
        lambda r: r.update(extra=1),
        lambda r: r["controls"]["random_weights"].update(passed=None),
    ],
)
def test_the_schema_refuses_what_is_not_a_summary(spoil):
    record = json.loads(summary().to_json())
    spoil(record)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(schema("summary.schema.json")).validate(record)


@pytest.mark.parametrize("name", ["summary.schema.json", "run.schema.json"])
def test_the_schemas_are_schemas(name):
    jsonschema.Draft202012Validator.check_schema(schema(name))


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"low": 2.0, "high": 1.0}, "upside down"),
        ({"p": 1.2}, "between 0 and 1"),
        ({"q": -0.1}, "between 0 and 1"),
        ({"high": float("inf")}, "infinite"),
        ({"n": -1}, "negative"),
        ({"null_sd": -1.0}, "negative"),
    ],
)
def test_an_estimate_that_cannot_be_is_refused(kwargs, words):
    with pytest.raises(ValueError, match=words):
        Estimate(1.0, "nats", **kwargs)


def test_a_card_without_its_figure_is_refused():
    with pytest.raises(ValueError, match="not among the figures"):
        replace(summary(), cards=("efas_min",))


@pytest.mark.parametrize("name", ["a", "efas_max.layer_15", "f1.eap_ig.induction", "x.2.3"])
def test_good_names(name):
    check_name(name)


@pytest.mark.parametrize("name", ["", "A", "a b", "a.", ".a", "a.b.c.d", "1a", "a-b", "a\n"])
def test_bad_names(name):
    with pytest.raises(ValueError, match="lower case"):
        check_name(name)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda t: t[: len(t) // 2],
        lambda t: t.replace(b'"schema": 1', b'"schema": 2'),
        lambda t: t.replace(b'"unit"', b'"unity"', 1),
        lambda t: t.replace(b'"cards"', b'"card"'),
        lambda t: b"[]",
        lambda t: b'{"schema": 1, "schema": 1}',
        lambda t: t.replace(b"0.218", b"NaN"),
        lambda t: b"[" * 100_000,
        lambda t: b"\xff\xfe",
    ],
)
def test_a_damaged_or_foreign_file_is_refused(spoil):
    with pytest.raises(ArtifactRefused, match=r"summary\.json"):
        Summary.from_json(spoil(summary().to_json()))


finite = st.floats(allow_nan=True, allow_infinity=False)


@given(value=finite, low=finite, text=st.text())
def test_any_estimate_survives_the_trip(value, low, text):
    there = replace(summary(), subject=text, figures={"x": Estimate(value, "", low=low)}, cards=())
    back = Summary.from_json(there.to_json())
    assert_close([back.figures["x"].value, back.figures["x"].low], [value, low], rtol=0, atol=0)
    assert back.subject == text.encode("utf-8", "replace").decode()
