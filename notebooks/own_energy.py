# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # An energy of your own
#
# Any function that gives one number for each state will do, if autograd can differentiate it. Here
# it is written out by hand: a modern Hopfield network, whose minima we plant ourselves, so that
# what is found can be held against what is there.

# %%
import torch
from torch.nn.functional import normalize

import energylens as el

generator = torch.Generator().manual_seed(0)
patterns = normalize(torch.randn(6, 32, generator=generator), dim=1)
BETA = 24.0


def energy(states):
    """E(x) = |x|² / 2 − log Σ_p exp(β ⟨x, p⟩) / β: one number a state."""
    return 0.5 * states.square().sum(1) - torch.logsumexp(BETA * states @ patterns.T, 1) / BETA


slope = el.slope_of(energy)

# %% [markdown]
# `slope_of` is checked against a finite difference before anything is built on it.

# %%
double = el.slope_of(lambda x: 0.5 * x.square().sum(1)
                     - torch.logsumexp(BETA * x @ patterns.double().T, 1) / BETA)  # fmt: skip
at, along = torch.randn(2, 5, 32, generator=generator, dtype=torch.float64)
difference = (double(at + 1e-6 * along)[0] - double(at - 1e-6 * along)[0]) / 2e-6
assert torch.allclose((double(at)[1] * along).sum(1), difference, rtol=1e-5, atol=1e-7)

# %% [markdown]
# ## Descent
#
# Noisy copies of the patterns, some more often than others, run down the energy. The null: random
# states of the same mean, covariance and norms, which know nothing of the patterns one by one, run
# down in the same way.

# %%
from energylens.stats.nulls import states_alike

truth = torch.tensor([0] * 40 + [1] * 40 + [2] * 16 + [3] * 12 + [4] * 8 + [5] * 4)
starts = patterns[truth] + 0.1 * torch.randn(len(truth), 32, generator=generator)
random = states_alike(starts, starts.norm(dim=1), generator)
found = el.descend(slope, starts, tolerance=1e-4, max_steps=500)
found_random = el.descend(slope, random, tolerance=1e-4, max_steps=500)
found

# %% [markdown]
# ## Are the planted minima found?
#
# Four starts of the last pattern are fewer than a basin asks for, so `fewest` is lowered. Each
# pattern must be the nearest of exactly one basin, and each start must have come home.

# %%
basins = el.find_basins(found.ends, fewest=4)
nearest = (normalize(basins.centers, dim=1) @ patterns.T).max(1)
print("cosine of each basin with its pattern:", [round(x, 4) for x in nearest.values.tolist()])
home = nearest.indices[basins.basin] == truth
print("starts that came home:", int(home.sum()), "of", len(truth))
assert sorted(nearest.indices.tolist()) == list(range(6)) and nearest.values.min() > 0.99
assert (basins.basin >= 0).all() and home.all()
basins

# %% [markdown]
# Whether a basin holds *more* of the starts than it would of anything is another question. Beside
# random states alike, found without knowing which are which:

# %%
against = el.compare_basins(found.ends, found_random.ends, fewest=4)
against

# %% [markdown]
# The network has its minima wherever one starts. What is compared is how much runs into each;
# where q is large, the starts do no more than random states do.
#
# ## EFAS for this energy
#
# A dictionary is trained on noisy states between the patterns. Trials stand in for documents: the
# states of one trial resemble one another, so the trial, not the state, is the unit. EFAS asks
# whether a feature is active where the energy falls along its direction.

# %%
from energylens.features.train import train as train_dictionary
from energylens.features.training import TrainOptions

TRIALS, EACH = 60, 60
strength = torch.rand(TRIALS * EACH, 6, generator=generator)
strength *= torch.rand(TRIALS * EACH, 6, generator=generator) < 0.3
shift = 0.1 * torch.randn(TRIALS, 32, generator=generator).repeat_interleave(EACH, 0)
states = strength @ patterns + shift + 0.05 * torch.randn(TRIALS * EACH, 32, generator=generator)
trial = torch.arange(TRIALS).repeat_interleave(EACH)
half = trial < TRIALS // 2  # train on one half of the trials, score on the other
options = TrainOptions(width=24, k=3, epochs=20)
dictionary, _ = train_dictionary(states[half], options, generator=generator)
aligned = el.align_states(
    states[~half], slope, dictionary, trial[~half] - TRIALS // 2, draws=2000, site="Hopfield"
)
aligned

# %% [markdown]
# And where nothing is to be found? Here each trial has a random direction of its own to fall
# along, so that forces know nothing of activations. Any feature beyond chance would be a false
# alarm, of which one run in twenty may have one.

# %%
fall = torch.randn(TRIALS // 2, 32, generator=generator)[trial[~half] - TRIALS // 2]
nothing = el.align_states(
    states[~half], el.slope_of(lambda x: (x * fall).sum(1)), dictionary,
    trial[~half] - TRIALS // 2, draws=2000, site="random slopes",
)  # fmt: skip
nothing
