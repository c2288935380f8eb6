"""The tools beside the package that people are told to run."""

import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[1] / "tools/train_small_model.py"


def _run(*arguments):
    return subprocess.run([sys.executable, TOOL, *arguments], capture_output=True, text=True,
                          timeout=280)  # fmt: skip


@pytest.mark.slow
def test_a_small_model_is_trained_and_can_be_loaded(tmp_path):
    import energylens as el

    told = _run(str(tmp_path / "model"), "--minutes", "1")
    assert told.returncode == 0, told.stderr
    loss = float(told.stdout.split("held-out documents: ")[1].split()[0])
    assert loss < 7.5, "a uniform guess among 2,048 tokens has 7.6"
    subject = el.load(str(tmp_path / "model"))
    assert "blocks.5.resid_post" in subject.sites and subject.loaded.tokenizer is not None


def test_a_folder_that_exists_is_not_written_over(tmp_path):
    told = _run(str(tmp_path))
    assert told.returncode == 2
    assert "exists: name a new folder" in told.stderr
