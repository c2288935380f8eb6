"""Prove on numbers that each canonical name is the tensor it says it is.

A name that fails is left out of the subject, and asking for it tells why. Checked on a short random
batch: every site fires exactly once; watching leaves the logits bitwise equal; what a block gives
is what the next one gets; the writers of a block sum to the difference of its residual streams;
head outputs and MLP hidden activations give the block's outputs through their projections; the
final norm of the last stream is what is unembedded, and the lens there gives the logits; and an
edit at a site is what the next computation sees.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from energylens.activations.agree import TOLERANCE, relative_error
from energylens.activations.batch import Batch
from energylens.activations.capabilities import UNFIT, lacking, no_loss, said
from energylens.activations.discover import discover
from energylens.activations.hooks import module_at
from energylens.activations.subject import Subject
from energylens.core.errors import BadInput, SiteNotAvailable
from energylens.core.sites import BLOCK_SITES, Port, parse_port
from energylens.sources.family import Family
from energylens.sources.model import LoadedModel, load_model

LENS = "lens at the last layer = logits"


@dataclass(frozen=True, kw_only=True)
class Identity:
    """One numerical statement about sites of one layer."""

    name: str
    sites: tuple[str, ...]
    error: float

    @property
    def failure(self) -> str:
        if self.error == float("inf"):
            return f"{self.name} failed"
        return f"{self.name} is off by {self.error:.1e} of its norm"


def wrap(model: LoadedModel | nn.Module | str, *, probe: Batch | None = None) -> Subject:
    """Find the sites of a model, certify them, and say what it lacks.

    Args:
        model: A loaded model, your own module, or a name that `load_model` takes.
        probe: Tokens to find and certify the sites with; by default two sequences of eight random
            tokens, if the model tells the size of its vocabulary. It lies where the model computes.
            Without either a module keeps its level-1 sites alone.

    Raises:
        SiteNotAvailable: If watching the model changes its logits.

    Example:
        subject = wrap("tiny")
        subject.sites["blocks.2.resid_post"]
    """
    loaded = model if isinstance(model, LoadedModel) else load_model(model)
    batch = probe_batch(loaded) if probe is None else probe
    if batch is None:
        why = "nothing tells what tokens to try it on, so give probe=Batch.full(ids)"
        return _without_blocks(loaded, why, loss=why)
    if loaded.family is not None:
        return _certified(loaded, batch)
    bare = Subject(loaded=loaded, sites={})
    try:
        with torch.no_grad():
            output = bare.forward(batch)
            loss = no_loss(bare, batch, output)
    except UNFIT as error:
        why = f"it cannot be run on token ids alone ({said(error)})"
        return _without_blocks(loaded, why, loss=why)
    layout = discover(loaded.module, lambda: bare.forward(batch), loaded.model_type)
    if isinstance(layout, str):
        return _without_blocks(loaded, layout, loss=loss)
    found = replace(
        loaded, family=layout.family, n_layers=layout.n_layers, d_model=layout.d_model
    )  # fmt: skip
    return _certified(found, batch)


def _certified(loaded: LoadedModel, batch: Batch) -> Subject:
    family = loaded.family
    assert family is not None
    claimed, absent = _claimed(loaded, family)
    candidate = Subject(
        loaded=loaded, sites=claimed, blocks_return_tuple=_blocks_return_tuple(loaded, batch)
    )
    with torch.no_grad():
        seen, fired, output = _watch(candidate, batch)
        identities = list(_identities(candidate, seen, output))
        identities += list(_edits_take_effect(candidate, batch, seen, output))
    tolerance = TOLERANCE[output.dtype]
    for name, times in fired.items():
        if times != 1:
            absent[name] = (
                f"it fired {times} times in one pass"
                if times
                else ("the model ran without reaching it")
            )
    lens_why = family.absent.get("lens")
    for identity in identities:
        if not identity.error <= tolerance:
            why = identity.failure
            absent |= dict.fromkeys(identity.sites, why)
            lens_why = why if identity.name == LENS else lens_why
    absent |= _added_scaled(candidate, family)
    worst: dict[str, float] = {}
    for identity in identities:
        worst[identity.name] = max(worst.get(identity.name, 0.0), identity.error)
    found = replace(
        candidate, certificate=worst,
        absent={name: why for name, why in absent.items() if parse_port(name) is None},
        sites={name: port for name, port in claimed.items()
               if name not in absent and parse_port(name) is None},
    )  # fmt: skip
    with torch.no_grad():
        return replace(found, lacks=lacking(found, batch, output, lens_why))


def _without_blocks(loaded: LoadedModel, why: str, *, loss: str | None) -> Subject:
    lacks = dict.fromkeys(("blocks", "lens", "suffix"), why) | ({"loss": loss} if loss else {})
    return Subject(loaded=loaded, sites={}, lacks=lacks)


def _blocks_return_tuple(loaded: LoadedModel, batch: Batch) -> bool:
    kinds: list[bool] = []
    bare = Subject(loaded=loaded, sites={})
    handle = bare.blocks[0].register_forward_hook(
        lambda m, args, out: kinds.append(isinstance(out, tuple))
    )
    try:
        with torch.no_grad():
            bare.forward(batch)
    finally:
        handle.remove()
    return kinds[0]


def _claimed(loaded: LoadedModel, family: Family) -> tuple[dict[str, Port], dict[str, str]]:
    """Canonical names in the order a forward pass reaches them, with the ports a family claims.

    Writers that have no canonical name are claimed under their port, to be watched too. Beside
    these, the names that are not to be had, and why.
    """
    ports = {name: text for name, text in family.model_sites.items() if name == "embed"}
    absent = {name: why for name, why in family.absent.items() if name in ("embed", "logits")}
    for layer in range(loaded.n_layers):
        block, here = family.block(layer), f"blocks.{layer}."
        ports |= {here + n: text.format(block=block) for n, text in family.block_sites.items()}
        absent |= {here + n: why for n, why in family.absent.items() if n in BLOCK_SITES}
        unnamed = [text.format(block=block) for text in family.writers if ":" in text]
        ports |= {text: text for text in unnamed}
    ports |= {name: text for name, text in family.model_sites.items() if name != "embed"}
    parsed = {name: parse_port(text) for name, text in ports.items()}
    if wrong := [ports[name] for name, port in parsed.items() if port is None]:
        raise BadInput(f"family {family.name!r} claims {wrong[0]!r}: write `module.path:in|out`")
    paths = {name for name, _ in loaded.module.named_modules()}
    claimed: dict[str, Port] = {}
    for name, port in parsed.items():
        if port is not None and port.path in paths:
            claimed[name] = port
        elif port is not None:
            absent[name] = f"there is no module {port.path}, though other blocks have it"
    return claimed, absent


def probe_batch(loaded: LoadedModel) -> Batch | None:
    """Two sequences of eight random tokens, on the model's device; None without a vocabulary."""
    if not loaded.vocab_size:
        return None
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, loaded.vocab_size, (2, min(8, loaded.context or 8)), generator=generator)
    return Batch.full(ids).to(next(loaded.module.parameters()).device)


