"""What docs/run-directory.md says of tables, and what a run has."""

import re
from pathlib import Path

import pyarrow.parquet as pq

PAGE = Path(__file__).parents[2] / "docs/run-directory.md"
_BY_RUN, _OF_IMAGES = "_by_run", "_of_images"
IMAGES = ("own_rows", "class_effects", "classes", "accuracy", "accuracy_contrast",
          "calibration_energies")  # fmt: skip

OF_TRAININGS = ("runs", "measurements", "training", "jumps", "jump_types", "settling",
                "settling_curves", "order", "coordination", "loss_link", "hypotheses")  # fmt: skip
OF_PHASES = ("known_dates", "progress", "progress_jumps", "dates")


def described_tables() -> dict[str, set[str]]:
    """Columns by table; a joined table has those of the table it joins."""
    described: dict[str, set[str]] = {}
    for section in re.split(r"^### ", PAGE.read_text(encoding="utf-8"), flags=re.M)[1:]:
        cells = re.findall(r"^\| (`.*?) \|", section, re.M)
        described[section.split("`")[1]] = {n for c in cells for n in re.findall(r"`(\w+)`", c)}
    for name, found in described.items():
        for end in (_BY_RUN, _OF_IMAGES):
            if name.endswith(end):
                found |= described[name.removesuffix(end)]
    return described


def of_many_runs(name: str) -> bool:
    """Whether a table is one of the studies that run energy-lens several times, or not at all."""
    kinds = ("ablation", "models", "planted", "trained", "training", "scaling", "conversion",
             "evaluation", "browse", "original", "mechanism", "battery")  # fmt: skip
    return name.endswith(_BY_RUN) or name.split("_")[0] in kinds


def of_images(name: str) -> bool:
    """Whether a table is one of the study of image classifiers."""
    return name in IMAGES or name.endswith(_OF_IMAGES)


def of_browsing(name: str) -> bool:
    """Whether a table is one of the study that browses a dictionary."""
    return name.startswith("browse_")


def of_trainings(name: str) -> bool:
    """Whether a table is one of the studies that watch trainings."""
    return name in OF_TRAININGS + OF_PHASES


def on_request(name: str) -> bool:
    """Whether a table is there only if an option asks for it."""
    return name.startswith("variant")


def columns_there(run: Path) -> dict[str, set[str]]:
    return {
        path.stem: set(pq.read_schema(path).names) for path in (run / "tables").glob("*.parquet")
    }
