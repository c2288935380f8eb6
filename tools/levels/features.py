"""Null worlds of the feature table: activations and gradients of simulated text."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from tools.clustered import ar1, process
from tools.levels.world import Claim, World
from torch import Tensor
from torch.nn.functional import normalize

from energylens.core.ports import silence
from energylens.energy.alignment import (
    ActivationSums,
    Alignment,
    ForceSums,
    active_forces,
    alignment_with_every_direction,
    energy_feature_alignment,
)
from energylens.features.dictionary import Dictionary
from energylens.features.ordinary import Ordinary
from energylens.stats.nulls import permute_rows
from energylens.studies.energy_lens.bench import Bench, RandomDirections
from energylens.studies.energy_lens.held import Held
from energylens.studies.energy_lens.statistics import LEVEL, SiteScores, replicated, score_family
from energylens.studies.energy_lens.tables import allowed
from energylens.studies.energy_lens.variants import INFORMATION, variant_rows, with_q
from energylens.studies.energy_lens_models import finding
from energylens.studies.energy_lens_models.measures import size_quantiles
from energylens.studies.energy_lens_models.subjects import RANDOM_WEIGHTS, TRAINED

D, PLANTED, STRENGTH = 24, 4, 3.0
DRAWS = 1000
SITES = ("blocks.0.resid_post", "blocks.1.resid_post")


@dataclass(frozen=True, kw_only=True)
class Text:
    """One site's sparse code and gradients, documents one after another."""

    indices: Tensor
    values: Tensor
    gradient: Tensor
    directions: Tensor
    unit: Tensor
    place: Tensor

    def some(self, keep: Tensor) -> "Text":
        """Some of the tokens; documents are numbered anew."""
        return Text(
            indices=self.indices[keep], values=self.values[keep], gradient=self.gradient[keep],
            directions=self.directions, unit=self.unit[keep].unique(return_inverse=True)[1],
            place=self.place[keep],
        )  # fmt: skip

    def sums(self) -> tuple[ActivationSums, ForceSums]:
        width, d = self.directions.shape
        units = int(self.unit.max()) + 1
        a = ActivationSums.zeros(width=width, n_units=units)
        f = ForceSums.zeros(width=width, d_model=d, n_units=units)
        force = active_forces(self.indices, self.gradient, self.directions)
        a.add_(self.indices, self.values, self.unit)
        f.add_(self.indices, self.values, self.gradient, force, self.unit)
        return a, f

    def alignment(self) -> Alignment:
        return energy_feature_alignment(*self.sums(), self.directions)


def write_text(
    generator: torch.Generator,
    *,
    documents: int = 40,
    tokens: int = 64,
    width: int = 60,
    k: int = 4,
    planted: int = 0,
    everywhere: float = 0.0,
) -> Text:
    """Sparse codes and gradients that are both correlated within documents.

    Features are topics of documents, of unequal density, with log-normal sizes. Gradients have an
    effect of the document, tails (each token has a log-normal size) and a skew along one direction.
    Both are independent, but for the planted features, which pull the gradient against their own
    row, and `everywhere`: each feature moves the gradient along a direction that is not its row.
    """
    frequent = torch.randn(width, generator=generator)
    drive = process(documents, width, generator, tokens) + frequent
    size = ar1(documents, width, generator, tokens=tokens).exp()
    indices = drive.flatten(0, 1).topk(k, dim=1).indices
    values = size.flatten(0, 1).gather(1, indices)
    scale = (0.5 * ar1(documents, 1, generator, tokens=tokens)).exp()
    gradient = scale * process(documents, D, generator, tokens)
    skewed = normalize(torch.randn(D, generator=generator), dim=0)
    gradient = (gradient + (scale - scale.mean()) * skewed).flatten(0, 1)
    directions, other = (
        normalize(torch.randn(width, D, generator=generator), dim=1) for _ in range(2)
    )
    if everywhere:
        gradient = gradient + everywhere * (values[:, :, None] * other[indices]).sum(1)
    if planted:
        chosen = frequent.topk(planted).indices
        mine = torch.isin(indices, chosen)[:, :, None] * values[:, :, None]
        gradient = gradient - STRENGTH * (mine * directions[indices]).sum(1)
        # The planted ones come first.
        rest = frequent.argsort(descending=True)
        place = torch.empty_like(rest)
        place[rest] = torch.arange(width)
        indices, directions = place[indices], directions[rest]
    token, unit = torch.arange(tokens).repeat_interleave(documents), torch.arange(documents)
    return Text(
        indices=indices, values=values, gradient=gradient, directions=directions,
        unit=unit.repeat(tokens), place=token,
    )  # fmt: skip


