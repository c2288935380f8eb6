"""The table of round trips in docs/formats.md: its rows, and that it can tell a wrong file."""

import re

import pytest
from safetensors.torch import load_file, save_file
from tools import format_table

from energylens.features.formats.convert import WRITTEN
from energylens.studies.convert import Convert
from energylens.studies.study import type_hints


def shown():
    text = format_table.PAGE.read_text(encoding="utf-8")
    part = text.partition(format_table.BEGIN)[2].partition(format_table.END)[0]
    return [[cell.strip() for cell in line.strip("|").split("|")]
            for line in part.splitlines() if line.startswith("|")][2:]  # fmt: skip


def test_every_program_that_is_written_has_rows_and_every_row_was_compared():
    rows = shown()
    assert len(rows) == len(format_table.CASES)
    there = set(format_table.PEERS) | {"openai"}  # whose code is in no registry
    assert {case.to for case in format_table.CASES} == set(WRITTEN) == there
    for row in rows:
        for cell in row[2:3] if row[0] == "OpenAI" else row[2:]:
            assert cell == "0" or re.fullmatch(r"\d\s×\s10⁻[⁷⁸]", cell), row


def test_our_own_round_trips_are_as_the_page_says():
    for (case, ours, _), row in zip(format_table.rows_of_the_table(), shown(), strict=True):
        assert case.architecture == row[1].split(" ")[0]
        assert ours < 1e-5 and (ours == 0) == (row[2] == "0"), case


def test_a_wrong_file_shows(monkeypatch):
    write = WRITTEN["sparsify"]

    def wrong(made):
        files = write(made)

        def spoil(path):
            files["sae.safetensors"](path)
            kept = load_file(path)
            save_file(kept | {"W_dec": kept["W_dec"].flip(0)}, path)

        return {**files, "sae.safetensors": spoil}

    monkeypatch.setitem(WRITTEN, "sparsify", wrong)
    monkeypatch.setattr(format_table, "CASES", (format_table.Case("sparsify", "topk"),))
    ((_, ours, theirs),) = format_table.rows_of_the_table()
    assert ours > 0.1 and (theirs is None or theirs > 0.1)


@pytest.mark.parametrize("to", WRITTEN)
def test_the_study_offers_each_program(to):
    assert to in type_hints(Convert)["to"].__args__
