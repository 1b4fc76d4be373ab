"""The `mlip` command: reads the verb, composes its config, runs it, and reports mistakes."""

from __future__ import annotations

import os
import signal
import sys

from mlip.cli.arguments import Arguments, parse
from mlip.errors import MlipError
from mlip.training.interrupt import PRESS_AGAIN, InterruptWatch, leave_at_once

STOPPED_BY = 128  # plus a signal's number
INTERRUPTED = STOPPED_BY + signal.SIGINT
TRACEBACK = "MLIP_TRACEBACK"  # set to 1 to see where an error was raised


def main(argv: list[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: without the program's name; if not given, `sys.argv[1:]`, and the process is ours to
            end.

    Returns:
        0; 2 after a mistake that the user can mend; 128 + the signal's number when stopped by one;
        1 for any other failure.
    """
    status = _run_and_report(sys.argv[1:] if argv is None else argv)
    if argv is None and status > STOPPED_BY:
        leave_at_once(status)
    return status


def _run_and_report(argv: list[str]) -> int:
    try:
        return _dispatch(argv)
    except BrokenPipeError:  # the reader of our output has gone: `mlip train --help | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (MlipError, OSError) as error:
        if os.environ.get(TRACEBACK, "0") not in ("", "0"):
            raise
        message = str(error) if isinstance(error, MlipError) else _system_error(error)
        print(f"mlip: error: {message}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nmlip: interrupted", file=sys.stderr)
        return INTERRUPTED


def _dispatch(argv: list[str]) -> int:
    if argv == ["--version"]:
        from mlip import __version__

        print(f"jax-mlip {__version__}")
        return 0
    arguments = parse(argv)
    if arguments.verb is None or arguments.show_help:
        from mlip.cli import help as texts

        verb = arguments.verb
        print(texts.overview() if verb is None else texts.verb_help(verb))
        return 0
    return _run(arguments)


def _run(arguments: Arguments) -> int:
    from importlib import import_module

    from mlip.cli.compose import compose
    from mlip.cli.console import console, show_bars, show_log
    from mlip.cli.run_folder import open_run_folder
    from mlip.cli.schema import SCHEMAS
    from mlip.cli.schema_command import RunFolderConfig
    from mlip.cli.validate import validate

    assert arguments.verb is not None
    if arguments.multirun:
        from mlip.cli.sweep import sweep

        return sweep(arguments)
    composed = compose(arguments.verb.config_name, arguments.overrides, arguments.file)
    settings = validate(SCHEMAS[arguments.verb.name], composed)
    if arguments.show_config:
        from mlip.cli.render import to_yaml

        print(to_yaml(settings), end="")
        return 0
    show_log()
    show_bars()
    try:
        with InterruptWatch(
            lambda _: print(f"\nmlip: stopping; {PRESS_AGAIN}", file=sys.stderr, flush=True),
            leave=lambda: console().show_cursor(),  # which a progress bar hides
            handler=signal.default_int_handler,
            numbers=(signal.SIGINT,),
        ):
            verb = import_module(f"mlip.cli.{arguments.verb.module}")
            if not isinstance(settings, RunFolderConfig):
                return int(verb.run(settings) or 0)
            resume = getattr(settings, "resume", True)
            with open_run_folder(settings.run.dir, arguments.verb.name, resume=resume):
                return int(verb.run(settings) or 0)
    except KeyboardInterrupt:
        if not arguments.verb.resumes:
            raise
        print("mlip: interrupted; the same command goes on from what is stored", file=sys.stderr)
        return INTERRUPTED


def _system_error(error: OSError) -> str:
    if isinstance(error, FileNotFoundError) and error.filename:
        return f"File {error.filename} was not found (looked from {os.getcwd()})."
    where = f" {error.filename}" if error.filename else ""
    return (
        f"The system refused access to{where}: {error.strerror or error}; "
        "choose another folder with run.dir=FOLDER, or free some space."
    )


if __name__ == "__main__":
    sys.exit(main())
