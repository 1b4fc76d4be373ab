"""Imports point down the layers, and nothing optional is imported along with the package."""

import ast
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "mlip"

LAYERS = [
    {"errors", "settings", "selfcheck", "runtime", "progress"},
    {"graph"},
    {"data", "nn", "tensor_products"},
    {"models"},
    {"potential"},
    # "": the package itself, `mlip.load`
    {"training", "simulation", "io", "reporting", "benchmark", ""},
    {"cli"},
]
RANK = {room: rank for rank, rooms in enumerate(LAYERS) for room in rooms}

# Rooms of one layer that must not see each other at all.
APART = {("data", "nn"), ("data", "tensor_products"), ("nn", "data"), ("tensor_products", "data")}
# ... and of other layers: models know tensors, not files.
APART |= {("models", "data")}

# The one import that points up: a convenience method hands out the calculator, imported when
# it is called, so that `potential.calculator()` works without the user knowing the module.
EXCEPTIONS = {
    ("mlip/potential.py", "mlip.simulation.calculator", "calculator"),
    ("mlip/potential.py", "mlip.simulation.calculator", "TYPE_CHECKING"),
}

# Import names that a core dependency brings along and documents as its own.
BROUGHT_ALONG = {"omegaconf", "pydantic_core"}

MODULE_OF = {
    "e3nn-jax": "e3nn_jax",
    "hydra-core": "hydra",
    "orbax-checkpoint": "orbax",
    "pyyaml": "yaml",
}


class Import(NamedTuple):
    """One imported module, and the function that imports it.

    At module level the function is "", below `if TYPE_CHECKING` it is "TYPE_CHECKING".
    """

    file: Path
    module: str
    function: str

    def __str__(self) -> str:
        where = f" in {self.function}()" if self.function else ""
        return f"{self.file.relative_to(ROOT)}{where} imports {self.module}"


def imports_of(file: Path) -> Iterator[Import]:
    """Every import of a file, wherever it stands."""
    yield from _walk(ast.parse(file.read_text()), file, "")


def _walk(node: ast.AST, file: Path, function: str) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(file, alias.name, function)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"{file}: relative import"
            for alias in child.names:
                module = child.module or ""
                is_room = module == "mlip" and alias.name in RANK
                yield Import(file, f"mlip.{alias.name}" if is_room else module, function)
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _walk(child, file, child.name)
        elif isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            yield from _walk(child, file, "TYPE_CHECKING")
        else:
            yield from _walk(child, file, function)


def room_of(module: str) -> str:
    """`mlip.data.neighbors` -> `data`; the package itself -> ""."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def room_of_file(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


FILES = sorted(PACKAGE.rglob("*.py"))
IMPORTS = [found for file in FILES for found in imports_of(file)]
INTERNAL = [
    found
    for found in IMPORTS
    if found.module.split(".")[0] == "mlip" and found.file != PACKAGE / "__init__.py"
]


def dependencies() -> tuple[set[str], set[str]]:
    """Import names of the core dependencies and of the extras, from pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    def names(requirements: list[str]) -> set[str]:
        plain = {r.split(";")[0].split("[")[0].rstrip("0123456789.,<>=!* ") for r in requirements}
        return {MODULE_OF.get(name, name) for name in plain}

    extras = [r for extra in project["optional-dependencies"].values() for r in extra]
    return names(project["dependencies"]), names(extras)


def test_every_module_belongs_to_a_layer():
    unknown = {room_of_file(file) for file in FILES} - set(RANK) - {"__init__"}
    assert not unknown, f"name the layer of {unknown} in {__file__}"


def test_imports_point_down():
    upward = [
        str(found)
        for found in INTERNAL
        if RANK[room_of(found.module)] > RANK[room_of_file(found.file)]
        and (str(found.file.relative_to(ROOT)), found.module, found.function) not in EXCEPTIONS
    ]
    assert not upward, "\n".join(upward)


def test_rooms_that_stay_apart():
    wrong = [
        str(found)
        for found in INTERNAL
        if (room_of_file(found.file), room_of(found.module)) in APART
    ]
    assert not wrong, "\n".join(wrong)


def test_rooms_of_one_layer_form_no_cycle():
    edges = {
        (room_of_file(found.file), room_of(found.module))
        for found in INTERNAL
        if RANK[room_of_file(found.file)] == RANK[room_of(found.module)]
    }
    reachable = {a: {y for x, y in edges if x == a and y != a} for a in RANK}
    for _ in RANK:
        for room in RANK:
            reachable[room] |= {z for y in reachable[room] for z in reachable[y]}
    cyclic = sorted(room for room in RANK if room in reachable[room])
    assert not cyclic, f"these import each other: {cyclic}"


def test_only_the_command_line_knows_hydra():
    wrong = [
        str(found)
        for found in IMPORTS
        if found.module.split(".")[0] in {"hydra", "omegaconf"}
        and room_of_file(found.file) != "cli"
    ]
    assert not wrong, "\n".join(wrong)


def test_data_knows_jax_through_the_graph_only():
    banned = {"jax", "jaxlib", "flax", "optax", "orbax", "e3nn_jax"}
    wrong = [
        str(found)
        for found in IMPORTS
        if room_of_file(found.file) == "data" and found.module.split(".")[0] in banned
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("level", ["module", "function"])
def test_third_party_imports_are_declared(level):
    """Core dependencies anywhere; optional ones inside functions only."""
    core, extras = dependencies()
    allowed = core | BROUGHT_ALONG | {"mlip"} | set(sys.stdlib_module_names)
    if level == "function":
        allowed |= extras
    wrong = [
        str(found)
        for found in IMPORTS
        if bool(found.function) == (level == "function")
        and found.module.split(".")[0] not in allowed
    ]
    assert not wrong, "\n".join(wrong)


def test_these_rules_see_what_they_should(tmp_path):
    file = tmp_path / "x.py"
    file.write_text("import torch\ndef f():\n    from mlip import graph\n    import jax.numpy\n")
    found = [(i.module, i.function) for i in imports_of(file)]
    assert found == [("torch", ""), ("mlip.graph", "f"), ("jax.numpy", "f")]
