"""Schedules, limits, stages, plateau and early stopping as functions of a run's position."""

import pytest

from mlip.errors import MlipError
from mlip.training.loss import LossSettings, LossWeights
from mlip.training.optimizer import OptimizerSettings
from mlip.training.plan import Plan
from mlip.training.schedule import ScheduleSettings, relative_rate
from mlip.training.settings import SecondStageSettings, TrainerSettings
from mlip.training.state import Bookkeeping

BATCHES = 10


def plan(schedule=None, validates=True, loss=None, **trainer):
    return Plan(
        TrainerSettings(**trainer),
        loss or LossSettings(),
        OptimizerSettings(lr=0.01),
        ScheduleSettings(**(schedule or {"name": "constant"})),
        BATCHES,
        validates,
    )


def at(step, seconds=0.0, **fields):
    return Bookkeeping(
        epoch=step // BATCHES, batch=step % BATCHES, step=step, seconds=seconds, **fields
    )


@pytest.mark.parametrize("name", ["cosine", "exponential"])
@pytest.mark.parametrize(
    ("limit", "start", "middle", "end"),
    [
        ({"max_steps": 100}, at(0), at(50), at(100)),
        ({"max_epochs": 10}, at(0), at(50), at(100)),
        ({"max_minutes": 10.0}, at(0), at(7, 300.0), at(9, 600.0)),
        ({"max_minutes": 10.0, "max_epochs": 99}, at(0), at(7, 300.0), at(9, 600.0)),
    ],
)
def test_the_rate_falls_to_its_end_with_the_limit(name, limit, start, middle, end):
    course = plan({"name": name, "end_factor": 0.04}, **limit)
    assert course.lr(start) == pytest.approx(0.01)
    assert course.lr(middle) == pytest.approx(0.01 * (0.52 if name == "cosine" else 0.2))
    assert course.lr(end) == pytest.approx(0.01 * 0.04)
    assert course.stop_reason(middle) is None
    assert course.stop_reason(end) == next(iter(limit))


def test_the_last_validation_is_part_of_the_minutes():
    course = plan(max_minutes=1.0)
    assert course.stop_reason(at(5, 48.0, validation_seconds=10.0)) is None
    assert course.stop_reason(at(5, 49.1, validation_seconds=10.0)) == "max_minutes"


def test_warmup_rises_linearly():
    settings = ScheduleSettings(name="constant", warmup_steps=4)
    rates = [relative_rate(settings, step=step, share=0.0) for step in range(6)]
    assert rates == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0])


def test_warmup_over_a_share_of_the_run_from_a_given_rate():
    """The limit counts, not the number of steps: two epochs of ten, whatever their length."""
    warm = {"name": "constant", "warmup_share": 0.2, "warmup_factor": 0.2}
    course = plan(warm, max_epochs=10)
    rates = [course.lr(at(step)) / 0.01 for step in (0, 10, 15, 20, 60)]
    assert rates == pytest.approx([0.2, 0.6, 0.8, 1.0, 1.0])
    with_steps = ScheduleSettings(name="constant", warmup_steps=4, warmup_factor=0.5)
    rates = [relative_rate(with_steps, step=step, share=0.0) for step in range(5)]
    assert rates == pytest.approx([0.6, 0.7, 0.8, 0.9, 1.0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"warmup_steps": 5, "warmup_share": 0.1}, "contradict each other"),
        ({"warmup_factor": 0.2}, "only with a warm-up"),
    ],
)
def test_warmups_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ScheduleSettings(name="constant", **options)


def test_plateau_reduces_after_patience_and_counts_anew():
    course = plan({"name": "plateau", "factor": 0.5, "patience": 2}, max_epochs=99)
    book, rates = at(0), []
    for loss in (1.0, 0.9, 0.91, 0.95, 0.9, 0.9, 0.9, 0.9, 0.1):
        course.record_validation(book, loss)
        rates.append(course.lr(book) / 0.01)
    assert rates == pytest.approx([1, 1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25])


def test_early_stopping_counts_validations_without_improvement():
    course = plan(max_epochs=99, early_stopping=2)
    book = at(0)
    improved = [course.record_validation(book, loss) for loss in (1.0, 0.5, 0.6)]
    assert improved == [True, True, False]
    assert course.stop_reason(book) is None
    course.record_validation(book, 0.5)
    assert course.stop_reason(book) == "early_stopping"


def test_second_stage_changes_weights_and_compares_losses_anew():
    second = SecondStageSettings(start=0.5, energy_weight=1000.0)
    course = plan(max_steps=100, second_stage=second)
    book = at(49)
    course.record_validation(book, 1.0)
    assert not course.enters_second_stage(book)
    assert course.weights(book) == LossWeights(1.0, 100.0, None)
    book = at(50, best_loss=book.best_loss)
    assert course.enters_second_stage(book)
    course.start_second_stage(book)
    assert not course.enters_second_stage(book)
    assert course.weights(book) == LossWeights(1000.0, 100.0, None)
    assert course.record_validation(book, 7.0)


def test_a_term_of_the_second_stage_alone_has_weight_zero_in_the_first():
    second = SecondStageSettings(stress_weight=5.0)
    course = plan(max_steps=100, second_stage=second)
    assert course.weights(at(0)) == LossWeights(1.0, 100.0, 0.0)


def test_second_stage_with_a_rate_of_its_own_restarts_the_schedule():
    second = SecondStageSettings(start=0.75, lr=0.001)
    course = plan({"name": "cosine", "end_factor": 0.1}, max_steps=100, second_stage=second)
    assert course.lr(at(0)) == pytest.approx(0.01)
    assert course.lr(at(75)) == pytest.approx(0.001)
    book = at(75)
    course.start_second_stage(book)
    assert course.lr(book) == pytest.approx(0.001)
    book.step = book.batch = 100
    assert course.lr(book) == pytest.approx(0.0001)


def test_second_stage_without_a_rate_leaves_the_schedule_unbroken():
    settings = {"name": "cosine"}
    second = SecondStageSettings(start=0.5, energy_weight=9.0)
    with_stage, without = (
        plan(settings, max_steps=100, second_stage=second),
        plan(settings, max_steps=100),
    )
    for stage, step in ((1, 30), (2, 70)):
        assert with_stage.lr(at(step, stage=stage)) == without.lr(at(step))


@pytest.mark.parametrize(
    "wish",
    [
        {"schedule": {"name": "plateau"}, "keep": "last"},
        {"early_stopping": 3, "keep": "last"},
        {"keep": "best"},
    ],
)
def test_what_needs_a_validation_set_says_so(wish):
    with pytest.raises(MlipError, match="validation set"):
        plan(**{"max_epochs": 1, "validates": False, **wish})


def test_a_run_without_any_limit_is_refused():
    with pytest.raises(ValueError, match="max_minutes"):
        TrainerSettings()
