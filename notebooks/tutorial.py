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
# # Which features follow the energy?
#
# One model, one place in it, from loading to an intervention, in about a minute on one core. The
# model is tiny (four layers, trained on Lewis Carroll), so that everything here is quick; what it
# finds says nothing about large models. `el.load` takes your own as well.

# %%
import energylens as el
from energylens.features.training import TrainOptions

lens = el.load("tiny")
lens

# %% [markdown]
# ## Look inside
#
# Every site above was proved on numbers when the model was loaded. `capture` collects tensors
# during a forward pass and leaves the logits bitwise as they are.

# %%
train, held_out = el.read_windows(lens, documents=120, context=64)
with lens.capture("blocks.*.resid_post") as seen:
    lens.run(el.Batch.full(train.ids[:8]))
{site: tuple(states.shape) for site, states in seen.items()}

# %% [markdown]
# The text comes in whole documents, which go to one side or the other. Documents are the unit of
# every interval and test below.

# %%
held_out

# %% [markdown]
# ## A dictionary
#
# A sparse dictionary writes each state as a sum of a few directions, its features.

# %%
sae = el.train(lens, train, "blocks.2.resid_post", TrainOptions(width=256, k=16, epochs=2))
sae

# %% [markdown]
# ## Energies of the same states
#
# The downstream energy is the model's own loss as a function of the states at a site; its gradient
# is exact. Surprisal and free energy are read off one state through the logit lens. As a scale to
# read them by, a uniform guess has a surprisal of log V.

# %%
import math

from energylens.energy.energies.downstream import downstream_gradients
from energylens.energy.energies.free_energy import free_energy
from energylens.results.record import Estimate
from energylens.stats.robust import cluster_mean_interval

batch = el.Batch.full(held_out.ids[:16])
states, gradients, surprisal = downstream_gradients(lens, batch, [sae.site])
per_document = surprisal[:, 1:-1].mean(1, keepdim=True)  # one window of each document here
mean = cluster_mean_interval(per_document)
Estimate(
    float(mean.estimate), "nats per token", low=float(mean.low), high=float(mean.high),
    null_mean=math.log(lens.loaded.vocab_size), n=len(per_document), n_unit="windows",
    label="loss", note="null: a uniform guess",
)  # fmt: skip

# %%
import torch

with torch.no_grad():
    free = free_energy(states[sae.site].flatten(0, 1), lens.lens)
zeros = free_energy(torch.zeros(1, lens.loaded.d_model), lens.lens)
print(f"free energy: median {free.median():.2f}; of the zero state, its null, {zeros[0]:.2f}")

# %% [markdown]
# ## EFAS, beside two nulls
#
# EFAS is the correlation of a feature's activation with the force on it, the downhill slope along
# its direction. To count, a feature must beat two nulls over all features at once: signs flipped
# by document, and decoder rows dealt out among the features. The line beside each value is its
# interval, the grey band what the permuted decoder gives.

# %%
found = el.align(lens, sae, held_out, draws=2000)
found

# %% [markdown]
# "Beyond chance" is a statement about evidence, not about size: look at the values. If no feature
# is beyond chance, then that is the result. All of them as a table:

# %%
found.table().slice(0, 5).to_pylist()[0]

# %% [markdown]
# ## Do it, then measure
#
# A slope is a prediction. Here the feature is set to zero wherever it is active, the
# reconstruction error left in place, and the rest of the network is run; beside it a step of the
# same size along a random direction. One feature in twelve windows says little, and this one was
# chosen for its score on the same documents, which flatters it. `energylens run energy-lens`
# chooses on one half of the documents and measures on the other, for many features.

# %%
feature = found.top(1)[0]
effect = el.ablate(lens, found, feature)
effect

# %% [markdown]
# ## The whole study, and its record
#
# The study does the same at several sites with every control and writes a page that needs no
# network and no scripts. Here it is as small as it goes, which is too small to believe in: the
# record says so.

# %%
import subprocess
import sys
import tempfile
from pathlib import Path

run = Path(tempfile.mkdtemp()) / "run"
subprocess.run(
    [sys.executable, "-m", "energylens", "run", "energy-lens", "--model", "tiny", "--out", str(run),
     "--sites", "blocks.2.resid_post", "--width", "128", "--context", "64",
     "--train-tokens", "3200", "--score-documents", "40", "--proof-features", "3",
     "--draws", "1000"],
    check=True, capture_output=True,
)  # fmt: skip
summary = el.read_summary(run)
summary

# %%
assert all(control.sentence for control in summary.controls.values())
print("the page:", (run / "report.html").name, (run / "report.html").stat().st_size // 1000, "kB")
