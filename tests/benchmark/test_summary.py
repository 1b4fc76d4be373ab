"""Tables and figures of made-up results."""

import numpy as np
import pytest
from matplotlib.image import imread

from mlip.benchmark import figures
from mlip.benchmark.figures import pareto_front, plot_fronts, write_figures
from mlip.benchmark.grid import BASELINE
from mlip.benchmark.records import Row
from mlip.benchmark.styles import operator_styles
from mlip.benchmark.summary import (
    cost_table,
    main_sections,
    sections,
    summary_table,
    two_digits,
    write_summary,
)
from mlip.tensor_products.registry import OPERATORS

MACHINE = {"processor": "fast", "threads": 2, "caches": {}, "versions": {"jax": "0.12.0"}}


def made_up(operator, degree, milliseconds, expressivity, **other):
    cell = {"task": "all_to_all", "couplings": "even", "batch": 1000, "channels": 1}
    cell |= {"precision": "float32", "mode": "forward", **other}
    times = {
        "compile_s": 1.0,
        "q1_ms": 0.9 * milliseconds,
        "q3_ms": 1.2 * milliseconds,
        "runs": 30,
        "ratio": 0.5,
    }
    return Row(
        operator,
        degree=degree,
        median_ms=milliseconds,
        expressivity=expressivity,
        output_size=9,
        exact=1,
        **cell,
        **times,
    )


@pytest.fixture
def rows():
    measured = [
        made_up(name, degree, factor * degree**2, power * degree, **{"mode": mode})
        for degree in (1, 2, 3)
        for mode in ("forward", "gradient")
        for name, factor, power in (("slow", 3.0, 5), ("quick", 0.02, 4))
    ]
    skipped = measured[0]._replace(operator="huge", median_ms=None, skipped="9 GB")
    convolution = [
        made_up("slow", 3, 4.0, None, task="mace_convolution", couplings="own")._replace(weights=8)
    ]
    return [*measured, skipped, *convolution]


def test_a_table_has_a_row_for_each_operator_and_a_column_for_each_degree(rows):
    section, group = next(iter(sections(rows).items()))
    table = summary_table(section, group)
    assert table.title == (
        "all degrees to all degrees up to 2L, even couplings: value, 1,000 atoms, 1 channel, "
        "float32"
    )
    assert table.header == ["ms (ratio)", "L = 1", "L = 2", "L = 3"]
    assert table.rows == [
        ["`slow`", "3.00 (0.50)", "12.0 (0.50)", "27.0 (0.50)"],
        ["`quick`", "0.020 (0.50)", "0.080 (0.50)", "0.18 (0.50)"],
    ]


def test_what_was_not_timed_is_named(rows):
    twin = rows[0]._replace(operator="copy", median_ms=None, skipped="the same program as slow")
    section, group = next(iter(sections([*rows, twin]).items()))
    table = summary_table(section, group)
    assert table.rows[-1] == ["`copy`", "= `slow`", "–", "–"]
    assert table.notes == ["`huge` was not timed at L = 1: 9 GB."]
    assert "\n* `huge` was not timed" in table.markdown()
    twin = rows[-1]._replace(operator="copy", skipped="the same program as slow", weights=None)
    section, group = list(sections([*rows, twin]).items())[-1]
    assert summary_table(section, group).rows[-1] == ["`copy`", "= `slow`", "–", "9"]


def test_ratios_have_two_digits():
    shown = [two_digits(value) for value in (0.0499, 0.0996, 0.5, 0.996, 1.0, 9.96, 12.3, 123.0)]
    assert shown == ["0.050", "0.10", "0.50", "1.0", "1.0", "10", "12", "120"]


def test_a_convolution_shows_its_weights(rows):
    section, group = list(sections(rows).items())[-1]
    assert summary_table(section, group).rows == [["`slow`", "4.00 (0.50)", "8", "9"]]


def test_the_terminal_shows_the_most_atoms_and_fewest_channels(rows):
    more = [row._replace(batch=10000) for row in rows[:2]]
    wide = [row._replace(channels=64, batch=10**6) for row in rows[:2]]
    double = [row._replace(precision="float64") for row in rows[:2]]
    chosen = main_sections([*rows, *more, *wide, *double])
    assert [(s.task, s.mode, s.batch, s.channels, s.precision) for s in chosen] == [
        ("all_to_all", "forward", 10000, 1, "float32"),
        ("all_to_all", "gradient", 1000, 1, "float32"),
        ("mace_convolution", "forward", 1000, 1, "float32"),
    ]


