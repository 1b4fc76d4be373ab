"""Every example of the README and the docs works: Python is executed, commands are composed."""

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from mlip.cli.main import main
from mlip.data.sources.extxyz import read_extxyz

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LABELLED = ("my_data", "train", "test", "hot", "all", "old")
MODELS = ("model.mlip", "runs/water/model.mlip", "runs/tuned/model.mlip")


class Block(NamedTuple):
    """A fenced block of a page."""

    page: Path
    line: int
    language: str
    text: str


def blocks(page: Path, *languages: str) -> Iterator[Block]:
    """The fenced blocks of a page in one of the languages."""
    contents = page.read_text(encoding="utf-8")
    for match in re.finditer(r"^```(\w+)\n(.*?)^```$", contents, re.MULTILINE | re.DOTALL):
        if match[1] in languages:
            line = contents.count("\n", 0, match.start()) + 1
            yield Block(page, line, match[1], match[2])


def commands(page: Path) -> Iterator[tuple[str, list[str]]]:
    """The command lines of a page: where they stand, and their words."""
    for block in blocks(page, "bash"):
        for number, text in enumerate(block.text.splitlines(), start=1):
            words = shlex.split(text, comments=True)
            if words:
                yield f"{page.name}:{block.line + number}", words


@pytest.fixture(scope="session")
def material(tmp_path_factory) -> Path:
    """A folder with every file that the examples name, and a tiny random potential."""
    from flax import nnx
    from safetensors.numpy import load_file, save_file

    from mlip.io.saved_model import save
    from mlip.models.mace import MACE, MACEConfig
    from mlip.potential import Potential

    folder = tmp_path_factory.mktemp("examples")
    config = MACEConfig(
        elements=(1, 6, 7, 8), channels=4, hidden_lmax=0, lmax=1, correlation=2, num_layers=1,
        num_bessel=4, radial_mlp=(8,), avg_num_neighbors=8.0,
    )  # fmt: skip
    model = MACE(config, rngs=nnx.Rngs(0), dtype=np.float32)
    e0 = {1: -13.6, 6: -1029.5, 7: -1485.0, 8: -2042.0}
    potential = Potential(model, elements=config.elements, e0=e0, precision="float32")
    for name in MODELS:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        save(potential, folder / name)

    rng = np.random.default_rng(0)
    frames = [molecule("CH3CH2OH") for _ in range(4)]
    for atoms in frames:
        atoms.rattle(0.05, rng=rng)
    labelled = []
    for atoms, prediction in zip(frames, potential.predict(frames), strict=True):
        atoms.calc = SinglePointCalculator(
            atoms, energy=prediction.energy, forces=prediction.forces
        )
        labelled.append(atoms)
    for name in LABELLED:
        write(folder / f"{name}.xyz", labelled)
    write(folder / "start.xyz", molecule("CH3CH2OH"))
    write(
        folder / "crystal.xyz", Atoms("C2", [[0, 0, 0], [0.9, 0.9, 0.9]], cell=[3.6] * 3, pbc=True)
    )
    write(folder / "atoms.xyz", [isolated(number, energy) for number, energy in e0.items()])
    golden = ROOT / "tests" / "golden" / "one_layer"
    shutil.copy(golden.with_suffix(".json"), folder / "mace.json")
    arrays = load_file(golden.with_suffix(".safetensors"))
    weights = {k.removeprefix("weights/"): v for k, v in arrays.items() if k.startswith("weights/")}
    save_file(weights, folder / "mace.safetensors")
    (folder / "3bpa").mkdir()
    (yaml,) = blocks(ROOT / "docs" / "train_on_your_data.md", "yaml")
    (folder / "water.yaml").write_text(yaml.text)
    return folder


def isolated(number, energy):
    atoms = Atoms(numbers=[number], positions=[[0, 0, 0]])
    atoms.info["config_type"] = "IsolatedAtom"
    atoms.calc = SinglePointCalculator(atoms, energy=energy)
    return atoms


@pytest.mark.parametrize(
    "page", [p for p in PAGES if any(blocks(p, "python"))], ids=lambda page: page.name
)
def test_python_examples_run(page, material, monkeypatch):
    """The examples of a page in order, as a reader would type them."""
    monkeypatch.chdir(material)
    namespace: dict[str, object] = {"__name__": "__main__"}
    for block in blocks(page, "python"):
        code = compile("\n" * block.line + block.text, str(page), "exec")
        exec(code, namespace)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_are_right(page, material, monkeypatch, capsys):
    """Every key and file of an `mlip` command is accepted; other commands name what exists."""
    monkeypatch.chdir(material)
    for place, words in commands(page):
        if words[0] == "mlip":
            status = main([*words[1:], "--cfg"])
            assert status == 0, f"{place}: {shlex.join(words)}\n{capsys.readouterr().err}"
        elif words[0] == "make":
            targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
            assert words[1] in targets, place
        elif words[0] == "python":
            assert (ROOT / words[1]).is_file(), f"{place}: {words[1]}"
        else:
            assert words[:2] == ["pip", "install"], f"{place}: {shlex.join(words)}"


def test_the_frame_shown_is_valid(tmp_path):
    """The example of an extended-XYZ frame can be read, labels and all."""
    (example,) = blocks(ROOT / "docs" / "train_on_your_data.md", "text")
    (tmp_path / "frame.xyz").write_text(example.text)
    (structure,) = read_extxyz(tmp_path / "frame.xyz")
    assert structure.energy is not None
    assert structure.forces is not None
    np.testing.assert_allclose(structure.forces.sum(axis=0), 0, atol=2e-3)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    """Relative links, images included, point to files."""
    contents = re.sub(r"<!--.*?-->", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = re.findall(r"\]\(([^)#\s]+)", contents)
    missing = [
        target for target in targets if "://" not in target and not (page.parent / target).exists()
    ]
    assert not missing


def test_every_page_is_listed_in_the_readme():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [page.name for page in PAGES[1:] if f"(docs/{page.name})" not in readme] == []


def test_every_room_is_in_the_architecture():
    """Each folder and module of the package stands in the architecture's table."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rooms = {
        path.name
        for path in (ROOT / "mlip").iterdir()
        if (path.is_dir() or path.suffix == ".py") and not path.name.startswith("_")
    }
    assert [room for room in sorted(rooms) if room not in page] == []
