"""The card of a dictionary on the hub, from the records of the run that judged it.

Everything in it is computed: nothing of a run's text is taken for Markdown.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from energylens.core.errors import ArtifactRefused, BadInput
from energylens.features.cross_layer import CrossLayerTranscoder
from energylens.features.crosscoder import Crosscoder
from energylens.features.dictionary import Dictionary, weights_sha256
from energylens.features.formats import cross_layer
from energylens.features.formats.disk import read_json
from energylens.features.formats.recognise import Loaded, load_dictionary
from energylens.results.record import Estimate, Summary
from energylens.results.text import visible
from energylens.sources.hub import is_repository

_MARKUP = re.compile(r"([\\`*_\[\]<>|#~!$])")
_INFERENCE = ("standard", "topk", "gated", "jumprelu")
_NAMING = ("cfg.json", "cross_layer.json", "W_enc_0.safetensors")
"""A file of each folder that a run may have left."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A run that judged dictionaries, and what it calls this one.

    Attributes:
        run: What `run.json` says.
        summary: What it found.
        label: The run's name of this dictionary; empty where it has but one.
        ours: Whether the run holds, or hashed, these very weights.
    """

    run: Mapping[str, Any]
    summary: Summary
    label: str
    ours: bool


def read_judged(dictionary: Loaded, run: Path | str) -> Judged:
    """Read the run that trained or evaluated a dictionary.

    Args:
        dictionary: What is to be described; its weights are looked for in the run.
        run: A run folder with `run.json` and `summary.json`.

    Raises:
        BadInput: If the folder holds no finished run.
        ArtifactRefused: If a record is damaged.
    """
    folder = Path(run)
    if not (folder / "summary.json").is_file() or not (folder / "run.json").is_file():
        raise BadInput(f"{folder} holds no finished run: give the folder of one, with summary.json")
    summary = Summary.from_json((folder / "summary.json").read_bytes(), f"{folder}/summary.json")
    record = read_json(folder / "run.json")
    sha256 = weights_sha256(plain(dictionary))
    inputs = record.get("inputs") or {}
    for name, entry in inputs.items():
        if name.startswith("dictionary") and isinstance(entry, dict) and sha256 in entry.values():
            return Judged(run=record, summary=summary, label=str(entry.get("name")), ours=True)
    label = next((name for name, found in _kept_there(folder) if found == sha256), None)
    return Judged(run=record, summary=summary, label=label or "", ours=label is not None)


def _kept_there(folder: Path) -> Iterator[tuple[str, str]]:
    """Folders of the dictionaries that a run has left, and their hashes."""
    found = {file.parent for name in _NAMING for file in folder.glob(f"dictionar*/**/{name}")}
    for place in sorted(found):
        try:
            yield place.name, weights_sha256(plain(load_dictionary(place)))
        except ArtifactRefused:
            continue


def plain(made: Loaded) -> Dictionary | CrossLayerTranscoder:
    """The dictionary of its sites side by side, of a crosscoder; others as they are."""
    return made.dictionary if isinstance(made, Crosscoder) else made


def model_card(
    dictionary: Loaded,
    repository: str,
    subfolder: str,
    *,
    judged: Judged | None = None,
    license: str | None = None,
) -> str:
    """README.md of a dictionary: what it is, how to load it, and how it was judged.

    Args:
        dictionary: What is described.
        repository: Hub id it will lie at.
        subfolder: Folder of the repository.
        judged: The run that judged it; None: the card says that nothing did.
        license: Name of a licence as the hub knows it, as in "mit"; left out if None.
    """
    model = str(plain(dictionary).metadata.get("model_name") or "")
    readable = isinstance(dictionary, Dictionary) and saelens_holds(dictionary)
    head: dict[str, Any] = {
        "library_name": "saelens" if readable else "energylens",
        "tags": ["energylens", "sparse-autoencoder", "mechanistic-interpretability"]
        + (["saelens"] if readable else []),
        **({"license": license} if license else {}),
        **({"base_model": model} if is_repository(model) else {}),
    }
    lines = [
        "---", *(f"{name}: {json.dumps(value)}" for name, value in head.items()), "---",
        mark(subfolder), "",
        f"# {_plain(repository.split('/')[-1])}: {_plain(subfolder)}", "",
        _lead(dictionary), "",
        *_table(("", ""), _facts(dictionary)), "",
        "## Evaluation", "",
        *(_evaluation(judged) if judged else [NOT_EVALUATED]), "",
        "## Loading", "",
        *_loading(dictionary, repository, subfolder, readable=readable), "",
    ]  # fmt: skip
    return "\n".join(lines)


NOT_EVALUATED = (
    "Not evaluated: no run was given when this was uploaded, so nothing here says how much of the "
    "states it keeps, or whether its features mean more than random directions."
)


def mark(subfolder: str) -> str:
    """The line by which a card is known as ours, and as that of this folder."""
    return f"<!-- card of {subfolder} by energylens; without this line it is left as it is -->"


def saelens_holds(dictionary: Dictionary) -> bool:
    """Whether SAELens reads what is written of a dictionary, or has no such kind."""
    writes_elsewhere = dictionary.W_skip is not None or dictionary.d_in != dictionary.d_out
    elsewhere = writes_elsewhere or dictionary.metadata.get("hook_name_out") is not None
    return dictionary.architecture in (("standard", "jumprelu") if elsewhere else _INFERENCE)


def _lead(made: Loaded) -> str:
    own = plain(made)
    model = own.metadata.get("model_name")
    whose = f" in {_plain(model)}" if model else ""
    if isinstance(made, CrossLayerTranscoder):
        return (
            f"A cross-layer transcoder of {_layers(made)}{whose}: {made.width:,} features in all,"
            f" {made.k:,} of a layer's active a row. A feature reads at its layer and writes there"
            " and at all later ones."
        )
    if isinstance(made, Crosscoder):
        what, where = "crosscoder", f" of {' and '.join(map(_plain, made.names))}"
    else:
        what, site = "dictionary", own.metadata.get("hook_name")
        where = f" of {_plain(site)}" if site else ""
    return f"A sparse {what}{where}{whose}: {own.width:,} features, {own.k:,} of them active a row."


def _layers(made: CrossLayerTranscoder) -> str:
    first, last = made.layers[0], made.layers[-1]
    whole = made.layers == tuple(range(first, last + 1))
    return f"layers {first} to {last}" if whole else f"layers {', '.join(map(str, made.layers))}"


def _facts(made: Loaded) -> list[tuple[str, str]]:
    own = plain(made)
    facts: list[tuple[str, Any]] = [("model", own.metadata.get("model_name"))]
    if isinstance(made, CrossLayerTranscoder):
        facts += _facts_across_layers(made)
    elif isinstance(own, Dictionary):
        facts += _facts_of_sites(made, own)
    facts.append(("SHA-256 of the weights", weights_sha256(own)))
    return [(name, _plain(value)) for name, value in facts if value is not None]


def _facts_across_layers(made: CrossLayerTranscoder) -> list[tuple[str, Any]]:
    widths = sorted(set(made.widths))
    return [
        ("layers", _layers(made)), ("read in each", made.metadata.get("feature_input_hook")),
        ("written in each", made.metadata.get("feature_output_hook")),
        ("architecture", made.architecture),
        ("features of a layer", " to ".join(f"{n:,}" for n in (widths[0], *widths[1:][-1:]))),
        ("active a row and layer, k", f"{made.k:,}"),
        ("width of the rows", f"{made.d_in:,} read, {made.d_out:,} written"),
        ("type", _type(made.b_dec)),
    ]  # fmt: skip


def _facts_of_sites(made: Loaded, own: Dictionary) -> list[tuple[str, Any]]:
    said = own.metadata
    offset = "subtracted from the input, added to the output"
    sites = made.sites if isinstance(made, Crosscoder) else ()
    return [
        ("site read", said.get("hook_name")), ("site written", said.get("hook_name_out")),
        *((f"site {number}", f"{site.name}, {site.width:,} values")
          for number, site in enumerate(sites, start=1)),
        ("architecture", own.architecture),
        ("features", f"{own.width:,}"), ("active a row, k", f"{own.k:,}"),
        ("width of the rows", f"{own.d_in:,}" if own.d_in == own.d_out
         else f"{own.d_in:,} read, {own.d_out:,} written"),
        ("type", _type(own.W_enc)),
        ("b_dec", offset if own.subtracts_b_dec else "added to the output alone"),
        ("skip", "W_skip x is added" if own.W_skip is not None else None),
    ]  # fmt: skip


def _type(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _evaluation(judged: Judged) -> list[str]:
    summary, figures = judged.summary, _of_label(judged)
    first = [name for name in summary.cards if name in figures]
    order = [*first, *(name for name in figures if name not in first)]
    whose = (
        "The run holds these very weights."
        if judged.ours
        else "The run does not hold these weights, so that it judged them is the uploader's word."
    )
    said = f"{_plain(summary.finding, 4000)} {_plain(summary.detail, 4000)}".strip()
    return [
        said if len(figures) == len(summary.figures) else f"Of the whole run: {said}", "",
        *_table(("measure", "value", "95 %", "null", "units"),
                [_figure(name, figures[name]) for name in order]), "",
        *_table(("", ""), _provenance(judged)), "",
        whose, "",
        *(f"- {'Held' if control.passed else '**Failed**'}: {_plain(control.sentence, 400)}"
          for control in summary.controls.values()),
        *(f"- Suspicious: {_plain(sentence, 400)}" for sentence in summary.suspicious),
        *(f"- Limit: {_plain(sentence, 400)}" for sentence in summary.limits),
    ]  # fmt: skip


def _of_label(judged: Judged) -> dict[str, Estimate]:
    """The figures of this dictionary; all of them where a run has but one."""
    figures = dict(judged.summary.figures)
    label = re.sub(r"[^a-z0-9]", "_", judged.label.lower())
    own = {
        name: found for name, found in figures.items()
        if label and label in name.split(".")[1:]
    }  # fmt: skip
    return own or figures


def _figure(name: str, found: Estimate) -> tuple[str, ...]:
    """One line of numbers; what the run does not say is a dash."""
    told = {word.split(" ")[0]: word for word in found.told}
    value = " ".join(found.value_and_unit)
    undefined = f", {found.undefined:,} undefined" if found.undefined else ""
    cells = (
        found.label or name, value, told.get("95", "–").removeprefix("95 % "),
        told.get("null", "–").removeprefix("null "),
        (f"{found.n:,} {found.n_unit}" if found.n else "–") + undefined,
    )  # fmt: skip
    return tuple(_plain(cell, 200) for cell in cells)


def _provenance(judged: Judged) -> list[tuple[str, str]]:
    """Model, text and tokens as the run recorded them."""
    run, inputs = judged.run, judged.run.get("inputs") or {}
    rows = [("study", judged.summary.study), ("grade", judged.summary.grade)]
    for name, entry in inputs.items():
        if isinstance(entry, dict) and not name.startswith("dictionary"):
            counted = f", {entry['documents']:,} documents" if "documents" in entry else ""
            sha256 = str(entry.get("sha256") or "")[:16]
            rows.append((name, f"{entry.get('name')} {sha256}{counted}"))
    options = run.get("options") or {}
    rows += [(name.replace("_", " "), f"{options[name]:,}") for name in
             ("tokens", "train_tokens", "context", "documents", "steps")
             if isinstance(options.get(name), int)]  # fmt: skip
    rows += [
        ("seeds", ", ".join(map(str, run.get("seeds") or []))),
        ("energylens", str((run.get("versions") or {}).get("energylens", ""))),
        ("date", str(run.get("finished") or "")[:10]),
    ]
    return [(name, _plain(value)) for name, value in rows if value]


def _loading(made: Loaded, repository: str, subfolder: str, *, readable: bool) -> list[str]:
    place = f'"{repository}", subfolder="{subfolder}"'
    if isinstance(made, CrossLayerTranscoder):
        rows = "code = dictionary.encode(rows)  # rows: by layer, what it reads, [n, d]"
        others = ("The files are those of circuit-tracer." if cross_layer.holds(made)
                  else "circuit-tracer has no transcoder of this kind.")  # fmt: skip
    elif isinstance(made, Crosscoder):
        rows = "code = dictionary.encode(rows)  # rows: by site, states of the same tokens, [n, d]"
        others = "SAELens reads the folder as a dictionary of the sites' rows side by side."
    else:
        rows = "code = dictionary.encode(rows)  # rows: states of the site, [n, d]"
        others = "SAELens has no dictionary of this kind."
    theirs = [
        "```python", "from sae_lens import SAE", "",
        f'sae = SAE.from_pretrained("{repository}", "{subfolder}")', "```",
    ]  # fmt: skip
    return [
        "```python", "import energylens as el", "",
        f"dictionary = el.from_pretrained({place})", rows, "```", "",
        *(theirs if readable else [others]),
    ]  # fmt: skip


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]


def _plain(value: object, most: int = 120) -> str:
    """A text in which Markdown and HTML find nothing to do."""
    return _MARKUP.sub(r"\\\1", visible(str(value), most=most).replace("&", "&amp;"))
