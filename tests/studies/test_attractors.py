"""Where states run to: starts that are what they say, planted sinks found, noise left alone."""

from dataclasses import replace

import pytest
import torch

from energylens.activations.batch import Batch
from energylens.core.errors import InsufficientData
from energylens.energy.energies.downstream import downstream_gradients
from energylens.energy.energies.tuned import Translator
from energylens.features.dictionary import Dictionary
from energylens.features.ordinary import Ordinary
from energylens.run.edges.store.folder import Folder
from energylens.studies.energy_lens.attractors import (
    ABLATED,
    FEATURE,
    NULL_PER_START,
    SOURCES,
    STATE,
    STEP,
    TEXT,
    attract_site,
)
from energylens.studies.energy_lens.basin_tables import attractor_tables
from energylens.studies.energy_lens.bench import Bench, RandomDirections
from energylens.studies.energy_lens.held import Held
from energylens.studies.energy_lens.proof import Choice
from tests.activations.models import subject, tokens
from tests.common.compare import assert_close

SITE = "blocks.1.resid_post"
DOCUMENTS, D, WIDTH = 24, 32, 40


class Letters:
    """A tokenizer of one letter a token, as far as tables need one."""

    def convert_ids_to_tokens(self, ids):
        return [chr(97 + i % 26) for i in ids]

    def encode(self, text, *, add_special_tokens):
        return [ord(c) % 26 for c in text]

    def decode(self, token_ids):
        return "".join(self.convert_ids_to_tokens(token_ids))


@pytest.fixture(scope="module")
def bench() -> Bench:
    generator = torch.Generator().manual_seed(1)
    rows = torch.nn.functional.normalize(
        torch.randn(WIDTH, D, generator=generator, dtype=torch.float64), dim=1
    )
    zero = torch.zeros(D, dtype=torch.float64)
    dictionary = Dictionary(
        architecture="topk", k=4, W_enc=rows, W_dec=rows,
        b_enc=zero.new_zeros(WIDTH), b_dec=zero,
    )  # fmt: skip
    return Bench(
        dictionary=dictionary, permuted=rows.roll(1, 0), mean_state=zero,
        random=RandomDirections(rows=rows[:4], thresholds=zero[:4]),
        ordinary=Ordinary(center=zero, radius=1e9),
        translator=Translator(A=torch.eye(D, dtype=torch.float64), b=zero),
    )  # fmt: skip


@pytest.fixture(scope="module")
def found():
    return subject()


@pytest.fixture(scope="module")
def here(found, bench) -> Held:
    ids = tokens(DOCUMENTS, 9)
    states, gradients, loss = downstream_gradients(found, Batch.full(ids), [SITE])
    code = bench.dictionary.encode(states[SITE][:, 1:-1].flatten(0, 1))
    return Held(
        ids=ids, document=torch.arange(DOCUMENTS), starts=torch.zeros(DOCUMENTS, dtype=torch.long),
        indices=code.indices.view(DOCUMENTS, 7, -1), values=code.values.view(DOCUMENTS, 7, -1),
        states=states[SITE], gradients=gradients[SITE], loss=loss,
    )  # fmt: skip


@pytest.fixture
def ended(found, bench, here, tmp_path):
    store, generator = Folder(tmp_path), torch.Generator().manual_seed(0)
    choices = [Choice(feature=f, chosen_by="random") for f in (3, 7)]
    attract_site(found, SITE, bench, here, choices, store, generator=generator, progress=quiet())
    return store


def quiet():
    from energylens.core.ports import silence

    return silence


def test_every_document_starts_once_and_has_its_random_states(ended):
    tensors = ended.tensors(f"attractors.{SITE}")
    source, window = tensors["source"], tensors["window"]
    assert window[source == TEXT].sort().values.tolist() == list(range(DOCUMENTS))
    assert (source == STATE).sum() == NULL_PER_START * DOCUMENTS
    assert (source == FEATURE).sum() == (source == ABLATED).sum() == (source == STEP).sum() > 0


def test_the_energy_never_rises_and_is_the_entropy_of_the_lens(found, ended, here):
    tensors = ended.tensors(f"attractors.{SITE}")
    assert (tensors["energy"] <= tensors["start_energy"] + 1e-9).all()
    text = tensors["source"] == TEXT
    states = here.states[tensors["window"][text], tensors["place"][text] + 1]
    p = found.lens(states).softmax(-1)
    assert_close(tensors["start_energy"][text], -(p * p.log()).sum(-1), rtol=1e-6)
    assert tensors["start_token"][text].tolist() == p.argmax(-1).tolist()


