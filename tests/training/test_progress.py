"""What is shown on a terminal and what in a file."""

import io

from rich.console import Console

from mlip.training.progress import Status, format_seconds, make_reporter

ROW = {"lr": 0.01, "energy_rmse_mev_per_atom": 1.234, "forces_rmse_mev_per_a": 56.78}
STATUS = Status(epoch=3, step=270, share=0.25, seconds=61.0, seconds_left=183.0)


def shown(terminal):
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=terminal, width=120)
    reporter = make_reporter(console)
    reporter.notice("Compiling [train_step] …")
    reporter.training(STATUS, ROW)
    reporter.validation(STATUS, ROW, best=True)
    reporter.close()
    return stream.getvalue()


def test_plain_lines_when_not_on_a_terminal():
    lines = shown(terminal=False).splitlines()
    assert lines == [
        "Compiling [train_step] …",
        "epoch    3  step     270  valid  E 1.23 meV/atom  F 56.8 meV/Å  lr 1.0e-02  "
        "1 min 01 s  best",
    ]


def test_a_bar_with_time_left_and_errors_on_a_terminal():
    text = shown(terminal=True)
    assert "epoch 3" in text
    assert "25 %" in text
    assert "3 min 03 s left" in text
    assert "F 56.8 meV/Å" in text


def test_durations():
    assert [format_seconds(s) for s in (0.4, 59, 60, 3599, 3600, 7620)] == [
        "0 s", "59 s", "1 min 00 s", "59 min 59 s", "1 h 00 min", "2 h 07 min",
    ]  # fmt: skip
