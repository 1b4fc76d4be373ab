"""A built wheel works without the clone: configurations and quickstart data come along."""

import os
import subprocess
import sys
import zipfile

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def unpacked(root, tmp_path_factory):
    """The wheel, built and unpacked as an installer would."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--wheel-dir", folder, root], check=True)
    (wheel,) = folder.glob("jax_mlip-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def files_below(folder):
    return {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_everything_needed_is_inside(root, unpacked):
    assert files_below(unpacked / "mlip" / "configs") == files_below(root / "configs")
    quickstart = files_below(unpacked / "mlip" / "datasets" / "quickstart")
    assert quickstart == files_below(root / "datasets" / "quickstart")
    assert {path.name for path in (unpacked / "mlip" / "datasets").iterdir()} == {"quickstart"}
    assert (unpacked / "mlip" / "py.typed").is_file()


def test_nothing_else_is(unpacked):
    assert {path.name for path in unpacked.iterdir()} == {"mlip", "jax_mlip-0.1.0.dist-info"}


def test_the_quickstart_is_found_from_anywhere(unpacked, tmp_path):
    command = [sys.executable, "-m", "mlip.cli.main", "train", "experiment=quickstart", "--cfg"]
    environment = {**os.environ, "PYTHONPATH": str(unpacked)}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert f"root: {unpacked / 'mlip' / 'datasets' / 'quickstart'}" in done.stdout
