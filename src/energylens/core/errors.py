"""Every error that Energylens raises on purpose.

    EnergylensError
    ├── BadInput            what the user gave cannot be used (exit code 2)
    │   ├── UnknownName     a name that does not exist; carries the nearest ones
    │   ├── InsufficientData  too few samples or units for the statistic asked for
    │   ├── SiteNotAvailable  the site exists but failed its certification, or never fired
    │   ├── ArtifactRefused   a file that is damaged, foreign or unsafe
    │   └── NoRoom          not enough disk or memory for what was asked
    ├── TasksLost           tasks of a run ended early again and again; the rest is kept
    └── Interrupted         stopped on request; what was finished is kept

A message says what was asked, what was found, and what to do.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class EnergylensError(Exception):
    """Root of all errors raised on purpose."""


class BadInput(EnergylensError, ValueError):
    """What the user gave cannot be used; the message is one plain sentence."""


class UnknownName(BadInput):
    """A name that does not exist.

    Example:
        >>> str(UnknownName("study", "energy-lense", ["energy-lens", "ndt-suite"]))
        "no study named 'energy-lense': did you mean 'energy-lens'?"
    """

    def __init__(self, kind: str, name: str, known: Iterable[str], *, advice: str = "") -> None:
        options = list(known)
        near = nearest(name, options)
        if near:
            hint = "did you mean " + " or ".join(repr(n) for n in near) + "?"
        elif options:
            shown = ", ".join(repr(o) for o in options[:8])
            hint = f"there is {shown}" + (" and more" if len(options) > 8 else "")
        else:
            hint = "there is none"
        super().__init__(f"no {kind} named {name!r}: {hint}" + (f" {advice}" if advice else ""))
        self.near = near


class InsufficientData(BadInput):
    """Too few samples or units for the statistic asked for."""


class SiteNotAvailable(BadInput):
    """The site failed its certification, or the model ran without reaching it."""


class ArtifactRefused(BadInput):
    """A file that is damaged, foreign or unsafe to read."""


class NoRoom(BadInput):
    """Not enough disk or memory for what was asked."""


class TasksLost(EnergylensError):
    """Tasks ended early again and again; those that were finished are kept."""


class Interrupted(EnergylensError):
    """Stopped on request; finished parts are kept and the same command resumes."""


def nearest(name: str, known: Iterable[str], *, most: int = 3) -> list[str]:
    """The known names that look most like `name`, best first.

    Example:
        >>> nearest("blocks.3.resid_pots", ["blocks.3.resid_post", "embed"])
        ['blocks.3.resid_post']
    """
    return get_close_matches(name, list(known), n=most, cutoff=0.6)