def _watch(subject: Subject, batch: Batch) -> tuple[dict[str, Tensor], dict[str, int], Tensor]:
    bare = subject.forward(batch)
    fired = dict.fromkeys(subject.sites, 0)
    seen: dict[str, Tensor] = {}

    def watcher(name: str) -> Callable[[Tensor], Tensor]:
        def watch(value: Tensor) -> Tensor:
            fired[name] += 1
            seen[name] = value.clone()  # a block may go on in place
            return value

        return watch

    # Writers without a name are given as ports, which `edit` takes too.
    with subject.edit({name: watcher(name) for name in subject.sites}):
        watched = subject.forward(batch)
    if not torch.equal(bare, watched):
        raise SiteNotAvailable(f"watching {subject.loaded.name} changes its logits: is it in eval?")
    return seen, fired, watched


def _identities(subject: Subject, seen: Mapping[str, Tensor], output: Tensor) -> Iterator[Identity]:
    family = subject.loaded.family
    assert family is not None
    yield from _end_identities(subject, family, seen, output)
    if {"embed", "blocks.0.resid_pre"} <= seen.keys():
        yield _same("embedding = first residual stream", seen["embed"], seen["blocks.0.resid_pre"],
                    ("embed",))  # fmt: skip
    for layer in range(subject.n_layers):
        here, above = f"blocks.{layer}.", f"blocks.{layer + 1}.resid_pre"
        if above in seen and f"{here}resid_post" in seen:
            yield _same("a block gets what the one below gives", seen[above],
                        seen[f"{here}resid_post"], (above, f"{here}resid_post"))  # fmt: skip
        at = {n.removeprefix(here): v for n, v in seen.items() if n.startswith(here)}
        for writer in family.writers:
            if ":" in writer and (port := writer.format(block=family.block(layer))) in seen:
                at[writer] = seen[port]
        yield from _block_identities(subject, layer, at)


