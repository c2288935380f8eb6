"""Prove on numbers that each canonical name is the tensor it says it is.

A name that fails is left out of the subject, and asking for it tells why. Checked on a short random
batch: every site fires exactly once; watching leaves the logits bitwise equal; the writers of a
block sum to the difference of its residual streams; head outputs and MLP hidden activations give
the block's outputs through their projections; the unembedding of the final norm is the logits;
and an edit at a site is what the next computation sees.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from energylens.activations.batch import Batch
from energylens.activations.hooks import module_at
from energylens.activations.subject import Subject
from energylens.core.errors import BadInput, SiteNotAvailable
from energylens.core.sites import Port, parse_port
from energylens.sources.model import LoadedModel, load_model

# Relative to the norm of the tensor checked: rounding of a sum of a few terms, with head-room.
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 1e-2}


@dataclass(frozen=True, kw_only=True)
class Identity:
    """One numerical statement about sites of one layer."""

    name: str
    sites: tuple[str, ...]
    error: float


def wrap(model: LoadedModel | nn.Module | str) -> Subject:
    """Certify the sites of a model; a model of no known family keeps its level-1 sites.

    Args:
        model: A loaded model, your own module, or a name that `load_model` takes.

    Raises:
        SiteNotAvailable: If watching the model changes its logits.

    Example:
        subject = wrap("tiny")
        subject.sites["blocks.2.resid_post"]
    """
    loaded = model if isinstance(model, LoadedModel) else load_model(model)
    if loaded.family is None:
        return Subject(loaded=loaded, sites={})
    candidate = Subject(loaded=loaded, sites=_claimed(loaded))
    with torch.no_grad():
        seen, fired = _watch(candidate)
        identities = list(_identities(candidate, seen))
        identities += list(_edits_take_effect(candidate, seen))
    absent = {name: "the model ran without reaching it" for name in fired if fired[name] == 0}
    absent |= {name: f"it fired {n} times in one pass" for name, n in fired.items() if n > 1}
    tolerance = TOLERANCE[next(loaded.module.parameters()).dtype]
    for identity in identities:
        if not identity.error <= tolerance:
            why = f"{identity.name} is off by {identity.error:.1e} of its norm"
            absent |= {site: why for site in identity.sites}
    worst: dict[str, float] = {}
    for identity in identities:
        worst[identity.name] = max(worst.get(identity.name, 0.0), identity.error)
    sites = {name: port for name, port in candidate.sites.items() if name not in absent}
    return Subject(
        loaded=loaded, sites=sites, absent=absent, certificate=worst,
        blocks_return_tuple=_blocks_return_tuple(candidate),
    )  # fmt: skip


def _blocks_return_tuple(subject: Subject) -> bool:
    kinds: list[bool] = []
    block = next(subject.blocks.children())
    handle = block.register_forward_hook(lambda m, args, out: kinds.append(isinstance(out, tuple)))
    try:
        with torch.no_grad():
            subject.forward(probe_batch(subject.loaded))
    finally:
        handle.remove()
    return kinds[0]


def _claimed(loaded: LoadedModel) -> dict[str, Port]:
    """Canonical names in the order a forward pass reaches them, and the ports a family claims."""
    family = loaded.family
    assert family is not None
    ports = {name: text for name, text in family.model_sites.items() if name == "embed"}
    for layer in range(loaded.n_layers):
        block = f"{family.blocks}.{layer}"
        for name, text in family.block_sites.items():
            ports[f"blocks.{layer}.{name}"] = text.format(block=block)
    ports |= {name: text for name, text in family.model_sites.items() if name != "embed"}
    parsed = {name: parse_port(text) for name, text in ports.items()}
    if wrong := [ports[name] for name, port in parsed.items() if port is None]:
        raise BadInput(f"family {family.name!r} claims {wrong[0]!r}: write `module.path:in|out`")
    return {name: port for name, port in parsed.items() if port is not None}


def probe_batch(loaded: LoadedModel) -> Batch:
    """Two sequences of eight random tokens, on the model's device."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, loaded.vocab_size, (2, min(8, loaded.context)), generator=generator)
    return Batch.full(ids).to(next(loaded.module.parameters()).device)


