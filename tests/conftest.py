"""Set once for all tests: threads, offline hub, and run-time checks of array shapes."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # or a busy neighbour costs ten times
# Each worker of `make test`, and whatever it starts, has its share of the cores.
os.environ.setdefault(
    "OMP_NUM_THREADS",
    str(max(1, (os.cpu_count() or 1) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))),
)

import pytest
import torch
from jaxtyping import install_import_hook

_hook = install_import_hook("energylens", "beartype.beartype")


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)
