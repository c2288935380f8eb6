"""Many dictionaries on one stream: they learn, stop, go on to the bit, and say what broke."""

from dataclasses import replace

import pytest
import torch

from energylens.activations.buffer import ShuffleBuffer
from energylens.core.checkpoint import FolderCheckpoint
from energylens.core.errors import BadInput, EnergylensError, InsufficientData
from energylens.features.cross_layer_training import CrossLayerJob, train_cross_layer
from energylens.features.crosscoder_training import CrosscoderJob, train_crosscoder
from energylens.features.evaluate import fvu
from energylens.features.recovery import mean_matched_cosine
from energylens.features.stream import Job, train_stream
from energylens.features.train import train
from energylens.features.training import TrainOptions
from tests.common.compare import assert_close
from tests.features.planted import planted_rows

OPTIONS = TrainOptions(width=64, k=3, batch=128, aux_k=8, dead_after_tokens=2000)
STEPS = 60


class Blocks:
    """Rows of two sites that lie in blocks of 700."""

    total = None
    largest = 700

    def __init__(self, rows, other):
        self.rows = {"a": rows, "b": other}
        self.layout = {site: rows[:0] for site, rows in self.rows.items()}

    def blocks(self, seed, first):
        for start in range(700 * first, len(self.rows["a"]), 700):
            yield {site: rows[start : start + 700] for site, rows in self.rows.items()}


@pytest.fixture
def source(generator):
    rows, directions = planted_rows(generator, n=7000)
    turn = torch.linalg.qr(torch.randn(32, 32, generator=generator)).Q
    blocks = Blocks(rows, torch.cat([rows @ turn, rows[:, :3]], dim=1))
    blocks.directions = directions
    return blocks


def buffer(source, **options):
    generator = torch.Generator().manual_seed(5)
    return ShuffleBuffer(source, 128, generator, budget_mb=1, **options)


def jobs(**options):
    its = replace(OPTIONS, **options)
    return {
        "topk": Job(reads=("a",), options=its, seed=1),
        "wide": Job(reads=("b",), options=replace(its, width=96, architecture="batchtopk"), seed=1),
        "across": Job(reads=("a",), options=replace(its, skip=True), seed=2, writes=("b",)),
        "jump": Job(reads=("a",), options=replace(its, architecture="jumprelu"), seed=3),
    }


def same(one, other):
    assert one.keys() == other.keys()
    for name, course in one.items():
        dictionary, record = course.finish(), course.record()
        again, expected = other[name].finish(), other[name].record()
        assert dictionary.weights.keys() == again.weights.keys()
        for key, weight in dictionary.weights.items():
            assert torch.equal(weight, again.weights[key]), (name, key)
        assert replace(record, seconds=0.0) == replace(expected, seconds=0.0), name