def _end_identities(
    subject: Subject, family: Family, seen: Mapping[str, Tensor], output: Tensor
) -> Iterator[Identity]:
    """From the last residual stream to the logits."""
    last = seen.get(f"blocks.{subject.n_layers - 1}.resid_post")
    normed, has_lens = seen.get("ln_final.normalized"), "lens" not in family.absent
    if "logits" in seen:
        yield _same("the unembedding gives the logits", seen["logits"], output, ("logits",))
    if normed is not None and family.unembed is not None and has_lens:
        scores = family.logit_scale * module_at(subject.module, family.unembed)(normed)
        yield _same("unembedding of the final norm = logits", scores, output,
                    ("ln_final.normalized",))  # fmt: skip
    if normed is not None and last is not None:
        through = last
        for path in family.final_norm:
            through = module_at(subject.module, path)(through)
        yield _same("final norm of the last residual stream", through, normed,
                    ("ln_final.normalized",))  # fmt: skip
    if last is not None and has_lens:
        yield _same(LENS, subject.lens(last), output, ())


def _block_identities(subject: Subject, layer: int, at: Mapping[str, Tensor]) -> Iterator[Identity]:
    family = subject.loaded.family
    assert family is not None

    def named(*names: str) -> tuple[str, ...]:
        return tuple(f"blocks.{layer}.{name}" for name in names if ":" not in name)

    if family.writers and {"resid_pre", "resid_post", *family.writers} <= at.keys():
        total = sum(at[name].reshape_as(at["resid_pre"]) for name in family.writers)
        added = family.writer_scale * total
        yield _same("writers sum to the residual difference", at["resid_pre"] + added,
                    at["resid_post"], named(*family.writers))  # fmt: skip
    else:
        yield Identity(name="the search for what a block of this kind adds",
                       sites=named(*family.writers), error=float("inf"))  # fmt: skip
    if {"resid_pre", "resid_mid", "attn_out"} <= at.keys():
        yield _same("attention output = what it adds",
                    at["resid_pre"] + family.writer_scale * at["attn_out"], at["resid_mid"],
                    named("resid_mid"))  # fmt: skip
    for inner, outer in (("attn.z", "attn_out"), ("mlp.post", "mlp_out")):
        if {inner, outer} <= at.keys():
            port = subject.sites[f"blocks.{layer}.{inner}"]
            writer = subject.sites[f"blocks.{layer}.{outer}"]
            if port.side == "in":  # the module that reads it projects it to the block's output
                projected = module_at(subject.module, port.path)(at[inner])
                if not f"{port.path}.".startswith(f"{writer.path}."):  # a norm after projection
                    projected = module_at(subject.module, writer.path)(projected)
                yield _same(f"projection of {inner} = {outer}", projected, at[outer], named(inner))


def _edits_take_effect(
    subject: Subject, batch: Batch, seen: Mapping[str, Tensor], output: Tensor
) -> Iterator[Identity]:
    """Change every site of one name in one layer; the logits must move.

    States are mixed, not scaled: a norm undoes a scale.
    """
    family = subject.loaded.family
    assert family is not None
    middle = subject.n_layers // 2
    names = [f"blocks.{middle}.{name}" for name in family.block_sites]
    for site in [name for name in names if name in seen]:
        with subject.edit({site: lambda value: value + value.roll(1, -1)}):
            moved = not torch.equal(subject.forward(batch), output)
        every = tuple(n for n in seen if n.split(".", 2)[-1] == site.split(".", 2)[-1])
        yield Identity(name="an edit changes the logits", sites=every,
                       error=0.0 if moved else float("inf"))  # fmt: skip


def _added_scaled(subject: Subject, family: Family) -> dict[str, str]:
    """Writers that the block multiplies by a number are not what is added."""
    if family.writer_scale == 1.0:
        return {}
    kinds = [name for name in family.writers if ":" not in name]
    return {
        name: f"{family.writer_scale:.4g} times {port} is what is added to the stream"
        for name, port in subject.sites.items() if name.split(".", 2)[-1] in kinds
    }  # fmt: skip


def _same(name: str, found: Tensor, expected: Tensor, sites: tuple[str, ...]) -> Identity:
    return Identity(name=name, sites=sites, error=relative_error(found, expected))
