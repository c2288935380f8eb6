"""Energylens: energy, features, curvature, dynamics and circuits of neural networks.

    import energylens as el

    lens = el.load("tiny")
    train, held_out = el.read_windows(lens, documents=300)
    found = el.align(lens, el.train(lens, train, "blocks.2.resid_post"), held_out)

Names are looked up when they are used, so that importing this package costs next to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from energylens.core.version import VERSION as __version__

_WHERE = {
    "Batch": "energylens.activations.batch",
    "Subject": "energylens.activations.subject",
    "load": "energylens.activations.certify",
    "load_dictionary": "energylens.features.formats.recognise",
    "save_dictionary": "energylens.features.formats.convert",
    "from_pretrained": "energylens.features.pretrained",
    "push_to_hub": "energylens.features.publish",
    "read_windows": "energylens.notebook.reading",
    "train": "energylens.notebook.dictionaries",
    "train_crosscoder": "energylens.notebook.dictionaries",
    "train_cross_layer": "energylens.notebook.dictionaries",
    "align": "energylens.notebook.alignment",
    "align_states": "energylens.notebook.alignment",
    "ablate": "energylens.notebook.alignment",
    "read_summary": "energylens.notebook.reading",
    "judge": "energylens.studies.evaluate_dictionary.judging",
    "slope_of": "energylens.energy.descent",
    "descend": "energylens.energy.descent",
    "find_basins": "energylens.energy.basins",
    "compare_basins": "energylens.energy.basins",
    "dimensions": "energylens.dynamics.dimension",
    "Tracker": "energylens.dynamics.tracker",
    "TrackOptions": "energylens.dynamics.look",
    "read_history": "energylens.dynamics.record",
}
_NAMES = {"load": "wrap"}
__all__ = ["__version__", *_WHERE]

if TYPE_CHECKING:
    from energylens.activations.batch import Batch
    from energylens.activations.certify import wrap as load
    from energylens.activations.subject import Subject
    from energylens.dynamics.dimension import dimensions
    from energylens.dynamics.look import TrackOptions
    from energylens.dynamics.record import read_history
    from energylens.dynamics.tracker import Tracker
    from energylens.energy.basins import compare_basins, find_basins
    from energylens.energy.descent import descend, slope_of
    from energylens.features.formats.convert import save_dictionary
    from energylens.features.formats.recognise import load_dictionary
    from energylens.features.pretrained import from_pretrained
    from energylens.features.publish import push_to_hub
    from energylens.notebook.alignment import ablate, align, align_states
    from energylens.notebook.dictionaries import train, train_cross_layer, train_crosscoder
    from energylens.notebook.reading import read_summary, read_windows
    from energylens.studies.evaluate_dictionary.judging import judge


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'energylens' has no attribute {name!r}")
    return getattr(import_module(_WHERE[name]), _NAMES.get(name, name))


def __dir__() -> list[str]:
    return __all__
