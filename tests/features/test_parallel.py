"""Training by several processes is training by one: every architecture, every way to share it."""

import json
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from energylens.core.checkpoint import FolderCheckpoint
from energylens.features.cross_layer import CrossLayerTranscoder
from energylens.features.dictionary import Dictionary
from energylens.features.mesh import ALONE
from energylens.features.train import TrainRecord
from tests.common.compare import assert_close
from tests.common.processes import together
from tests.features.parallel_cases import Case, cases, kept

SERIES = ("loss", "fvu", "l0", "dead_share")
WORLDS = (2, pytest.param(4, marks=pytest.mark.slow))


def _of_worlds(some) -> list:
    return [
        pytest.param(case, id=case.name, marks=pytest.mark.slow if case.world > 2 else ())
        for world in (2, 4) for case in some(world)
    ]  # fmt: skip


@cache
def by_one(architecture: str, kind: str) -> tuple[Dictionary | CrossLayerTranscoder, TrainRecord]:
    torch.set_num_threads(1)
    return Case(architecture=architecture, kind=kind).train()


@pytest.fixture(scope="module")
def made_by(tmp_path_factory):
    """Where so many processes leave what they trained."""

    @cache
    def made(world: int) -> Path:
        out = tmp_path_factory.mktemp(f"world{world}")
        for architecture, kind in {(case.architecture, case.kind) for case in kept(world)}:
            alone = Case(architecture=architecture, kind=kind)
            alone.begin(ALONE, out / f"one-{architecture}-{kind}")
        together(world, "tests.features.parallel_cases", str(out))
        return out

    return made


def same(out: Path, name: str, case: Case) -> None:
    """All processes have the same to the bit, and it is what one has, but for rounding."""
    dictionary, record = by_one(case.architecture, case.kind)
    near = 1e-5 if case.kind == "single" else 1e-9
    tolerance = {"rtol": 10 * near, "atol": near}
    ranks = [load_file(out / f"{name}.{rank}.safetensors") for rank in range(case.world)]
    assert ranks[0].keys() == dictionary.weights.keys()
    for weight, expected in dictionary.weights.items():
        assert all(torch.equal(rank[weight], ranks[0][weight]) for rank in ranks), weight
        assert_close(ranks[0][weight], expected, **tolerance)
    said = [json.loads((out / f"{name}.{rank}.json").read_text()) for rank in range(case.world)]
    assert all(words == said[0] for words in said)
    assert (said[0]["k"], said[0]["architecture"]) == (dictionary.k, dictionary.architecture)
    for series in SERIES:
        assert_close(said[0][series], getattr(record, series), **tolerance)


@pytest.mark.parametrize("case", _of_worlds(cases))
def test_processes_train_what_one_trains(case, made_by):
    same(made_by(case.world), case.name, case)


@pytest.mark.parametrize("case", _of_worlds(kept))
def test_resumed_by_as_many_it_is_uninterrupted_to_the_bit(case, made_by):
    out = made_by(case.world)
    whole, resumed = (
        load_file(out / f"{name}.0.safetensors") for name in (case.name, f"resumed-{case.name}")
    )
    for weight in whole:
        assert torch.equal(whole[weight], resumed[weight]), weight


@pytest.mark.parametrize("case", _of_worlds(kept))
def test_what_one_began_several_end_and_what_several_began_one_ends(case, made_by):
    out = made_by(case.world)
    same(out, f"taken-up-{case.name}", case)
    begun = FolderCheckpoint(out / f"begun-{case.name}")
    dictionary, record = Case(architecture=case.architecture, kind=case.kind).train(
        checkpoint=begun
    )
    expected, whole = by_one(case.architecture, case.kind)
    for weight, value in expected.weights.items():
        assert_close(dictionary.weights[weight], value, rtol=1e-8, atol=1e-9)
    assert_close(record.loss, whole.loss, rtol=1e-8)


def test_cases_reach_what_processes_must_agree_on():
    """Dead latents, both routes, and a row that asks for more candidates."""
    for architecture in ("topk", "batchtopk", "matryoshka_batchtopk"):
        assert max(by_one(architecture, "plain")[1].dead_share) > 0.1
    for architecture in ("topk", "batchtopk", "groupmax"):
        assert max(by_one(architecture, "layers")[1].dead_share) > 0.02
    for architecture in ("standard", "gated", "p_anneal"):
        l0 = by_one(architecture, "plain")[1].l0
        assert l0[0] > 64 / 24 > l0[-1]
