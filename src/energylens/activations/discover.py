"""Find the canonical sites of an architecture that has no table, by what its modules compute.

Names of modules are never read. Blocks are siblings of one class that hand a stream of states on,
one after the other. What a block adds to the stream is the smallest set of its modules whose
outputs sum to the difference. Of these writers one that averages over positions is attention and
one that treats every position alone is the MLP. The unembedding is the linear map whose output is
the logits, and the final norm what leads to it from the last state. What is found is a claim:
certification proves it in every layer, or takes it away.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import combinations

import torch
from torch import Tensor, nn

from energylens.activations.agree import TOLERANCE, agree, multiple, relative_error
from energylens.activations.hooks import ports_edited
from energylens.activations.readout import read_out
from energylens.activations.trace import Call, once, traced
from energylens.core.sites import Port
from energylens.sources.family import Family

# Writers of one block: attention, MLP, and one more (a second mixer, or experts beside an MLP).
MOST_WRITERS = 3
# What a canonical name claims is searched this many modules below a block.
DEEPEST = 3
# As a forward pass reaches them.
ORDER = ("resid_pre", "attn.z", "attn_out", "resid_mid", "mlp.post", "mlp_out", "resid_post")


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What discovery found of a module."""

    family: Family
    n_layers: int
    d_model: int


@dataclass(frozen=True, kw_only=True)
class _Run:
    """Blocks: siblings `first` to `first + length - 1` of the list at `path`."""

    path: str
    first: int
    length: int

    def block(self, layer: int) -> str:
        return f"{self.path}.{self.first + layer}".lstrip(".")

    def holds(self, path: str) -> bool:
        return any(f"{path}.".startswith(f"{self.block(i)}.") for i in range(self.length))


