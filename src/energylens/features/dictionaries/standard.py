"""ReLU with a penalty on activations: as it is sold today, as it was first, and with p < 1.

`standard` weighs each activation by the norm of its decoder row (Conerly et al. 2024, "Update on
how we train SAEs"), so that rows need not be held at norm 1; `standard_constrained` holds them
(Bricken et al. 2023); `p_anneal` lowers the exponent of the penalty from 1 while training
(Karvonen et al. 2024, arXiv 2408.00113). All three are the same function when trained.
"""

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from energylens.features.architecture import Architecture, Demand, architecture, decoder_norms
from energylens.features.dictionary import Dictionary
from energylens.features.entries import Entries

LAST_P, FROM, TO = 0.2, 0.3, 0.9
"""Exponent at the end, and the shares of training between which it falls."""


@architecture("standard")
class Standard(Architecture):
    """penalty = Σ a_f ‖d_f‖ · √d; of a crosscoder Σ a_f Σ_s ‖d_fs‖ · √d over the sites s."""

    unit_decoder = False

    def penalty(
        self, entries: Entries, values: Tensor, weights: Mapping[str, Tensor], demand: Demand
    ) -> Tensor:
        norm = decoder_norms(weights["W_dec"], demand.sites)
        return demand.unit * (values * entries.of(norm)).sum()


@architecture("standard_constrained")
class StandardConstrained(Architecture):
    """penalty = Σ a_f · √d, with decoder rows of norm 1."""

    resamples = True

    def penalty(
        self, entries: Entries, values: Tensor, weights: Mapping[str, Tensor], demand: Demand
    ) -> Tensor:
        return demand.unit * values.sum()

    def finish(self, dictionary: Dictionary) -> Dictionary:
        return replace(dictionary, architecture="standard")


@architecture("p_anneal")
class PAnneal(StandardConstrained):
    """penalty = Σ a_f^p · √d^{2−p}, p from 1 to .2, with decoder rows of norm 1."""

    def penalty(
        self, entries: Entries, values: Tensor, weights: Mapping[str, Tensor], demand: Demand
    ) -> Tensor:
        done = min(1.0, max(0.0, (demand.share - FROM) / (TO - FROM)))
        p = 1 - (1 - LAST_P) * done
        relative = values / demand.unit
        # The slope of a power below 1 is infinite at 0: small activations count as a straight line.
        least = 1e-3
        curved = relative.clamp(min=least).pow(p)
        straight = relative * least ** (p - 1)
        costs = curved.where(relative > least, straight)
        return demand.unit**2 * costs.sum()
