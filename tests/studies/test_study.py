"""Options are checked in one place; a study is listed without its heavy parts."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import pytest

from energylens.core.errors import BadInput, UnknownName
from energylens.studies.study import STUDIES, Range, check_options, flag, study


@dataclass(frozen=True, kw_only=True)
class Options:
    rate: Annotated[float, Range(1e-6, 1.0)] = 1e-3
    top_k: Annotated[int, Range(1, 1_000_000)] = 8
    shift: float = 0.0
    share: Annotated[float | None, Range(0, 1)] = None
    layers: Annotated[tuple[int, ...], Range(0, 99)] = ()
    kind: Literal["a", "b"] = "a"
    text: tuple[Path, ...] = ()
    name: str = "x"
    quick: bool = False
    many: Annotated[int, Range(1)] = 1


def spoilt(**values) -> Options:
    """Options with values that their types do not allow, as code without a checker may make."""
    options = Options()
    for name, value in values.items():
        object.__setattr__(options, name, value)
    return options


@pytest.mark.parametrize(
    "values",
    [
        {}, {"rate": 1.0}, {"rate": 1e-6}, {"rate": 1}, {"share": 0.0}, {"layers": (0, 99)},
        {"kind": "b"}, {"shift": -1e300}, {"text": (Path("a"),)}, {"many": 10**12},
    ],
)  # fmt: skip
def test_good_options_pass(values):
    check_options(spoilt(**values))


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"rate": float("nan")}, "option --rate is nan: it must be a number, 1e-06 to 1.0"),
        ({"rate": float("inf")}, "option --rate is inf: it must be a number, 1e-06 to 1.0"),
        ({"rate": -1.0}, "option --rate is -1.0: it must be 1e-06 to 1.0"),
        ({"rate": "1e-3"}, "option --rate is '1e-3': it must be a number"),
        ({"shift": float("-inf")}, "option --shift is -inf: it must be a finite number"),
        ({"shift": None}, "option --shift is None: it must be a number"),
        ({"top_k": 0}, "option --top-k is 0: it must be 1 to 1,000,000"),
        ({"top_k": 2**40}, "option --top-k is 1099511627776: it must be 1 to 1,000,000"),
        ({"top_k": 2.5}, "option --top-k is 2.5: it must be a whole number"),
        ({"many": 0}, "option --many is 0: it must be 1 or more"),
        ({"share": 1.5}, "option --share is 1.5: it must be 0 to 1"),
        ({"layers": (3, -1)}, "option --layers is -1: it must be 0 to 99"),
        ({"layers": (3, float("nan"))}, "option --layers is nan: it must be a number, 0 to 99"),
        ({"kind": "c"}, "option --kind is 'c': it must be one of a, b"),
    ],
)
def test_bad_options_are_one_sentence(values, sentence):
    with pytest.raises(BadInput) as caught:
        check_options(spoilt(**values))
    assert str(caught.value) == sentence


def test_a_field_and_its_flag():
    assert flag("train_tokens") == "--train-tokens"


def test_options_must_be_a_dataclass_and_the_subject_one_of_them():
    kwargs = {"name": "broken", "question": "?", "example": "", "entry": "a:b"}
    with pytest.raises(TypeError, match="must be a dataclass"):
        study(**kwargs)(int)
    with pytest.raises(ValueError, match="names 'model' as its subject"):
        study(**kwargs, subject="model")(Options)
    assert "broken" not in STUDIES


def test_an_unknown_study_gives_the_nearest():
    with pytest.raises(UnknownName, match="no study named 'energy-lense': did you mean 'energy-l"):
        STUDIES["energy-lense"]


def test_listing_studies_imports_nothing_heavy():
    code = (
        "import sys; from energylens.studies.study import STUDIES\n"
        "assert 'energy-lens' in list(STUDIES)\n"
        "assert not {'torch', 'numpy', 'transformers', 'tyro'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_study_names_a_function_that_exists_and_an_example_that_parses():
    import shlex

    from energylens.run.arguments import parse

    for one in STUDIES.values():
        assert callable(one.function())
        program, run, name, *words = shlex.split(one.example)
        assert (program, run, name) == ("energylens", "run", one.name)
        parse(one, words)
