from pathlib import Path

import yaml
from pydantic import Field

from mlip.cli.render import to_yaml
from mlip.settings import Settings


class Inner(Settings):
    lr: float = Field(1e-5, description="learning rate")
    shape: tuple[int, ...] = (1, 2)


class Outer(Settings):
    path: Path = Path("a/b: c.xyz")
    text: str = "Å # no comment"
    inner: Inner = Field(Inner(), description="the inside")
    table: dict[str, float] = Field(default_factory=lambda: {"H": -13.6})
    empty: dict[str, float] = Field(default_factory=dict)
    nothing: int | None = None


def test_yaml_reads_back_to_the_same_settings():
    text = to_yaml(Outer())
    assert Outer(**yaml.safe_load(text)) == Outer()


def test_meanings_are_comments():
    text = to_yaml(Outer())
    assert "inner:  # the inside" in text
    assert "# learning rate" in text
