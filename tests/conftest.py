"""Set once for all tests: threads, offline hub, and run-time checks of array shapes."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # or a busy neighbour costs ten times

import pytest
import torch
from jaxtyping import install_import_hook

torch.set_num_threads(2)
_hook = install_import_hook("energylens", "beartype.beartype")


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)