def second_site(one: Text, generator: torch.Generator) -> Text:
    """Another layer of the same documents: half of the features are the same, gradients alike."""
    width = len(one.directions)
    order = torch.arange(width)
    half = width // 2
    order[half:] = half + torch.randperm(width - half, generator=generator)
    turned = torch.linalg.qr(torch.randn(D, D, generator=generator)).Q
    noise = torch.randn(one.gradient.shape, generator=generator)
    return Text(
        indices=order[one.indices], values=one.values, unit=one.unit, place=one.place,
        gradient=(one.gradient + noise) @ turned, directions=one.directions @ turned,
    )  # fmt: skip


def score(sites: Mapping[str, Text], generator: torch.Generator) -> dict[str, SiteScores]:
    """What the study says of the features of all sites."""
    sums = {site: text.sums() for site, text in sites.items()}
    found = {
        site: energy_feature_alignment(*sums[site], text.directions) for site, text in sites.items()
    }

    def pairs(site: str, chosen: Tensor) -> Tensor:
        own = sites[site].directions[chosen]
        return alignment_with_every_direction(*sums[site], own, features=chosen)

    return score_family(found, pairs, draws=DRAWS, generator=generator)


def _features(generator: torch.Generator, planted: bool) -> dict[str, Tensor]:
    one = write_text(generator, planted=PLANTED if planted else 0)
    sites = {SITES[0]: one, SITES[1]: second_site(one, generator)}
    scores = score(sites, generator)
    some = slice(PLANTED if planted else None)

    def every(name: str) -> Tensor:
        return torch.cat([getattr(found, name)[some] for found in scores.values()])

    agree = torch.cat([
        torch.where(found.scored, (~replicated(found, _halves(sites[site]))).double(), torch.nan)
        for site, found in scores.items()
    ])  # fmt: skip
    failed = torch.tensor([
        float(found.beyond.sum() <= allowed(int(found.scored.sum()))) for found in scores.values()
    ])  # fmt: skip
    return {
        **{name: every(name) for name in ("p", "q", "p_documents", "p_rows")},
        "p_max_t": every("p_max_t"), "replicated": agree[some], "control": failed,
    }  # fmt: skip


def _halves(text: Text) -> list[Alignment]:
    return [text.some(text.unit % 2 == half).alignment() for half in (0, 1)]


def _covarying(generator: torch.Generator, planted: bool) -> dict[str, Tensor]:
    text = write_text(generator, planted=PLANTED if planted else 0, everywhere=STRENGTH)
    found = score({SITES[0]: text}, generator)[SITES[0]]
    some = slice(PLANTED if planted else None)
    return {"p": found.p[some], "p_rows": found.p_rows[some], "p_max_t": found.p_max_t[some]}


def _lenses(generator: torch.Generator, planted: bool) -> dict[str, Tensor]:
    text = write_text(generator, documents=60, tokens=128, width=32,
                      planted=PLANTED if planted else 0)  # fmt: skip
    some = slice(PLANTED if planted else None)
    tuned = text.some(text.place % 4 == 1)
    raw = text.some((text.place % 8 == 1) & (text.unit % 2 == 1))
    return {
        name: score({SITES[0]: here}, generator)[SITES[0]].p_max_t[some]
        for name, here in (("tuned", tuned), ("raw", raw))
    }


CORRELATIONS = ("within", "active", "ranks")


def _variants(generator: torch.Generator, planted: bool) -> dict[str, Tensor]:
    documents, tokens = 40, 48
    text = write_text(generator, documents=documents, tokens=tokens, width=32,
                      planted=PLANTED if planted else 0)  # fmt: skip
    scores = score({SITES[0]: text}, generator)[SITES[0]]
    bench, here = _bench(text, generator), _held(text, documents, tokens)
    # Information is asked of features that were intervened on; one is enough here.
    chosen = [int(scores.n_active.argmax())]
    rows = with_q(list(variant_rows(
        SITES[0], bench, here, scores, (*CORRELATIONS, INFORMATION), chosen, generator=generator,
        progress=silence,
    )))  # fmt: skip

    def column(name: str, *variants: str) -> Tensor:
        return torch.tensor([
            row[name] for row in rows
            if row["variant"] in variants and (not planted or row["feature"] < PLANTED)
        ])  # fmt: skip

    return {
        **{name: column("p", name) for name in (*CORRELATIONS, INFORMATION)},
        **{f"q {name}": column("q", name) for name in CORRELATIONS},
        "permuted": column("null_p", *CORRELATIONS),
    }


