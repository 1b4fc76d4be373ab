"""What was typed: a verb, perhaps a config file, overrides and flags."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mlip.cli.catalog import VERBS, Verb
from mlip.cli.suggest import SAVED_MODEL, did_you_mean, listing, nearest
from mlip.errors import MlipError

FLAGS = ("--help", "-h", "--cfg", "-c", "--multirun", "-m")


class Arguments(NamedTuple):
    """The command line after parsing.

    Attributes:
        verb: the command, or `None` for `mlip --help`.
        file: a config file given as a plain path.
        overrides: `key=value` items, untouched.
        show_help: `--help`.
        show_config: `--cfg`.
        multirun: `--multirun`.
    """

    verb: Verb | None
    file: Path | None = None
    overrides: tuple[str, ...] = ()
    show_help: bool = False
    show_config: bool = False
    multirun: bool = False


def parse(argv: list[str]) -> Arguments:
    """Read the command line.

    Args:
        argv: without the program's name.

    Raises:
        MlipError: for an unknown verb or flag, or an item that is neither `key=value` nor a file.
    """
    words = list(argv)
    if not words or words[0] in ("--help", "-h", "help"):
        return Arguments(None, show_help=True)
    verb = _verb(words)
    if verb is None:
        return Arguments(None, show_help=True)
    file: Path | None = None
    overrides: list[str] = []
    flags: set[str] = set()
    while words:
        word = words.pop(0)
        if word in verb.shortcuts:
            _require_one(word, verb.shortcuts[word], argv)
            overrides.append(verb.shortcuts[word])
        elif word in FLAGS:
            flags.add(word)
            if word in ("--cfg", "-c") and words and words[0] in ("job", "all"):
                words.pop(0)
        elif word.startswith("-"):
            raise MlipError(
                f"Unknown flag {word}: expected "
                f"{listing([*verb.shortcuts, '--cfg', '--multirun', '--help'])}."
                f"{did_you_mean(nearest(word, [*verb.shortcuts, *FLAGS]))}"
            )
        elif "=" in word or word.startswith("~"):
            overrides.append(word)
        elif file is None and _is_config_file(word):
            file = Path(word)
        else:
            raise MlipError(_unreadable(word, words, overrides, verb))
    return Arguments(
        verb,
        file,
        tuple(overrides),
        show_help=bool(flags & {"--help", "-h"}),
        show_config=bool(flags & {"--cfg", "-c"}),
        multirun=bool(flags & {"--multirun", "-m"}),
    )


def _require_one(flag: str, meaning: str, argv: Sequence[str]) -> None:
    """Refuse what contradicts a flag, such as `preset=full` beside `--quick`."""
    key = meaning.partition("=")[0]
    for word in argv:
        if word.startswith(f"{key}="):
            raise MlipError(f"{flag} means {meaning}, and {word} was given as well: choose one.")


def _verb(words: list[str]) -> Verb | None:
    """Take the verb, of one or two words, from the front of `words`.

    Returns:
        `None` for `mlip benchmark` and `mlip benchmark --help`: several verbs begin like this.
    """
    for count in (2, 1):
        name = " ".join(words[:count])
        if len(words) >= count and name in VERBS:
            del words[:count]
            return VERBS[name]
    first = words[0]
    subjects = [name for name in VERBS if name.split()[0] == first]
    if subjects:
        if len(words) == 1 or words[1] in ("--help", "-h"):
            return None
        raise MlipError(
            f"Unknown subject in 'mlip {first} {words[1]}': expected mlip {listing(subjects)}."
        )
    raise MlipError(
        f"Unknown verb '{first}': expected {listing(VERBS)}.{did_you_mean(nearest(first, VERBS))}"
    )


def _unreadable(word: str, rest: list[str], before: list[str], verb: Verb) -> str:
    """What is wrong with a bare word, and what may have been meant."""
    if before and before[-1].endswith("="):
        return f"Write {before[-1]}{word} without a space."
    if rest and rest[0].startswith("="):
        value = "".join(rest[:2] if rest[0] == "=" else rest[:1])
        return f"Write {word}{value} without spaces."
    path = Path(word)
    if path.suffix == ".mlip" or (path / SAVED_MODEL).is_file():
        key = "init_from" if verb.name == "train" else "model"
        model = path if path.suffix == ".mlip" else path / SAVED_MODEL
        return f"Cannot read '{word}': give the saved model as {key}={model}."
    if path.exists() and verb.file_key:
        return f"Cannot read '{word}': give the file as {verb.file_key}={word}."
    return (
        f"Cannot read '{word}': expected key=value (for example model.channels=64), a "
        "config file ending in .yaml, or a flag."
    )


def _is_config_file(word: str) -> bool:
    path = Path(word)
    if path.suffix not in (".yaml", ".yml"):
        return False
    if not path.is_file():
        raise MlipError(f"Config file {word} was not found (looked in {Path.cwd()}).")
    return True