def _watch(subject: Subject) -> tuple[dict[str, Tensor], dict[str, int]]:
    batch = probe_batch(subject.loaded)
    bare = subject.forward(batch)
    fired = dict.fromkeys(subject.sites, 0)
    seen: dict[str, Tensor] = {}

    def watcher(name: str) -> Callable[[Tensor], Tensor]:
        def watch(value: Tensor) -> Tensor:
            fired[name] += 1
            seen[name] = value.clone()  # a block may go on in place
            return value

        return watch

    with subject.edit({name: watcher(name) for name in subject.sites}):
        watched = subject.forward(batch)
    if not torch.equal(bare, watched):
        raise SiteNotAvailable(f"watching {subject.loaded.name} changes its logits: is it in eval?")
    seen["logits"] = watched
    return seen, fired


def _identities(subject: Subject, seen: Mapping[str, Tensor]) -> Iterator[Identity]:
    family = subject.loaded.family
    assert family is not None
    if {"ln_final.normalized", "logits"} <= seen.keys():
        yield _same(
            "unembedding of the final norm = logits",
            subject.unembed(seen["ln_final.normalized"]), seen["logits"],
            ("ln_final.normalized", "logits"),
        )  # fmt: skip
    if {"embed", "blocks.0.resid_pre"} <= seen.keys():
        yield _same("embedding = first residual stream", seen["embed"], seen["blocks.0.resid_pre"],
                    ("embed",))  # fmt: skip
    last = f"blocks.{subject.n_layers - 1}.resid_post"
    if last in seen and "logits" in seen:
        yield _same("lens at the last layer = logits", subject.lens(seen[last]), seen["logits"],
                    (last,))  # fmt: skip
    for layer in range(subject.n_layers):
        here = f"blocks.{layer}."
        at = {n.removeprefix(here): v for n, v in seen.items() if n.startswith(here)}
        yield from _block_identities(subject, layer, at)


def _block_identities(subject: Subject, layer: int, at: Mapping[str, Tensor]) -> Iterator[Identity]:
    family = subject.loaded.family
    assert family is not None

    def named(*names: str) -> tuple[str, ...]:
        return tuple(f"blocks.{layer}.{name}" for name in names)

    if {"resid_pre", "resid_post", *family.writers} <= at.keys():
        total = at["resid_pre"] + sum(at[name] for name in family.writers)
        yield _same("writers sum to the residual difference", total, at["resid_post"],
                    named("resid_pre", "resid_post", *family.writers))  # fmt: skip
    if {"resid_pre", "resid_mid", "attn_out"} <= at.keys():
        yield _same("attention output = what it adds", at["resid_pre"] + at["attn_out"],
                    at["resid_mid"], named("resid_mid"))  # fmt: skip
    for inner, outer in (("attn.z", "attn_out"), ("mlp.post", "mlp_out")):
        if {inner, outer} <= at.keys():
            port = subject.sites[f"blocks.{layer}.{inner}"]
            if port.side == "in":  # the module that reads it projects it to the block's output
                projected = module_at(subject.module, port.path)(at[inner])
                yield _same(f"projection of {inner} = {outer}", projected, at[outer], named(inner))


def _edits_take_effect(subject: Subject, seen: Mapping[str, Tensor]) -> Iterator[Identity]:
    """Double every site of one name in one layer; the logits must move."""
    family = subject.loaded.family
    assert family is not None
    batch = probe_batch(subject.loaded)
    middle = subject.n_layers // 2
    names = [f"blocks.{middle}.{name}" for name in family.block_sites]
    for site in [name for name in names if name in seen]:
        with subject.edit({site: lambda value: value * 2}):
            moved = not torch.equal(subject.forward(batch), seen["logits"])
        every = tuple(n for n in seen if n.split(".", 2)[-1] == site.split(".", 2)[-1])
        yield Identity(name="an edit changes the logits", sites=every,
                       error=0.0 if moved else float("inf"))  # fmt: skip


def _same(name: str, found: Tensor, expected: Tensor, sites: tuple[str, ...]) -> Identity:
    error = (found - expected).norm() / expected.norm().clamp_min(torch.finfo(found.dtype).tiny)
    return Identity(name=name, sites=sites, error=float(error))