def test_the_page_holds_every_table(rows):
    page = write_summary(rows, MACHINE)
    assert page.count("### ") == 2 + 1 + 1 + 2
    assert "| `quick` | 4 | 8 | 12 |" in page


def test_costs_are_those_of_the_last_degree_of_the_baseline(rows):
    cost = {"compile_s": 0.5, "flops": 4e6, "traffic_bytes": 2e6, "memory_bytes": 5e5}
    section, group = next(iter(sections(rows).items()))
    group = [row._replace(multiplies=7000, **cost) for row in group if not row.skipped]
    baseline = [row._replace(operator=BASELINE) for row in group if row.degree < 3]
    table = cost_table(section, [*group, *baseline])
    assert table.title.endswith("float32: cost of the program at L = 2")
    assert table.rows[0] == ["`slow`", "0.50", "4,000", "7,000", "2", "0.5"]
    assert cost_table(section, group).title.endswith("at L = 3")


def test_front_is_what_nobody_beats(rows):
    some = [
        made_up("a", 1, 1.0, 5),
        made_up("b", 1, 2.0, 9),
        made_up("c", 1, 1.5, 4),
        made_up("d", 1, 3.0, 9),
    ]
    assert [row.operator for row in pareto_front(some)] == ["a", "b"]


def test_a_figure_of_the_first_comparison_alone(tmp_path):
    path = tmp_path / "front.png"
    style = {"a": ("#000000", "o", "-")}
    assert plot_fronts(path, [made_up("a", 1, 1.0, 5)], style).stat().st_size > 10_000


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are drawn, in place of files."""
    found = []
    monkeypatch.setattr(figures, "save_figure", lambda figure, path: found.append(figure))
    return found


LABELS = ["path_shared(paths=all)", "cp(paths=all,rank=paper)", "clebsch_gordan_sparse"]


def test_titles_fit(drawn, tmp_path):
    """Beside the longest names and titles that there are."""
    cell = {"batch": 10000, "precision": "float64", "mode": "gradient"}
    alone = {**cell, "task": "mace_convolution", "couplings": "own", "channels": 64}
    rows = [made_up(label, degree, 1.5, 5, **cell) for label in LABELS for degree in (1, 10)]
    rows += [row._replace(mode="forward") for row in rows]
    rows += [made_up(label, 3, 1.5, None, **alone) for label in LABELS]
    figures.write_figures(tmp_path, rows)
    assert len(drawn) == 4
    for figure in drawn:
        figure.draw_without_rendering()
        titles = [ax.title.get_window_extent() for ax in figure.axes]
        for number, title in enumerate(titles):
            assert 0 < title.x0 < title.x1 < figure.bbox.x1
            assert not any(title.overlaps(other) for other in titles[:number])


def test_a_legend_names_what_is_drawn(drawn, tmp_path):
    """The front shows a middle and the highest degree."""
    rows = [made_up("matrix", degree, 1.5, 5) for degree in (1, 2, 3, 4)]
    rows.append(made_up("vector_signal", 3, 1.0, 5))
    figures.plot_fronts(tmp_path, rows, operator_styles(row.operator for row in rows))
    (legend,) = drawn[0].legends
    assert [text.get_text() for text in legend.get_texts()] == ["matrix"]


def test_an_operator_has_one_colour_in_every_figure():
    some, all_ = operator_styles(["matrix", "so2"]), operator_styles([*OPERATORS, *LABELS])
    assert {name: all_[name] for name in some} == some
    assert len(set(all_.values())) == len(all_)
    assert all_["cp(paths=all,rank=paper)"].colour == all_["cp"].colour


def test_figures_are_drawn(rows, tmp_path):
    paths = write_figures(tmp_path / "new", rows)
    assert [path.name for path in paths] == [
        "time_1_channel.png",
        "time_per_expressivity_1_channel.png",
        "front_1_channel.png",
        "convolution.png",
    ]
    for path in paths:
        red = imread(path)[..., 0]
        assert min(red.shape) > 300
        assert len(np.unique(red)) > 50