def _bench(text: Text, generator: torch.Generator) -> Bench:
    rows = text.directions
    zero = rows.new_zeros(D)
    return Bench(
        dictionary=Dictionary(architecture="topk", k=text.indices.shape[1], W_enc=rows, W_dec=rows,
                              b_enc=rows.new_zeros(len(rows)), b_dec=zero),
        permuted=permute_rows(rows, generator), mean_state=zero,
        random=RandomDirections(rows=rows[:1], thresholds=zero[:1]),
        ordinary=Ordinary(center=zero, radius=1.0),
    )  # fmt: skip


def _held(text: Text, documents: int, tokens: int) -> Held:
    """One window a document; the first and last position are not scored."""

    def by_window(values: Tensor) -> Tensor:
        return values.view(tokens, documents, -1).transpose(0, 1).contiguous()

    gradients = torch.nn.functional.pad(by_window(text.gradient), (0, 0, 1, 1))
    ids = torch.zeros(documents, tokens + 2, dtype=torch.long)
    return Held(
        ids=ids, document=torch.arange(documents), starts=torch.zeros(documents, dtype=torch.long),
        indices=by_window(text.indices), values=by_window(text.values),
        states=torch.zeros_like(gradients), gradients=gradients, loss=torch.zeros(ids.shape),
    )  # fmt: skip


def _sizes(generator: torch.Generator, planted: bool) -> dict[str, Tensor]:
    text = write_text(generator, documents=30, planted=12 if planted else 0)
    found = text.alignment()
    parts = (found.scores / found.scale)[:, found.efas.isfinite()]
    row = size_quantiles(parts, generator=generator)
    return {name: torch.tensor([row[f"efas_{name}_p"]]) for name in ("50", "90")}


def _gained(generator: torch.Generator, planted: bool) -> dict[str, Tensor]:
    rows = []
    for weights in (TRAINED, RANDOM_WEIGHTS):
        # Both models have as many true features; with an effect, the random one has none.
        true = 0 if planted and weights == RANDOM_WEIGHTS else 12
        found = score({SITES[0]: write_text(generator, planted=true)}, generator)[SITES[0]]
        rows.append({
            "run": weights, "model": "m", "weights": weights, "beyond": int(found.beyond.sum()),
            "scored": int(found.scored.sum()), "n_documents": found.documents,
        })  # fmt: skip
    gap = finding._shares(rows)[f"beyond_share_gained.{TRAINED}"]
    return {"gained": torch.tensor([0.0 if gap.low > 0 else 1.0])}


