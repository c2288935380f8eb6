"""Faults put into a program at an exact step, not at a random time."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest


class Fault(BaseException):
    """Not an Exception, as a kill is not: no handler may tidy up after it."""


def fail_at(monkeypatch: pytest.MonkeyPatch, k: int, error: BaseException) -> Callable[[], int]:
    """Make the k-th system call of a save (write, fsync, rename) fail; returns the count so far."""
    count = 0

    def counted(real: Callable) -> Callable:
        def call(*args, **kwargs):
            nonlocal count
            count += 1
            if count == k:
                raise error
            return real(*args, **kwargs)

        return call

    monkeypatch.setattr(os, "fsync", counted(os.fsync))
    monkeypatch.setattr(os, "replace", counted(os.replace))
    monkeypatch.setattr(Path, "write_bytes", counted(Path.write_bytes))
    return lambda: count
