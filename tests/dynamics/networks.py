"""Small networks and loops that are tracked in tests."""

from contextlib import nullcontext

import torch
from torch import nn
from torch.nn.functional import cross_entropy


def mlp(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 8),
                         nn.ReLU(), nn.Linear(8, 3))  # fmt: skip


def cnn(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Unflatten(1, (3, 2, 2)), nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(),
        nn.Flatten(), nn.Linear(24, 3),
    )  # fmt: skip


class Encoder(nn.Module):
    """Attention of torch, which has a fast path and a projection without a hook."""

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        layer = nn.TransformerEncoderLayer(8, 2, 16, 0.1, batch_first=True)
        self.embed = nn.Linear(3, 8)
        self.layers = nn.TransformerEncoder(layer, 2)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.layers(self.embed(x.view(-1, 4, 3))).mean(1))


def samples(count=40, seed=0):
    return torch.randn(count, 12, generator=torch.Generator().manual_seed(seed))


def train(model, tracker=None, *, first=1, last=12, optimizer=None):
    """Train on batches that depend on the step alone; returns the optimizer."""
    optimizer = optimizer or torch.optim.SGD(model.parameters(), lr=0.1)
    with tracker or nullcontext():
        for step in range(first, last + 1):
            x = samples(16, seed=step)
            loss = cross_entropy(model(x), (x[:, 0] > 0).long())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if tracker is not None:
                tracker.after_step(step, loss=loss)
    return optimizer
