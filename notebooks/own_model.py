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
# # A model of your own
#
# Three ways in: a model that transformers makes from a configuration, a module of yours with
# tokens to try it on, and any module at all. Weights are random here, so that this runs without a
# download: it shows where things are, not what a trained model does with them.

# %%
import torch
from torch import nn
from transformers import GPTNeoConfig, GPTNeoForCausalLM

import energylens as el

torch.manual_seed(0)
config = GPTNeoConfig(
    vocab_size=80, hidden_size=32, num_layers=3, num_heads=4, intermediate_size=64,
    attention_types=[[["global"], 3]], max_position_embeddings=64, bos_token_id=0, eos_token_id=0,
)  # fmt: skip
subject = el.load(GPTNeoForCausalLM(config))
subject

# %% [markdown]
# Nothing above was looked up by name: blocks, writers, attention and lens were found by what the
# modules compute, and then proved on numbers. What fails its proof is absent, with the reason.
#
# ## Capture and edit
#
# An edit is a function of the tensor at a site. Without an edit, watching changes nothing: that is
# the null of everything below.

# %%
ids = torch.randint(80, (4, 12), generator=torch.Generator().manual_seed(1))
batch = el.Batch.full(ids)
with torch.no_grad():
    plain = subject.forward(batch)
    with subject.capture("blocks.*.resid_post"):
        watched = subject.forward(batch)
    with subject.edit({"blocks.1.mlp_out": torch.zeros_like}):
        without = subject.forward(batch)
print("largest change of a logit: watched", float((watched - plain).abs().max()),
      "edited", float((without - plain).abs().max()))  # fmt: skip
assert torch.equal(watched, plain)

# %% [markdown]
# ## Gradients of the model's own loss
#
# `downstream_gradients` gives the exact derivative of the summed next-token loss by the states at
# any sites, from one backward pass. A finite difference, with the rest of the network run again,
# says whether that is so.

# %%
from energylens.activations.suffix import run_from
from energylens.energy.energies.downstream import downstream_gradients, next_token_surprisal

site = "blocks.1.resid_post"
double = el.load(GPTNeoForCausalLM(config).double())
states, gradients, surprisal = downstream_gradients(double, batch, [site])
direction = torch.randn(states[site].shape, dtype=torch.float64,
                        generator=torch.Generator().manual_seed(2))  # fmt: skip


def loss(at):
    return next_token_surprisal(run_from(double, site, at, batch), batch).sum()


with torch.no_grad():
    step = 1e-5 * direction
    difference = (loss(states[site] + step) - loss(states[site] - step)) / 2e-5
exact = (gradients[site] * direction).sum()
print(f"exact {exact:.6f}, by differences {difference:.6f}")
assert abs(exact - difference) < 1e-5 * abs(exact)

# %% [markdown]
# ## A module of no library
#
# With tokens to try it on, a module of yours is searched in the same way. What it lacks is said,
# and the energies that remain are named.

# %%


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.read = nn.Linear(16, 24)
        self.write = nn.Linear(24, 16)

    def forward(self, stream):
        return stream + self.write(torch.relu(self.read(stream)))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(80, 16)
        self.layers = nn.ModuleList(Layer() for _ in range(3))
        self.norm = nn.LayerNorm(16)
        self.head = nn.Linear(16, 80)

    def forward(self, ids):
        stream = self.embedding(ids)
        for layer in self.layers:
            stream = layer(stream)
        return self.head(self.norm(stream))


own = el.load(Net(), probe=batch)
own

# %% [markdown]
# Any module is a site as well, by the path that `named_modules()` prints; no certificate is
# needed, for the name claims nothing.

# %%
with own.capture("layers.1.read:out", "layers.1.write:in") as seen:
    own.run(batch)
assert torch.equal(torch.relu(seen["layers.1.read:out"]), seen["layers.1.write:in"])
{name: tuple(value.shape) for name, value in seen.items()}

# %% [markdown]
# What is not to be had is refused in one sentence.

# %%
from energylens.core.errors import EnergylensError

try:
    own.port("blocks.7.resid_post")
except EnergylensError as error:
    print(error)
