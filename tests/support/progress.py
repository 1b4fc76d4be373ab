"""A progress bar that remembers what it is told."""

from contextlib import nullcontext

import pytest


@pytest.fixture
def shown(monkeypatch):
    """Label and total of every bar of `mlip.data.progress`, and the steps that it came to."""
    told = []

    class Bar:
        def update(self, step, text):
            told.append(step)

    begin = lambda label, total: told.append((label, total)) or nullcontext(Bar())  # noqa: E731
    monkeypatch.setattr("mlip.data.progress._begin", begin)
    return told
