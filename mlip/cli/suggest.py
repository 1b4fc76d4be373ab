"""The nearest valid name, for error messages."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import SequenceMatcher, get_close_matches
from pathlib import Path

SAVED_MODEL = "model.mlip"  # in a run folder


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The closest of `known` names, or `None` when nothing is near."""
    found = get_close_matches(name.lower(), {k.lower(): k for k in known}, n=1, cutoff=0.6)
    return {k.lower(): k for k in known}[found[0]] if found else None


def completions(name: str, known: Iterable[str]) -> str | None:
    """`a, b or c`: the known names that begin with this one; if none does, the closest."""
    known = list(known)
    found = [k for k in known if k.lower().startswith(name.lower())] if name else []
    return listing(found) if found else nearest(name, known)


def nearest_key(key: str, known: Iterable[str]) -> str | None:
    """The closest dotted key: a misspelt name in the same section, else the same name elsewhere.

    `model.chanels` gives `model.channels`; `trainer.learning_rate` gives the
    `optimizer.learning_rate` that was meant.
    """
    known = list(known)
    section, _, leaf = key.rpartition(".")

    def score(candidate: str) -> float:
        other_section, _, other_leaf = candidate.rpartition(".")
        leaves = SequenceMatcher(None, leaf.lower(), other_leaf.lower()).ratio()
        sections = SequenceMatcher(None, section.lower(), other_section.lower()).ratio()
        return leaves + 0.3 * sections - 0.1 * candidate.count(".")

    best = max(known, key=score, default=None)
    if best is None:
        return None
    leaf_ratio = SequenceMatcher(None, leaf.lower(), best.rpartition(".")[2].lower()).ratio()
    return best if leaf_ratio >= 0.6 else None


def model_inside(folder: Path) -> str:
    """` (its model is FOLDER/model.mlip)`, or nothing."""
    path = folder / SAVED_MODEL
    return f" (its model is {path})" if path.is_file() else ""


def did_you_mean(suggestion: str | None) -> str:
    """` Did you mean X?`, or nothing."""
    return f" Did you mean {suggestion}?" if suggestion else ""


def listing(names: Iterable[str]) -> str:
    """`a, b or c`."""
    *head, last = list(names) or ["nothing"]
    return f"{', '.join(head)} or {last}" if head else last