@pytest.mark.slow
def test_a_planted_dictionary_is_found_on_a_stream_that_memory_does_not_hold(source):
    batches = buffer(source)
    assert batches.capacity < len(source.rows["a"]) / 1.5
    job = Job(reads=("a",), options=OPTIONS, seed=1)
    course = train_stream(batches, {"one": job}, 1600)["one"]
    dictionary, record = course.finish(), course.record()
    in_memory, _ = train(source.rows["a"], replace(OPTIONS, epochs=1600 * 128 // 7000),
                         torch.Generator().manual_seed(1))  # fmt: skip
    found = mean_matched_cosine(dictionary.W_dec, source.directions)
    assert found > 0.9 and found > mean_matched_cosine(in_memory.W_dec, source.directions) - 0.05
    assert record.steps == 1600 and record.tokens == 1600 * 128


def test_dictionaries_side_by_side_are_those_trained_alone(source):
    together = train_stream(buffer(source), jobs(), STEPS)
    for name, job in jobs().items():
        same(train_stream(buffer(source), {name: job}, STEPS), {name: together[name]})
    across = together["across"].finish()
    assert across.W_skip.shape == (35, 32)
    assert across.reconstruct(source.rows["a"][:5]).shape == (5, 35)


class Killed(BaseException):
    """As abrupt as a test can be in its own process."""


@pytest.mark.parametrize("last", [1, 23, 59])
def test_killed_and_resumed_is_uninterrupted(source, tmp_path, last):
    whole, seen = train_stream(buffer(source), jobs(), STEPS), []

    def die(name, step, trace):
        seen.append((name, step))
        if step == last and name == "across":  # one dictionary is then a step ahead of the next
            raise Killed

    folder = FolderCheckpoint(tmp_path, every=4)
    with pytest.raises(Killed):
        train_stream(buffer(source), jobs(), STEPS, checkpoint=folder, watch=die)
    begun = len(seen)
    resumed = train_stream(
        buffer(source), jobs(), STEPS, checkpoint=FolderCheckpoint(tmp_path, every=4),
        watch=lambda name, step, trace: seen.append((name, step)),
    )  # fmt: skip
    same(resumed, whole)
    assert seen[begun] == ("topk", (last - 1) // 4 * 4 + 1)


def test_an_infinite_row_stops_the_step_and_the_last_checkpoint_goes_on(source, tmp_path):
    whole = train_stream(buffer(source), jobs(), STEPS)
    sick = Blocks(*(rows.clone() for rows in source.rows.values()))
    sick.rows["b"][4000, 2] = torch.inf
    with pytest.raises(BadInput, match=r"batch \d+ of b: 1 of 128 rows hold nan or infinity"):
        train_stream(buffer(sick), jobs(), STEPS, checkpoint=FolderCheckpoint(tmp_path, every=5))
    same(train_stream(buffer(source), jobs(), STEPS, checkpoint=FolderCheckpoint(tmp_path)), whole)


def test_massive_rows_are_left_out_of_every_batch_and_counted(source):
    source.rows["a"][::500] *= 1000
    record = train_stream(buffer(source), {"one": jobs()["topk"]}, STEPS)["one"].record()
    assert record.tokens + record.massive_rows == STEPS * 128 and 10 < record.massive_rows < 20
    assert max(record.fvu) < 2


def test_what_cannot_be_trained_is_refused_in_a_sentence(source, tmp_path):
    with pytest.raises(BadInput, match="reads c and the stream has a, b"):
        train_stream(buffer(source), {"one": Job(reads=("c",), options=OPTIONS, seed=0)}, STEPS)
    with pytest.raises(BadInput, match="a skip was asked for without a target"):
        skip = Job(reads=("a",), options=replace(OPTIONS, skip=True), seed=0)
        train_stream(buffer(source), {"one": skip}, STEPS)
    with pytest.raises(BadInput, match="name at least one"):
        train_stream(buffer(source), {}, STEPS)
    with pytest.raises(InsufficientData, match="rows are equal"):
        flat = Blocks(torch.ones(7000, 4), torch.ones(7000, 4))
        train_stream(buffer(flat), {"one": jobs()["topk"]}, STEPS)
    with pytest.raises(EnergylensError, match="use a learning rate below"):
        train_stream(buffer(source), jobs(lr=1e25), STEPS)
    train_stream(buffer(source), jobs(), STEPS, checkpoint=FolderCheckpoint(tmp_path, every=20))
    with pytest.raises(BadInput, match="the checkpoint is of topk, wide, across, jump and one"):
        train_stream(buffer(source), {"one": jobs()["topk"]}, STEPS,
                     checkpoint=FolderCheckpoint(tmp_path))  # fmt: skip
    with pytest.raises(BadInput, match="another lr"):
        train_stream(buffer(source), jobs(lr=1e-3), STEPS, checkpoint=FolderCheckpoint(tmp_path))


def test_a_stream_that_ends_early_ends_the_training(source):
    course = train_stream(buffer(source, epochs=1), {"one": jobs()["topk"]}, STEPS)["one"]
    dictionary, record = course.finish(), course.record()
    assert record.steps == -(-7000 // 128) and record.tokens == 7000
    assert_close(dictionary.W_dec.norm(dim=1), torch.ones(64), rtol=1e-5)


def joined(source):
    """A crosscoder of both sites, and a transcoder from two layers to two, beside a plain one."""
    its = replace(OPTIONS, width=40, dead_after_tokens=1000)
    return {
        "cross": CrosscoderJob(reads=("a", "b"), options=its, seed=4),
        "layers": CrossLayerJob(
            reads=("a", "c"), writes=("d", "e"), layers=(3, 4), options=its, seed=5
        ),
        "plain": Job(reads=("b",), options=its, seed=6),
    }  # fmt: skip


@pytest.fixture
def layered(source, generator):
    """Two more layers, and what each layer writes: turns of what it and the one before read."""
    a = source.rows["a"]
    turns = torch.linalg.qr(torch.randn(3, 32, 32, generator=generator)).Q
    more = {"c": a.flip(1), "d": a @ turns[0], "e": a @ turns[1] + a.flip(1) @ turns[2]}
    source.rows |= more
    source.layout |= {site: rows[:0] for site, rows in more.items()}
    return source


def test_several_sites_are_learned_from_a_stream_as_from_memory(layered):
    jobs, rows = joined(layered), layered.rows
    courses = train_stream(wide(layered), jobs, 160)
    cross = jobs["cross"].finish(courses["cross"], {"model_name": "m"})
    layers = jobs["layers"].finish(courses["layers"])
    assert cross.names == ("a", "b") and cross.dictionary.metadata["model_name"] == "m"
    assert not cross.dictionary.subtracts_b_dec and layers.layers == (3, 4)
    some = replace(OPTIONS, width=40, dead_after_tokens=1000, epochs=160 * 128 // 7000)
    seeded = torch.Generator().manual_seed
    both, _ = train_crosscoder({s: rows[s] for s in "ab"}, some, seeded(4))
    inputs, targets = {3: rows["a"], 4: rows["c"]}, {3: rows["d"], 4: rows["e"]}
    beside, _ = train_cross_layer(inputs, targets, some, seeded(5))
    two = {s: rows[s] for s in "ab"}
    pairs = [
        (cross.reconstruct(two), both.reconstruct(two), rows),
        (layers.reconstruct(inputs), beside.reconstruct(inputs), targets),
    ]  # fmt: skip
    for streamed, in_memory, truth in pairs:
        for site, made in streamed.items():
            assert fvu(truth[site], made) < fvu(truth[site], in_memory[site]) + 0.08
            assert fvu(truth[site], made) < 0.4


def wide(source):
    return ShuffleBuffer(source, 128, torch.Generator().manual_seed(5), budget_mb=3)


@pytest.mark.parametrize("last", [1, 18])
def test_several_sites_killed_and_resumed_are_uninterrupted(layered, tmp_path, last):
    whole = train_stream(wide(layered), joined(layered), 30)

    def die(name, step, trace):
        if step == last and name == "layers":
            raise Killed

    checkpoint = lambda: FolderCheckpoint(tmp_path, every=4)
    with pytest.raises(Killed):
        train_stream(wide(layered), joined(layered), 30, checkpoint=checkpoint(), watch=die)
    resumed = train_stream(wide(layered), joined(layered), 30, checkpoint=checkpoint())
    for name, job in joined(layered).items():
        made, expected = job.finish(resumed[name]), job.finish(whole[name])
        ours, theirs = (
            (found.dictionary if name == "cross" else found).weights for found in (made, expected)
        )
        assert ours.keys() == theirs.keys()
        for key, weight in ours.items():
            assert torch.equal(weight, theirs[key]), (name, key)
        assert resumed[name].traces == whole[name].traces


def test_sites_that_do_not_go_together_are_refused(layered):
    several = joined(layered)
    for job, words in (
        (replace(several["cross"], writes=("d",)), "found 2 to read and 1 others"),
        (replace(several["layers"], writes=("d",)), "2 layers with 2 inputs and 1 targets"),
        (replace(several["layers"], reads=("a", "b")), r"one width, found \[32, 35\]"),
        (replace(several["plain"], reads=("a", "b")), "a dictionary of 2 sites to 0"),
    ):
        with pytest.raises(BadInput, match=words):
            train_stream(wide(layered), {"one": job}, 30)
