"""Name the package index that torch is best installed from on this machine.

Prints nothing where pip's own choice is right. On Linux without an NVIDIA GPU that choice is
often gigabytes of CUDA libraries, so PyTorch's index of CPU builds is named where it answers.
"""

import json
import shutil
import subprocess
import sys
import urllib.error
import urllib.request

CPU_INDEX = "https://download.pytorch.org/whl/cpu"


def gpu_or_mac() -> bool:
    """Whether the build on the ordinary index is the one to have."""
    return sys.platform != "linux" or shutil.which("nvidia-smi") is not None


def pip_would_install(requirement: str) -> str:
    """The version pip would take by itself, such as `2.13.0+cpu`; empty if it finds none."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-deps", "--quiet"]
    command += ["--ignore-installed", "--report", "-", requirement]
    answer = subprocess.run(command, capture_output=True, text=True)
    if answer.returncode != 0:
        return ""
    (package,) = json.loads(answer.stdout)["install"]
    return package["metadata"]["version"]


def answers(url: str, seconds: float = 5) -> bool:
    """Whether anything is served there."""
    try:
        with urllib.request.urlopen(f"{url}/", timeout=seconds):
            return True
    except (urllib.error.URLError, TimeoutError):
        return False


def best_index(requirement: str) -> str:
    """The index to give to pip, or nothing."""
    if gpu_or_mac() or pip_would_install(requirement).endswith("+cpu"):
        return ""
    return CPU_INDEX if answers(CPU_INDEX) else ""


if __name__ == "__main__":
    sys.stdout.write(best_index(sys.argv[1]))
