"""`Findings`: what the checks of data collect."""

from __future__ import annotations


class Findings:
    """What was found, one sentence each.

    Attributes:
        facts: what was measured.
        warnings: what deserves a look.
        fatal: what makes the data useless.
    """

    def __init__(self) -> None:
        self.facts: list[str] = []
        self.warnings: list[str] = []
        self.fatal: list[str] = []
