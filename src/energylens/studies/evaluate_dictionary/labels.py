"""What a dictionary knows of labels: probes, attributes of prompts, absorption; a part each."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.nn.functional import one_hot

from energylens.core.errors import InsufficientData
from energylens.core.ports import Store
from energylens.features.absorption import FEWEST, absorption, few_of_each
from energylens.features.attributes import interpretability
from energylens.features.dictionary import Dictionary
from energylens.features.layered import Layered
from energylens.features.probing import Coordinates, baselines, labelled, sparse_probes
from energylens.features.prompts import AttributedPrompts, states_and_run
from energylens.features.sparse_control import (
    approximations,
    dictionary_control,
    supervised_control,
)
from energylens.features.trials import Control, Trials, trials
from energylens.sources.attributed import ATTRIBUTED_TASKS, AttributedItems
from energylens.stats.interval import Interval
from energylens.stats.nulls import split_units
from energylens.studies.energy_lens.dictionaries import seed_of
from energylens.studies.evaluate_dictionary.benches import Place, owners_of, rivals_at
from energylens.studies.evaluate_dictionary.entries import Entry
from energylens.studies.evaluate_dictionary.tables import ITSELF
from energylens.studies.evaluate_dictionary.words import Words, read_words

Row = dict[str, Any]
Rows = dict[str, list[Row]]
PROBES, ABSORPTION = "evaluation_probes", "evaluation_absorption"
TASKS, KEPT = "evaluation_tasks", "evaluation_kept"
CONTROL, ATTRIBUTES = "evaluation_control", "evaluation_attributes"
TABLES = (PROBES, TASKS, KEPT, CONTROL, ATTRIBUTES, ABSORPTION)
CONTENDERS = ("random", "short")
"""Baselines that are looked at beside a dictionary."""
EDITED = "random"
"""The one whose features are changed as well: an edit costs a pass of the model."""
CONTROLS = 2
"""Control tasks of a probe."""
UNION = 4
DEALS = 59
EACH = 3
"""Rows of a word that absorption is looked for in."""


def label_rows(place: Place, store: Store) -> Rows:
    """Rows of all tables that need labels, for every dictionary of a place."""
    found: Rows = {name: [] for name in TABLES}
    owners = owners_of(place, store)
    by_label = {entry.label: entry for entry in place.entries}
    words: list[Words] = []
    for entry in place.entries:
        rivals = rivals_at(place, by_label[owners[entry.label]], store)
        itself = entry.dictionary.to(rivals.mean.device, rivals.mean.dtype)
        judged = {ITSELF: itself, **{name: rivals.dictionaries[name] for name in CONTENDERS}}
        for name, look in _looks(place, entry).items():
            part = f"labels.{name}.{entry.label}"
            if not store.done(part):
                if name != "tasks" and not words:
                    words.append(read_words(place, rivals.reads, place.options.label_tokens))
                store.save(part, scratch=True, records={part: look(place, entry, judged, words)})
            for table, rows in store.record(part).items():
                found[table] += [_with_nan(row) for row in rows]
    return found


Judged = Mapping[str, Dictionary | Layered]
Look = Callable[[Place, Entry, Judged, list[Words]], Rows]


def _looks(place: Place, entry: Entry) -> dict[str, Look]:
    """What is asked for: words by their tokens, tasks by their groups.

    Absorption compares what is written with what is read, and so is of autoencoders; attributes
    are changed at one site.
    """
    looks: dict[str, Look] = {}
    if place.options.label_tokens:
        looks["probes"] = _probes
        if not entry.is_transcoder:
            looks["absorption"] = _absorption
    if place.options.groups and not entry.is_transcoder and len(entry.seat.sites) == 1:
        looks["tasks"] = _tasks
    return looks


def _of_one_piece(judged: Judged) -> dict[str, Dictionary]:
    """Those that are no layers."""
    return {name: one for name, one in judged.items() if isinstance(one, Dictionary)}


def _with_nan(row: Row) -> Row:
    """A record writes nan as null."""
    return {name: math.nan if value is None else value for name, value in row.items()}


def _generator(place: Place, entry: Entry, *names: str) -> torch.Generator:
    return torch.Generator().manual_seed(seed_of(place.options.seed, entry.label, *names))


def _ends(name: str, found: Interval, at: int | None = None) -> Row:
    ends = (found.estimate, found.low, found.high)
    return {f"{name}{end}": float(value if at is None else value[at])
            for end, value in zip(("", "_low", "_high"), ends, strict=True)}  # fmt: skip


# ---- words


def _probes(place: Place, entry: Entry, judged: Judged, words: list[Words]) -> Rows:
    here = words[0]
    documents = len(place.read.held_out.document_names)
    first, _ = split_units(documents, _generator(place, entry, "halves"))
    train = first.to(here.rows.device)[here.document]
    seen: dict[str, tuple[Coordinates, Coordinates]] = {}
    for name, dictionary in judged.items():
        code = dictionary.encode(here.rows.to(dictionary.b_dec))
        seen[name] = code.of_rows(train), code.of_rows(~train)
    seen |= baselines(here.rows[train], here.rows[~train])
    rows = []
    tasks = {"token class": here.token_class, "kind of text": here.kind}
    with place.progress.task(f"probes {entry.label}", len(tasks) * len(seen), "sets") as advance:
        for label_set, labels in tasks.items():
            truth = labelled(
                labels.of, here.token, here.document, values=len(labels.names), draws=CONTROLS,
                generator=_generator(place, entry, label_set),
            )  # fmt: skip
            sides = truth.of_rows(train), truth.of_rows(~train)
            for name, (x, y) in seen.items():
                rows += [
                    {
                        "dictionary": entry.label, "contender": name, "labels": label_set,
                        "label": labels.names[one.label], "k": one.k, "positives": one.positives,
                        "n_documents": one.units, **_ends("auroc", one.auroc),
                        **_ends("accuracy", one.accuracy),
                        "control_auroc": float(one.control_auroc.estimate),
                        "control_accuracy": float(one.control_accuracy.estimate),
                        **_ends("selectivity", one.selectivity),
                    }
                    for one in sparse_probes(x, y, *sides)
                ]  # fmt: skip
                advance(1)
    return {PROBES: rows}


def _absorption(place: Place, entry: Entry, judged: Judged, words: list[Words]) -> Rows:
    here = words[0]
    generator = _generator(place, entry, "absorption")
    begins = (here.letter.of >= 0).nonzero()[:, 0]
    few = begins[few_of_each(here.token[begins], EACH, generator)]
    word, letter = here.token[few], here.letter.of[few]
    # A letter of too few words has nothing to be judged by in either half.
    count = [len(word[letter == value].unique()) for value in range(len(here.letter.names))]
    enough = [value for value, n in enumerate(count) if n >= 2 * FEWEST]
    if not enough:
        return {ABSORPTION: []}
    labels = one_hot(letter, len(count)).bool()[:, enough]
    rows = []
    for name, dictionary in _of_one_piece(judged).items():
        found = absorption(
            dictionary, here.rows[few].to(dictionary.b_dec), labels, word,
            generator=_generator(place, entry, "absorption", name),
        )  # fmt: skip
        rows += [
            {
                "dictionary": entry.label, "contender": name, "letter": here.letter.names[value],
                "words": count[value], "main": int(found.main[at, 0]),
                "main_features": int((found.main[at] >= 0).sum()),
                "recall": float(found.recall[at]), "false_alarms": float(found.false_alarms[at]),
                "stands": bool(found.found[at]), "known": int(found.known[at]),
                "silent": int(found.silent[at]), "absorbed": int(found.absorbed[at]),
                **_ends("rate", found.rate, at),
                "null_mean": float(found.permuted.null_mean[at]),
                "null_sd": float(found.permuted.null_sd[at]),
                "dealt": found.dealt, "dealt_stands": found.dealt_found,
                "absorbing": int(found.absorbing[at]),
            }
            for at, value in enumerate(enough)
        ]  # fmt: skip
    return {ABSORPTION: rows}


# ---- attributes of prompts


def _tasks(place: Place, entry: Entry, judged: Judged, words: list[Words]) -> Rows:
    found: Rows = {TASKS: [], KEPT: [], CONTROL: [], ATTRIBUTES: []}
    subject = place.read.subject
    tokenizer = subject.loaded.tokenizer
    assert tokenizer is not None
    with place.progress.task(
        f"attributes {entry.label}", len(ATTRIBUTED_TASKS), "tasks"
    ) as advance:
        for task in ATTRIBUTED_TASKS.values():
            generator = _generator(place, entry, task.name)
            row = {"dictionary": entry.label, "task": task.name, "groups": 0, "can": False,
                   "accuracy": math.nan, "low": math.nan, "high": math.nan, "chance": math.nan,
                   "why": ""}  # fmt: skip
            try:
                made = task.generate(tokenizer, generator, place.options.groups)
            except InsufficientData as problem:
                found[TASKS].append(row | {"why": str(problem)})
                advance(1)
                continue
            prompts = AttributedPrompts.of(made, device=subject.device)
            states, run = states_and_run(subject, place.seat.site, made)
            asked = trials(prompts, states, run, generator=generator)
            right = asked.accuracy
            found[TASKS].append(row | {
                "groups": right.units, "can": asked.can, "chance": right.chance,
                "accuracy": float(right.accuracy.estimate), "low": float(right.accuracy.low),
                "high": float(right.accuracy.high),
                "why": "" if asked.can else "its accuracy is not above chance",
            })  # fmt: skip
            head = {"dictionary": entry.label, "task": task.name}
            plain = _of_one_piece(judged)
            found[KEPT] += _kept(asked, plain, head, generator)
            found[CONTROL] += _control(asked, made, plain, head, generator)
            found[ATTRIBUTES] += _attributes(asked, made, plain, head, generator)
            advance(1)
    return found


def _kept(
    asked: Trials, judged: Mapping[str, Dictionary], head: Row, generator: torch.Generator
) -> list[Row]:
    return [
        {**head, "contender": one.method, "preference": one.preference,
         **_ends("share", one.share)}
        for one in approximations(asked, list(judged.items()), generator=generator)
    ]  # fmt: skip


def _control(
    asked: Trials,
    made: AttributedItems,
    judged: Mapping[str, Dictionary],
    head: Row,
    generator: torch.Generator,
) -> list[Row]:
    edits: dict[str, list[Control]] = {"labels": supervised_control(asked, generator=generator)}
    for name in (ITSELF, EDITED):
        edits[name] = dictionary_control(asked, judged[name], generator=generator)
    return [
        {
            **head, "attribute": made.attributes[one.attribute].name, "contender": name,
            "method": one.method, "most": one.most, "pairs": one.pairs, "turning": one.turning,
            **_ends("accuracy", one.accuracy), **_ends("turned", one.turned),
            **_ends("effect", one.effect), "weight": one.weight, "changed": one.changed,
        }
        for name, some in edits.items() for one in some
    ]  # fmt: skip


def _attributes(
    asked: Trials,
    made: AttributedItems,
    judged: Mapping[str, Dictionary],
    head: Row,
    generator: torch.Generator,
) -> list[Row]:
    rows = []
    values = [(a.name, value) for a in made.attributes for value in a.values]
    for name, dictionary in judged.items():
        for place, called in enumerate(made.places):
            code = dictionary.encode(asked.states[:, place].to(dictionary.b_dec))
            ever = code.column_counts().nonzero()[:, 0]
            found = interpretability(
                code.columns(ever) > 0, asked.prompts.labels, asked.prompts.group, most=UNION,
                draws=DEALS, generator=generator, halves=(asked.choose, asked.judge),
            )  # fmt: skip
            for at, (attribute, value) in enumerate(values):
                for size in range(1, UNION + 1):
                    held, member = found.held, found.members[at, size - 1]
                    rows.append({
                        **head, "contender": name, "place": called, "attribute": attribute,
                        "value": value, "union": size,
                        "feature": int(ever[member]) if member >= 0 else -1,
                        "f1_chosen": float(found.chosen[at, size - 1]),
                        "f1": float(held.observed[at, size - 1]),
                        "null_mean": float(held.null_mean[at, size - 1]),
                        "null_sd": float(held.null_sd[at, size - 1]),
                        "judged": int(found.judged[at]),
                    })  # fmt: skip
    return rows