_SIGNS = "`robust.cluster_robust_t`"
_BY_BOTH = "`multiplicity.max_t` and `matching.matched_max_t`"
_RATES = tuple(f"{table}.rate_at_05" for table in ("layers", "controls"))
_COUNTS = ("beyond", "attractors", "repulsors")
WORLDS = (
    World(
        name="features",
        says="40 documents of 64 tokens, 60 features at each of two sites that share half of them;"
        " activations and forces independent. Planted: 4 features that pull the gradient along"
        " their row",
        draw=_features,
        note="p is the larger of two, and conservative for it. It is never below one over the"
        " scored features of the site, the rank of a row that does best of all; so q ≤ .05 needs 20"
        " features whose own rows are each the best, and the four planted ones never have it. The"
        " finding rests on `p_max_t`, which has no such floor.",
        claims=(
            Claim(name="p", columns=("features.p", *_RATES),
                  function=f"larger of {_SIGNS} and the rank in `matching.matched_max_t`",
                  null="activation and force are independent"),
            Claim(name="q", columns=("features.q",), family=True,
                  function="`multiplicity.benjamini_hochberg` of p",
                  null="the same, for all features of a site"),
            Claim(name="p_documents", columns=("features.p_documents",), family=True,
                  function="`multiplicity.max_t`", null="the same, for all features of all sites"),
            Claim(name="p_rows", columns=("features.p_rows",), family=True,
                  function="`matching.matched_max_t`", null="the same"),
            Claim(name="p_max_t", family=True, function=f"larger of {_BY_BOTH}", null="the same",
                  columns=("features.p_max_t", "features.beyond", "features.verdict",
                           *(f"layers.{name}" for name in _COUNTS), "controls.discoveries",
                           "models.beyond")),
            Claim(name="replicated", columns=("features.replicated", "layers.replicated"),
                  function=f"{_SIGNS} in each half", levels=(2 * (LEVEL / 2) ** 2,),
                  null="the same, in both halves: two signs times .025²"),
            Claim(name="control", columns=("controls.passed",), levels=(LEVEL,),
                  function="count of `p_max_t` ≤ .05 above .5 % of the features",
                  null="the same: a control that is noise does not pass"),
        ),
    ),
    World(
        name="features that covary",
        says="as above, at one site; each feature also moves the gradient along a random direction"
        " that is not its row, as a random-weight model does. Planted: 4 features beside",
        draw=_covarying,
        claims=(
            Claim(name="p", columns=("features.p", *_RATES),
                  function=f"larger of {_SIGNS} and the rank in `matching.matched_max_t`",
                  null="activation and force covary, the own row has no part in it"),
            Claim(name="p_rows", columns=("features.p_rows",), family=True,
                  function="`matching.matched_max_t`", null="the same, for all features"),
            Claim(name="p_max_t", family=True, columns=("features.p_max_t",),
                  function=f"larger of {_BY_BOTH}", null="the same, for all features"),
        ),
    ),
    World(
        name="energies of a lens",
        says="60 documents of 128 tokens, 32 features; one place in four of all documents (tuned),"
        " one in eight of half of them (raw). Planted: 4 features",
        draw=_lenses,
        claims=(
            Claim(name="tuned", columns=("features.p_max_t_tuned",), family=True,
                  function=f"larger of {_BY_BOTH}", null="activation and force are independent"),
            Claim(name="raw", family=True, function=f"larger of {_BY_BOTH}",
                  columns=tuple(f"features.p_max_t_{energy}"
                                for energy in ("surprisal", "free_energy", "entropy")),
                  null="the same"),
        ),
    ),
    World(
        name="variants",
        says="40 documents of 48 tokens, 32 features, excess information of the one that is active"
        " oftenest. Planted: 4 features",
        draw=_variants,
        note="p of information is never below 1/40, so its q ≤ .05 needs half of the features at"
        " that floor: read its p.",
        claims=(
            *(Claim(name=name, columns=("variants.p", "variant_summary.rate_at_05"),
                    function=f"{_SIGNS} of `{name}`", null="activation and force are independent")
              for name in CORRELATIONS),
            Claim(name=INFORMATION, columns=("variants.p", "variant_summary.rate_at_05"),
                  function="`information.excess_mutual_information`, 39 draws", levels=(LEVEL,),
                  null="the same"),
            *(Claim(name=f"q {name}", columns=("variants.q", "variant_summary.below_q_05"),
                    family=True, function=f"`multiplicity.benjamini_hochberg` of `{name}`",
                    null="the same, for all features") for name in CORRELATIONS),
            Claim(name="permuted", columns=("variants.null_p", "variant_summary.rate_permuted"),
                  function=_SIGNS, null="the same, along another feature's row"),
        ),
    ),
    World(
        name="size of EFAS by depth",
        says="30 documents of 64 tokens, 60 features. Planted: 12 features",
        draw=_sizes,
        claims=tuple(
            Claim(name=name, columns=(f"models_depth.efas_{name}_p",),
                  function="`permutation.permutation_test`, 400 draws of signs by document",
                  null="activation and force are independent") for name in ("50", "90")
        ),
    ),
    World(
        name="more than random weights",
        says="two models of 40 documents of 64 tokens and 60 features, of which 12 are planted in"
        " both. Planted: 12 in one, none in the other",
        draw=_gained,
        claims=(
            Claim(name="gained", columns=("summary.beyond_share_gained",), levels=(LEVEL / 2,),
                  function="`rates.wilson_interval` of both, and the interval of their difference",
                  null="both models have as many true features"),
        ),
    ),
)  # fmt: skip