def discover(module: nn.Module, forward: Callable[[], Tensor], model_type: str) -> Layout | str:
    """Where a module keeps its canonical sites, or one sentence's end why that cannot be told.

    Args:
        module: In eval mode.
        forward: Runs it on a short batch of random tokens and returns its logits, or whatever it
            returns first.
    """
    with torch.no_grad():
        with traced(module) as every:
            output = forward()
        calls = once(every)
        run = _blocks(module, {call.path: call for call in calls})
        if isinstance(run, str):
            return run
        end = read_out(
            module,
            calls,
            output,
            first=run.block(0),
            last=run.block(run.length - 1),
            held=run.holds,
        )
        inner = _Block(module, forward, calls, run.block(run.length // 2)).describe()
    stream = next(call.out for call in calls if call.path == run.block(0))
    assert stream is not None
    family = Family(
        name="discovered", model_types=(model_type,), blocks=run.path, first_block=run.first,
        block_sites=inner.sites, model_sites=end.sites, writers=inner.writers,
        writer_scale=inner.scale, parallel=inner.parallel, final_norm=end.final_norm,
        unembed=end.unembed, logit_scale=end.scale, absent={**inner.absent, **end.absent},
    )  # fmt: skip
    return Layout(family=family, n_layers=run.length, d_model=stream.shape[-1])


def _blocks(module: nn.Module, calls: dict[str, Call]) -> _Run | str:
    """The longest run of siblings of one class through which a stream of states goes in order."""
    runs = list(_runs(module, calls))
    outer = [run for run in runs if not any(other.holds(run.path) for other in runs)]
    if not outer:
        return "no list of its modules hands states on from one module to the next of its class"
    longest = max(run.length for run in outer)
    best = [run for run in outer if run.length == longest]
    if len(best) > 1:
        return (
            f"{' and '.join(repr(run.path) for run in best)} are both lists of {longest} blocks,"
            " and which of them is meant cannot be told"
        )
    return best[0]


def _runs(module: nn.Module, calls: dict[str, Call]) -> Iterator[_Run]:
    for path, siblings in module.named_modules():
        if not isinstance(siblings, nn.ModuleList | nn.Sequential):
            continue
        names = list(siblings._modules)
        length = 0
        for index, name in enumerate(names):
            here = calls.get(f"{path}.{name}".lstrip("."))
            before = calls.get(f"{path}.{names[index - 1]}".lstrip(".")) if length else None
            if before is not None and not _hands_on(before, here):
                yield from _long_enough(siblings, path, index - length, length)
                length = 0
            length = length + 1 if name == str(index) and _keeps_shape(here) else 0
        yield from _long_enough(siblings, path, len(names) - length, length)


def _long_enough(siblings: nn.Module, path: str, first: int, length: int) -> Iterator[_Run]:
    """One block is enough where it is the whole list and no single layer."""
    children = list(siblings.children())
    alone = len(children) == 1 and isinstance(siblings, nn.ModuleList)
    if length > 1 or (length == 1 and alone and any(children[0].children())):
        yield _Run(path=path, first=first, length=length)


def _keeps_shape(call: Call | None) -> bool:
    if call is None or call.into is None or call.out is None:
        return False
    return call.into.ndim == 3 and call.into.shape == call.out.shape


def _hands_on(before: Call, after: Call | None) -> bool:
    if after is None or after.into is None or before.out is None:
        return False
    same_class = type(before.module) is type(after.module)
    return same_class and before.entered < after.entered and torch.equal(before.out, after.into)


@dataclass(frozen=True, kw_only=True)
class _Inside:
    """Sites of a block, as a family holds them."""

    sites: dict[str, str]
    writers: tuple[str, ...] = ()
    scale: float = 1.0
    parallel: bool = False
    absent: dict[str, str]


class _Block:
    """One block, asked by passes in which its stream or its writers are replaced."""

    def __init__(
        self, module: nn.Module, forward: Callable[[], Tensor], calls: list[Call], path: str
    ) -> None:
        self.module, self.forward, self.path = module, forward, path
        self.calls = [call for call in calls if call.inside(path)]
        whole = next(call for call in calls if call.path == path)
        assert whole.into is not None and whole.out is not None
        self.pre, self.post = whole.into, whole.out

    def describe(self) -> _Inside:
        streams = {"resid_pre": "{block}:in", "resid_post": "{block}:out"}
        found = self._writers()
        if isinstance(found, str):
            return _Inside(sites=streams, absent=dict.fromkeys(ORDER[1:-1], found))
        writers, scale = found
        named, absent = self._named(writers)
        attn, mlp = named.get("attn_out"), named.get("mlp_out")
        ports = {name: self._text(call.port_out) for name, call in named.items()}
        for inner, writer in (("attn.z", attn), ("mlp.post", mlp)):
            if (projection := self._projection(writer) if writer else None) is not None:
                ports[inner] = self._text(projection.port_in)
            elif writer is None:
                absent[inner] = absent["attn_out" if inner == "attn.z" else "mlp_out"]
            else:
                absent[inner] = f"no one linear map projects to {writer.port_out}"
        parallel = bool(attn and mlp and not self._reads(mlp, attn))
        middle = self._middle(attn, mlp, scale, parallel=parallel)
        if isinstance(middle, str):
            absent["resid_mid"] = middle
        else:
            ports["resid_mid"] = self._text(middle)
        canonical = {call.path: name for name, call in named.items()}
        ports |= streams
        return _Inside(
            sites={name: ports[name] for name in ORDER if name in ports},
            writers=tuple(canonical.get(w.path, self._text(w.port_out)) for w in writers),
            scale=scale, parallel=parallel, absent=absent,
        )  # fmt: skip

    def _text(self, port: Port) -> str:
        return str(port).replace(self.path, "{block}", 1)

    def _writers(self) -> tuple[list[Call], float] | str:
        """The fewest and outermost modules whose outputs sum to what the block adds."""
        added = self.post - self.pre
        floor = self.path.count(".")
        closest = float("inf")
        for depth in range(1, DEEPEST + 1):
            candidates = self._distinct(
                [_unflattened(c, added) for c in self.calls
                 if c.depth - floor <= depth and _holds_states(c.out, added)]
            )  # fmt: skip
            for size in range(1, MOST_WRITERS + 1):
                for chosen in combinations(candidates, size):
                    scale, error = multiple(added, _total(chosen))
                    if error <= TOLERANCE[added.dtype]:
                        return list(chosen), scale
                    closest = min(closest, error)
        return (
            "no outputs of the block's modules sum to what it adds to the stream (the closest are"
            f" off by {closest:.1e} of its norm), as where the stream itself is normed"
        )

    def _distinct(self, candidates: list[Call]) -> list[Call]:
        """Of modules with the same output, as dropout has its input's, the outermost and first."""
        kept: list[Call] = []
        for call in sorted(candidates, key=lambda c: c.depth):
            if not any(torch.equal(call.out, other.out) for other in kept):  # type: ignore[arg-type]
                kept.append(call)
        return sorted(kept, key=lambda c: c.entered)

    def _named(self, writers: list[Call]) -> tuple[dict[str, Call], dict[str, str]]:
        mixing = {w.path: self._mixes(w, [o for o in writers if o is not w]) for w in writers}
        averaging = [w for w in writers if mixing[w.path] and self._averages(w)]
        alone = [w for w in writers if not mixing[w.path]]
        named, absent = {}, {}
        others = [str(w.port_out) for w in writers if mixing[w.path] and w not in averaging]
        verb = "mixes" if len(others) == 1 else "mix"
        also = f" ({' and '.join(others)} {verb} positions in another way)" if others else ""
        for name, found, what in (
            ("attn_out", averaging, "averages over positions, weights summing to 1"),
            ("mlp_out", alone, "treats every position alone"),
        ):
            if len(found) == 1 and found[0].flattened:
                absent[name] = f"{found[0].port_out} has it with all sequences in one row"
            elif len(found) == 1:
                named[name] = found[0]
            elif found:
                absent[name] = f"{' and '.join(str(w.port_out) for w in found)} are both such"
            else:
                absent[name] = f"nothing that the block adds to the stream {what}{also}"
        return named, absent

    def _mixes(self, writer: Call, others: list[Call]) -> bool:
        """Whether the first position's state alone matters to what is written at later ones.

        The other writers are held where they were, so that an MLP above attention is not taken for
        attention.
        """
        states = self.pre.clone()
        states[:, 0] = states[:, 0].roll(1, -1)
        found = self._rerun(writer, states, hold=others)
        assert writer.out is not None
        return not agree(found[:, 1:], writer.out[:, 1:])

    def _averages(self, writer: Call) -> bool:
        """Whether equal states at all positions give equal outputs, as weights that sum to 1 do.

        A state-space model or a convolution sums over positions and fails.
        """
        found = self._rerun(writer, self.pre[:, :1].expand_as(self.pre).clone(), hold=[])
        return agree(found, found[:, :1].expand_as(found), inside=True)

    def _reads(self, reader: Call, writer: Call) -> bool:
        assert writer.out is not None and reader.out is not None
        found = self._rerun(reader, self.pre, hold=[], double=writer)
        return relative_error(found, reader.out) > TOLERANCE[found.dtype]

    def _rerun(
        self, watched: Call, states: Tensor, *, hold: list[Call], double: Call | None = None
    ) -> Tensor:
        """What a module gives when the block reads other states and some writers do not follow."""
        seen: list[Tensor] = []

        def keep(value: Tensor) -> Tensor:
            seen.append(value.clone())
            return value

        edits: list[tuple[Port, Callable[[Tensor], Tensor]]] = [
            (Port(self.path, "in"), lambda value: states)
        ]
        for call in hold:
            assert call.out is not None
            # A copy each time, because the block may add to it in place.
            edits.append((call.port_out, lambda value, out=call.out: out.reshape_as(value).clone()))  # type: ignore[misc]
        if double is not None:
            edits.append((double.port_out, lambda value: 2 * value))
        with ports_edited(self.module, [*edits, (watched.port_out, keep)]):
            self.forward()
        return seen[0].reshape_as(self.pre)

    def _projection(self, writer: Call) -> Call | None:
        """The linear map whose output is the writer's, or what a writer that is a norm reads."""
        for call in self.calls:
            if not _is_linear(call.module) or call.into is None or call.into.ndim != 3:
                continue
            own = call.path == writer.path or call.inside(writer.path)
            if agree(call.out, writer.out if own else writer.into):
                return call
        return None

    def _middle(
        self, attn: Call | None, mlp: Call | None, scale: float, *, parallel: bool
    ) -> Port | str:
        """Where the stream between attention and MLP is read, or why it is nowhere."""
        if attn is None or mlp is None or attn.out is None:
            return "the block has not both attention and an MLP"
        if parallel:
            return "attention and MLP read the same stream, there is no middle"
        expected = self.pre + scale * attn.out
        readers = [call for call in self.calls if agree(call.into, expected)]
        if not readers:
            return "no module reads the stream between attention and MLP"
        return min(readers, key=lambda c: (c.depth, c.entered)).port_in


def _total(calls: tuple[Call, ...]) -> Tensor:
    return torch.stack([call.out for call in calls if call.out is not None]).sum(0)


def _holds_states(value: Tensor | None, stream: Tensor) -> bool:
    """Whether a tensor has one state for each position, be it [batch pos d] or [batch·pos d]."""
    return value is not None and value.shape in (stream.shape, stream.flatten(0, 1).shape)


def _unflattened(call: Call, stream: Tensor) -> Call:
    assert call.out is not None
    if call.out.shape == stream.shape:
        return call
    return replace(call, out=call.out.reshape_as(stream), flattened=True)


def _is_linear(module: nn.Module) -> bool:
    """Whether a module is one matrix product, as Linear is and the Conv1D of GPT-2."""
    weight = getattr(module, "weight", None)
    return isinstance(weight, Tensor) and weight.ndim == 2 and not isinstance(module, nn.Embedding)
