"""A model under study: the user's own module, with certified names for its places."""

import inspect
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from energylens.activations.agree import TOLERANCE
from energylens.activations.batch import Batch
from energylens.activations.hooks import Edit, Stop, module_at, ports_edited
from energylens.activations.images import ImageBatch
from energylens.core.errors import BadInput, SiteNotAvailable, UnknownName
from energylens.core.sites import Port, canonical, expand, layer_of, parse_port
from energylens.results.format import number
from energylens.results.show import Row, Shown, ShowsItself
from energylens.sources.family import Family
from energylens.sources.model import LoadedModel


@dataclass(frozen=True, kw_only=True, repr=False)
class Subject(ShowsItself):
    """A loaded model whose sites were certified; the module itself is never changed.

    Attributes:
        loaded: The model and where it came from.
        sites: Canonical names that passed their certification, and where they are.
        absent: Canonical names that did not, and why.
        certificate: The largest relative error of each identity that was checked.
        lacks: What else certification took away, and why: `blocks` (a list of them), `lens` (the
            way from a residual stream to logits), `loss` (of the next token), `suffix` (running
            from a residual site), `padding` (sequences of different lengths).
        blocks_return_tuple: Whether a block answers with a tuple rather than a bare tensor.
    """

    loaded: LoadedModel
    sites: Mapping[str, Port]
    absent: Mapping[str, str] = field(default_factory=dict)
    certificate: Mapping[str, float] = field(default_factory=dict)
    lacks: Mapping[str, str] = field(default_factory=dict)
    blocks_return_tuple: bool = False

    @property
    def module(self) -> nn.Module:
        return self.loaded.module

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return next(self.module.parameters()).device

    @property
    def n_layers(self) -> int:
        return self.loaded.n_layers

    def port(self, site: str | tuple[str, int]) -> Port:
        """Where a site is.

        Raises:
            SiteNotAvailable: If its certification failed, with the reason.
            UnknownName: If there is no such site, with the nearest names.
            BadInput: If the layer is out of range.
        """
        name = canonical(site)
        if name in self.sites:
            return self.sites[name]
        if name in self.absent:
            raise SiteNotAvailable(f"site {name!r} is not to be had here: {self.absent[name]}")
        if (port := parse_port(name)) is not None:
            module_at(self.module, port.path)  # raises with the nearest paths
            return port
        layer = layer_of(name)
        if layer is not None and "blocks" in self.lacks:
            raise SiteNotAvailable(
                f"site {name!r} is not to be had here: {self.lacks['blocks']}; any module is a site"
                " too, as module.path:out"
            )
        if layer is not None and self.sites and not 0 <= layer < self.n_layers:
            raise BadInput(
                f"layer {layer} was asked for in {name!r}: {self.loaded.name} has layers"
                f" 0 to {self.n_layers - 1}"
            )
        raise UnknownName(
            "site", name, self.sites, advice="Any module is a site too, as `module.path:out`."
        )

    def expand(self, pattern: str) -> list[str]:
        """Certified sites that a wildcard such as `blocks.*.resid_post` names, in model order."""
        return expand(pattern, list(self.sites)) if "*" in pattern else [canonical(pattern)]

    def forward(self, batch: Batch | ImageBatch) -> Float[Tensor, " batch *output"]:
        """Run the model and return its logits (for other modules: its first output).

        Raises:
            SiteNotAvailable: If sequences are padded and the model was found to mind it.
        """
        if "padding" in self.lacks and isinstance(batch, Batch) and not bool(batch.mask.all()):
            self.require("padding")
        return _first(_call(self.module, batch))

    @contextmanager
    def capture(
        self, *sites: str, grad: bool = False, stop: bool = False
    ) -> Iterator[dict[str, Tensor]]:
        """Collect the tensors at sites during the forward passes inside the block.

        With `grad` the first site reached becomes the leaf of a graph and what follows stays in
        it, so that `torch.autograd.grad` gives the exact derivative at every captured site.
        With `stop` the pass ends at the last site asked for: run it through `run`.

        Raises:
            SiteNotAvailable: On leaving the block, if a site was not reached or reached twice.

        Example:
            with subject.capture("blocks.3.resid_post") as seen:
                subject.run(batch)
            seen["blocks.3.resid_post"]          # [batch pos d_model]
        """
        names = dict.fromkeys(name for site in sites for name in self.expand(site))
        seen: dict[str, Tensor] = {}
        twice: set[str] = set()

        stop_at = len(names) if stop else 0
        watchers = [
            (self.port(name), Watcher(name, seen, twice, grad=grad, stop_at=stop_at))
            for name in names
        ]
        with ports_edited(self.module, watchers):
            yield seen
        if silent := [name for name in names if name not in seen]:
            raise SiteNotAvailable(f"{', '.join(silent)} never fired: the model ran without it")
        if twice:
            raise SiteNotAvailable(
                f"{', '.join(sorted(twice))} fired more than once in a pass: run one pass per"
                " capture, or name a module that is called once"
            )

    @contextmanager
    def edit(self, edits: Mapping[str, Edit]) -> Iterator[None]:
        """Replace the tensor at each site by a function of it, inside the block."""
        with ports_edited(self.module, [(self.port(site), fn) for site, fn in edits.items()]):
            yield

    def run(self, batch: Batch | ImageBatch) -> Float[Tensor, " batch *output"] | None:
        """`forward`, or None where a capture with `stop` ended the pass early."""
        try:
            return self.forward(batch)
        except Stop:
            return None

    def lens(self, states: Float[Tensor, "*sample d_model"]) -> Float[Tensor, "*sample vocab"]:
        """Logits read off a residual state: final norm, then unembedding (logit lens).

        Raises:
            SiteNotAvailable: If the model has no lens; names the energies that remain.
        """
        return self.unembed(self.final_norm(states))

    @property
    def final_norm(self) -> nn.Module:
        """What the unembedding is applied to, as a function of the last residual stream."""
        self.require("lens")
        family = self._family
        steps = [module_at(self.module, path) for path in family.final_norm]
        if family.logit_scale != 1.0:
            steps.append(_Times(family.logit_scale))
        return steps[0] if len(steps) == 1 else nn.Sequential(*steps)

    @property
    def unembed(self) -> nn.Module:
        self.require("lens")
        assert self._family.unembed is not None
        return module_at(self.module, self._family.unembed)

    @property
    def blocks(self) -> list[nn.Module]:
        self.require("blocks")
        return [module_at(self.module, self._family.block(i)) for i in range(self.n_layers)]

    @property
    def _family(self) -> Family:
        assert self.loaded.family is not None
        return self.loaded.family

    @property
    def energies(self) -> tuple[str, ...]:
        """The energies that can be had of this model; the last three take tensors, not a model."""
        lens = () if "lens" in self.lacks else ("surprisal", "free_energy", "entropy", "tuned")
        loss = () if "loss" in self.lacks else ("downstream_energy",)
        return (*loss, *lens, "class_energy", "hopfield", "energy_transformer")

    def shown(self) -> Shown:
        loaded, kinds = self.loaded, Counter(map(_kind, self.sites))
        reasons = {_kind(site): why for site, why in self.absent.items()}
        allowed = TOLERANCE.get(next(self.module.parameters()).dtype, float("nan"))
        worst = max(self.certificate.values(), default=float("nan"))
        rows = [Row(label=kind, value=f"{count} certified") for kind, count in kinds.items()]
        rows += [
            Row(label=kind, value="absent" if kind not in kinds else "absent in some", told=(why,))
            for kind, why in reasons.items()
        ]
        rows += [Row(label=_CALLED[what], value="lacks", told=(why,))
                 for what, why in self.lacks.items()]  # fmt: skip
        notes = ["Any module is a site too, as module.path:out."]
        if self.certificate:
            notes.insert(0, f"{len(self.certificate)} identities checked on numbers: off by"
                         f" {number(worst, digits=2)} of the norm at most, {number(allowed)}"
                         " allowed.")  # fmt: skip
        return Shown(
            caption=f"{loaded.name}: {loaded.n_layers} blocks of width {loaded.d_model}, on"
            f" {self.device}",
            says=f"{loaded.source}; energies {', '.join(self.energies)}",
            rows=rows, notes=notes,
        )  # fmt: skip

    def require(self, what: str) -> None:
        """Refuse to go on without something; `what` is a key of `lacks`.

        Raises:
            SiteNotAvailable: If the model lacks it, with the reason and the energies that remain.
        """
        if what in self.lacks:
            *some, last = self.energies
            raise SiteNotAvailable(
                f"{self.loaded.name} has no {_CALLED[what]}: {self.lacks[what]}; the energies that"
                f" remain are {', '.join(some)} and {last}"
            )


