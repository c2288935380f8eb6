"""What lies before the first block and after the last, found by what the modules compute."""

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor, nn

from energylens.activations.agree import TOLERANCE, agree, multiple
from energylens.activations.trace import Call

# Modules between the last residual stream and the unembedding: a norm, or dense, activation, norm.
LONGEST = 5


@dataclass(frozen=True, kw_only=True)
class Readout:
    """Sites outside the blocks and the way to the logits, as a family holds them."""

    sites: dict[str, str]
    final_norm: tuple[str, ...] = ()
    unembed: str | None = None
    scale: float = 1.0
    absent: dict[str, str] = field(default_factory=dict)


def read_out(
    module: nn.Module,
    calls: list[Call],
    output: Tensor,
    *,
    first: str,
    last: str,
    held: Callable[[str], bool],
) -> Readout:
    """Embedding, final norm and unembedding.

    Args:
        calls: Of modules that were called once.
        output: What the model returned: logits, or states where it has no head.
        first: Path of the first block.
        last: Path of the last block.
        held: Whether a path lies in a block.
    """
    begin = next(call for call in calls if call.path == first)
    end = next(call for call in calls if call.path == last)
    outside = [call for call in calls if call.path and not held(call.path)]
    sites, absent = {}, {}
    entry = [c for c in outside if c.entered < begin.entered and agree(c.out, begin.into)]
    if entry:
        sites["embed"] = f"{entry[0].path}:out"
    else:
        absent["embed"] = "no module gives the first residual stream, see blocks.0.resid_pre"
    after = [call for call in outside if call.entered > end.entered]
    head = _unembedding(module, after, output)
    way = _way(after, end.out, head.into if head else output, head)
    if way:
        sites["ln_final.normalized"] = f"{way[-1]}:out"
    else:
        absent["ln_final.normalized"] = _no_way(head) if way is None else "no final norm is applied"
    if head is None:
        absent["lens"] = absent["logits"] = "it has no unembedding"
        return Readout(sites=sites, final_norm=way or (), absent=absent)
    assert head.out is not None
    scale, error = multiple(output, head.out)
    capped = not error <= TOLERANCE[output.dtype]
    if capped or scale != 1.0:
        found = f"off by {error:.1e} of their norm" if capped else f"{scale:.4g} times it"
        absent["logits"] = f"the logits are not what the unembedding gives, but {found}"
    else:
        sites["logits"] = f"{head.path}:out"
    if way is None:
        absent["lens"] = _no_way(head)
    elif capped:
        absent["lens"] = f"{absent['logits']}, as where they are capped"
    elif scale != 1.0 and getattr(head.module, "bias", None) is not None:
        absent["lens"] = f"{absent['logits']}, bias and all"
    return Readout(
        sites=sites, final_norm=way or (), unembed=head.path,
        scale=1.0 if capped else scale, absent=absent,
    )  # fmt: skip


def _no_way(head: Call | None) -> str:
    where = "the unembedding" if head else "the output"
    return f"no chain of modules leads from the last residual stream to {where}"


def _unembedding(module: nn.Module, after: list[Call], output: Tensor) -> Call | None:
    """The linear map that the model says is its output embedding, or whose output is returned."""
    said = getattr(module, "get_output_embeddings", lambda: None)()
    linear = [call for call in after if isinstance(call.module, nn.Linear)]
    for call in reversed(linear):
        if call.into is None or call.out is None or call.out.shape != output.shape:
            continue
        if call.module is said or agree(call.out, output):
            return call
    return None


def _way(
    after: list[Call], start: Tensor | None, goal: Tensor | None, head: Call | None, depth: int = 0
) -> tuple[str, ...] | None:
    """A chain of modules that turns one tensor into another; outer modules are tried first."""
    if start is None:
        return None
    if agree(start, goal):
        return ()
    if depth == LONGEST:
        return None
    steps = [call for call in after if agree(call.into, start) and not agree(call.out, start)]
    for call in sorted(steps, key=lambda c: c.depth):
        around = head is not None and (head.path == call.path or head.inside(call.path))
        # A pooler picks a position: no function of one state.
        by_position = call.out is not None and call.out.shape[:-1] == start.shape[:-1]
        if by_position and not around:
            rest = _way(after, call.out, goal, head, depth + 1)
            if rest is not None:
                return (call.path, *rest)
    return None
