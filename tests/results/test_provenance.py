"""Where a result comes from."""

import subprocess
import sys
from pathlib import Path

import torch

import energylens
from energylens.results import provenance


def test_versions_are_the_installed_ones():
    found = provenance.versions()
    assert found["torch"] == torch.__version__.partition("+")[0] or found["torch"].startswith(
        torch.__version__
    )
    assert found["energylens"] == energylens.__version__


def test_hardware_counts_what_the_process_may_use():
    found = provenance.hardware("cuda:0")
    assert found["threads"] == torch.get_num_threads()
    assert found["cores"] >= 1 and found["device"] == "cuda:0" and found["memory_gb"] > 0


def test_the_command_can_be_pasted():
    assert provenance.command(["run", "a b", "it's"]) == "energylens run 'a b' 'it'\"'\"'s'"


def git(folder: Path, *words: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    done = subprocess.run(
        ["git", *identity, "-C", str(folder), *words], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_the_commit_is_that_of_a_tracked_package_only(tmp_path):
    package = tmp_path / "repo" / "pack"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    assert provenance._commit(package) is None
    git(tmp_path / "repo", "init", "-q")
    assert provenance._commit(package) is None, "not tracked: another project's checkout"
    git(tmp_path / "repo", "add", ".")
    git(tmp_path / "repo", "commit", "-qm", "first")
    commit = git(tmp_path / "repo", "rev-parse", "HEAD")
    assert provenance._commit(package) == commit
    (package / "__init__.py").write_text("x = 1")
    assert provenance._commit(package) == commit + "-dirty"


def test_nothing_heavy_is_imported():
    code = (
        "import sys; from energylens.results import provenance as p, record, format\n"
        "p.versions(); p.hardware(); p.code()\n"
        "assert not {'torch', 'numpy', 'pyarrow', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