_CALLED = {
    "blocks": "list of blocks",
    "lens": "lens",
    "loss": "next-token loss",
    "suffix": "way to run from a residual site",
    "padding": "certified way to run padded sequences",
}


def _kind(site: str) -> str:
    """A site with its block left open: blocks.*.resid_post."""
    return re.sub(r"^blocks\.\d+\.", "blocks.*.", site)


class _Times(nn.Module):
    """Multiplication by a number, where a model scales its logits."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, states: Tensor) -> Tensor:
        return self.factor * states


def _call(module: nn.Module, batch: Batch | ImageBatch) -> Any:
    """Call a module with those arguments that it names; one that names none takes the first:
    token ids, or pixels."""
    inputs = batch.inputs()
    given = {**inputs, "use_cache": False}
    named, first = inspect.signature(module.forward).parameters, next(iter(inputs))
    if first in named:
        return module(**{name: value for name, value in given.items() if name in named})
    return module(**given) if hasattr(module, "config") else module(inputs[first])


def _first(output: Any) -> Tensor:
    found = getattr(output, "logits", None)
    if found is None:
        found = next(iter(output.values())) if isinstance(output, Mapping) else output
    return found[0] if isinstance(found, tuple) else found


class Watcher:
    """Keeps what passes a port; an edit that changes nothing unless a graph is to start there."""

    def __init__(
        self, name: str, seen: dict[str, Tensor], twice: set[str], *, grad: bool, stop_at: int
    ) -> None:
        self.name, self.seen, self.twice = name, seen, twice
        self.grad, self.stop_at = grad, stop_at

    def __call__(self, value: Tensor) -> Tensor:
        if self.name in self.seen:
            self.twice.add(self.name)
        if self.grad and not value.requires_grad:
            value = value.detach().requires_grad_()
        self.seen[self.name] = value if self.grad else value.detach()
        if self.stop_at and len(self.seen) >= self.stop_at:
            raise Stop
        return value.clone()  # some blocks add to it in place, as Falcon's
