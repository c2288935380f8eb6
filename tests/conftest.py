"""Set once for all tests: threads, offline hub, and run-time checks of array shapes."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # or a busy neighbour costs ten times
if workers := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):
    # Each worker of `make test`, and whatever it starts, has its share of the cores. Nothing is set
    # where the workers are started: they would inherit that instead.
    share = max(1, (os.cpu_count() or 1) // int(workers))
    os.environ.setdefault("OMP_NUM_THREADS", str(share))

import pytest
import torch
from jaxtyping import install_import_hook

_hook = install_import_hook("energylens", "beartype.beartype")


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)