def test_an_ablated_start_has_lost_the_feature_and_a_random_step_is_as_long(
    found, bench, here, tmp_path, monkeypatch
):
    from energylens.studies.energy_lens import attractors

    seen = {}
    original = attractors.descend

    def watched(slope, starts, **options):
        seen["starts"] = starts
        return original(slope, starts, **options)

    monkeypatch.setattr(attractors, "descend", watched)
    store = Folder(tmp_path)
    attract_site(found, SITE, bench, here, [Choice(feature=3, chosen_by="random")], store,
                 generator=torch.Generator().manual_seed(0), progress=quiet())  # fmt: skip
    source = store.tensors(f"attractors.{SITE}")["source"]
    base, ablated, step = (seen["starts"][source == kind] for kind in (FEATURE, ABLATED, STEP))
    moved = base - ablated
    assert_close(torch.nn.functional.normalize(moved, dim=1),
                 bench.dictionary.W_dec[3].expand_as(moved), rtol=1e-6, atol=1e-9)  # fmt: skip
    assert_close((base - step).norm(dim=1), moved.norm(dim=1))


def test_too_few_documents_are_refused(found, bench, here, tmp_path):
    few = replace(here, document=torch.zeros(DOCUMENTS, dtype=torch.long))
    with pytest.raises(InsufficientData, match="states of 8 documents, found 1"):
        attract_site(found, SITE, bench, few, [], Folder(tmp_path),
                     generator=torch.Generator().manual_seed(0), progress=quiet())  # fmt: skip


# ---- tables: a planted sink is found, random ends give none


def ends(generator: torch.Generator, *, planted: bool) -> dict[str, torch.Tensor]:
    """Ends in three basins at random; with `planted`, most of the text in the first."""
    units, random = 60, 120
    source = torch.cat([torch.full((units,), TEXT), torch.full((random,), STATE)])
    basin = torch.randint(-1, 3, (units + random,), generator=generator)
    if planted:
        basin[: units // 2] = 0
    zero = torch.zeros(units + random)
    shifted = torch.arange(8)
    noise = torch.rand(8, generator=generator)
    return {
        "source": source, "basin": basin, "basin_token": torch.tensor([1, 2, 3]),
        "window": torch.arange(units + random) % units, "place": torch.zeros_like(source),
        "token": basin, "start_token": basin, "energy": zero, "start_energy": zero + 1,
        "converged": torch.ones_like(source).bool(), "diverged": torch.zeros_like(source).bool(),
        "steps": torch.ones_like(source), "turned": zero, "map": torch.zeros(units + random, 4),
        "shift_feature": torch.zeros_like(shifted), "shift_window": shifted,
        "shift_angle": noise, "shift_angle_random": noise.flip(0),
        "shift_switched": noise > 0.5, "shift_switched_random": noise.flip(0) > 0.5,
        "shift_barrier": noise,
    }  # fmt: skip


def tables(found: dict[str, torch.Tensor], path) -> dict:
    store = Folder(path)
    store.save(f"attractors.{SITE}", tensors={f"attractors.{SITE}": found})
    classes = [["start of text", "number" if w < 30 else "word"] for w in range(60)]
    documents = {SITE: torch.arange(60)}
    return attractor_tables(store, documents, classes, Letters())


def test_a_planted_sink_and_its_class_are_found(tmp_path):
    found = tables(ends(torch.Generator().manual_seed(0), planted=True), tmp_path)
    basins = found["basins"].to_pylist()
    assert [row["sink"] for row in basins] == [True, False, False]
    assert basins[0]["n_text"] >= 30 and basins[0]["token"] == "b"
    labels = {(row["basin"], row["class"]): row["q"] for row in found["basin_labels"].to_pylist()}
    assert labels[0, "number"] < 0.05 < labels[0, "word"]


@pytest.mark.slow
def test_random_ends_give_no_more_sinks_than_the_level(tmp_path):
    generator = torch.Generator().manual_seed(2)
    hits = labelled = 0
    for draw in range(200):
        found = tables(ends(generator, planted=False), tmp_path / str(draw))
        hits += any(row["sink"] for row in found["basins"].to_pylist())
        labelled += any(row["q"] <= 0.05 for row in found["basin_labels"].to_pylist())
    # family-wise under the null: at most 5 %, 20 of 200 is 3.2 standard deviations above
    assert hits <= 20 and labelled <= 20


def test_sources_are_told_by_name():
    assert len(SOURCES) == 5 and SOURCES[TEXT] == "text" and SOURCES[STATE] == "random state"
