"""The files around the code: pins, set-up, versions."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from tools import torch_index

import energylens

ROOT = Path(__file__).parents[1]
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
ENVIRONMENTS = ("lock.txt", "dev.txt", "docs.txt")
_PIN = re.compile(r"^([a-z0-9.-]+)==(\S+)((?:.*\\\n)(?:    --hash=sha256:[0-9a-f]{64}.*\n)+)", re.M)


def pins(name: str) -> dict[str, Version]:
    text = (ROOT / "requirements" / name).read_text()
    found = {pin[1]: Version(pin[2]) for pin in _PIN.finditer(text)}
    named = {line.partition("==")[0] for line in text.splitlines() if re.match("[a-z]", line)}
    assert found.keys() == named, f"{name}: {named - found.keys()} have no hash"
    return found


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_every_pin_has_its_hashes(lock):
    assert pins(lock.name)


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_torch_comes_first_and_apart(name):
    heavy = [pin for pin in pins(name) if pin == "torch" or pin.startswith(("nvidia", "triton"))]
    assert not heavy, "torch is installed from the index that suits the machine: see the Makefile"


def test_environments_agree_on_versions():
    common = pins("lock.txt")
    for name in ("dev.txt", "docs.txt", "build.txt"):
        others = pins(name)
        differing = {p for p in common.keys() & others.keys() if common[p] != others[p]}
        assert not differing, f"{name} differs: run `make lock`"


@pytest.mark.parametrize(
    ("name", "extras"), [("lock.txt", []), ("dev.txt", ["test", "check"]), ("docs.txt", ["docs"])]
)
def test_pins_satisfy_what_the_project_asks(name, extras):
    wanted = list(project()["dependencies"])
    for extra in extras:
        wanted += project()["optional-dependencies"][extra]
    pinned = pins(name)
    for requirement in map(Requirement, wanted):
        package = canonicalize_name(requirement.name)
        if package != "torch":
            assert package in pinned, f"{package} is in no pin: run `make lock`"
            assert requirement.specifier.contains(pinned[package])


@pytest.mark.parametrize(
    ("package", "floor", "reason"),
    [("torch", "2.10", "CVE-2026-24747"), ("transformers", "5.3", "CVE-2026-4372")],
)
def test_known_holes_stay_shut(package, floor, reason):
    asked = {r.name: r for r in map(Requirement, project()["dependencies"])}[package]
    assert not asked.specifier.contains(Version(floor + "a0"), prereleases=True), reason


def test_torch_is_the_same_everywhere():
    (pinned,) = re.findall(r"^torch==\S+$", (ROOT / "requirements/torch.in").read_text(), re.M)
    assert f"TORCH := {pinned}\n" in (ROOT / "Makefile").read_text()
    assert (
        f'version = "{pinned.removeprefix("torch==")}"'
        in (ROOT / "requirements/uv.toml").read_text()
    )


def test_one_version():
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"\nversion: {energylens.__version__}\n" in citation
    assert energylens.__version__ in (ROOT / "CHANGELOG.md").read_text()


def test_licence_is_whole():
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text and "END OF TERMS AND CONDITIONS" in text


# ---- make


needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MAKE")}
    return subprocess.run(
        ["make", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60
    )


@needs_make
def test_make_alone_lists_every_target():
    told = make().stdout
    (targets,) = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.M)
    for target in targets.split():
        assert f"make {target} " in told


@needs_make
@pytest.mark.parametrize("python", ["old", "absent"])
def test_a_python_that_will_not_do_is_told_in_one_sentence(python, tmp_path):
    named = tmp_path / "python3.9"
    if python == "old":
        named.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.2 && exit\nexit 1\n')
        named.chmod(0o755)
    answer = make("demo", f"PYTHON={named}", f"VENV={tmp_path / 'venv'}")
    assert answer.returncode != 0
    found = "Python 3.9.2" if python == "old" else "not there"
    sentence = answer.stderr.splitlines()[0]
    assert sentence.startswith("energylens needs Python 3.11 or newer") and found in sentence
    assert not (tmp_path / "venv").exists()


@needs_make
def test_set_up_orders_torch_before_the_rest(tmp_path):
    plan = make("--dry-run", "test", f"VENV={tmp_path / 'venv'}").stdout
    steps = "-m venv|build.txt|torch_index.py|/lock.txt|--editable|/dev.txt|-m pytest"
    places = [plan.index(step) for step in steps.split("|")]
    assert places == sorted(places)


@needs_make
def test_demo_hands_model_and_options_on(tmp_path):
    plan = make("--dry-run", "demo", "MODEL=tiny", "ARGS=--k 8", f"VENV={tmp_path}").stdout
    assert 'energylens run energy-lens --model "tiny" --k 8' in plan
    assert "--model" not in make("--dry-run", "demo", f"VENV={tmp_path}").stdout


def test_scripts_parse():
    for script in (".ci/run", "tools/lock.sh"):
        assert os.access(ROOT / script, os.X_OK), f"{script} is not executable"
        subprocess.run(["bash", "-n", ROOT / script], check=True)


# ---- where torch comes from


@pytest.mark.parametrize(
    ("platform", "gpu", "by_itself", "answers", "index"),
    [
        ("linux", False, "2.13.0", True, torch_index.CPU_INDEX),
        ("linux", False, "2.13.0", False, ""),
        ("linux", False, "2.13.0+cpu", True, ""),
        ("linux", True, "2.13.0", True, ""),
        ("darwin", False, "2.13.0", True, ""),
    ],
    ids=["plain linux", "index out of reach", "cpu build at hand", "nvidia", "mac"],
)
def test_cpu_builds_where_there_is_no_gpu(monkeypatch, platform, gpu, by_itself, answers, index):
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/nvidia-smi" if gpu else None)
    monkeypatch.setattr(torch_index, "pip_would_install", lambda requirement: by_itself)
    monkeypatch.setattr(torch_index, "answers", lambda url: answers)
    assert torch_index.best_index("torch==2.13.0") == index
