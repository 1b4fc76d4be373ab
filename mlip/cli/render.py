"""Settings as commented YAML: what `--cfg` prints and `config.yaml` holds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml
from pydantic import BaseModel

COMMENT_COLUMN = 34


def to_yaml(settings: BaseModel) -> str:
    """The settings as YAML, every key followed by its meaning as a comment."""
    return "\n".join(_lines(settings, settings.model_dump(mode="json"), "")) + "\n"


def _lines(settings: BaseModel, dumped: dict[str, Any], indent: str) -> Iterator[str]:
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        meaning = " ".join((field.description or "").split())
        comment = f"  # {meaning}" if meaning else ""
        if isinstance(value, BaseModel):
            yield f"{indent}{name}:{comment}"
            yield from _lines(value, dumped[name], indent + "  ")
        elif isinstance(dumped[name], dict) and dumped[name]:
            yield f"{indent}{name}:{comment}"
            block = yaml.safe_dump(dumped[name], sort_keys=False, allow_unicode=True)
            yield from (f"{indent}  {line}" for line in block.splitlines())
        else:
            text = f"{indent}{name}: {_inline(dumped[name])}"
            yield f"{text:<{COMMENT_COLUMN}}{comment}" if comment else text


def _inline(value: Any) -> str:
    """One value in YAML's flow style on one line."""
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10**9)
    return text.removesuffix("\n").removesuffix("\n...").strip()
