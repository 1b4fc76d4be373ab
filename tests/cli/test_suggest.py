import pytest

from mlip.cli.suggest import completions, listing, nearest, nearest_key

KEYS = ["model", "model.channels", "model.cutoff", "optimizer.lr", "trainer.second_stage.lr"]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("model.chanels", "model.channels"),
        ("modle.channels", "model.channels"),
        ("channels", "model.channels"),
        ("trainer.lr", "optimizer.lr"),
        ("modle", "model"),
        ("model.zzz", None),
    ],
)
def test_nearest_key(typed, meant):
    assert nearest_key(typed, KEYS) == meant


def test_nearest_ignores_case():
    assert nearest("MACE", ["mace", "tdn"]) == "mace"
    assert nearest("xyz", ["mace", "tdn"]) is None


def test_listing():
    assert listing(["a"]) == "a"
    assert listing(["a", "b", "c"]) == "a, b or c"


def test_completions_come_before_what_is_near():
    known = ["gaunt_grid", "gaunt_poisson", "so2", "matrix"]
    assert completions("gaunt", known) == "gaunt_grid or gaunt_poisson"
    assert completions("so3", known) == "so2"
