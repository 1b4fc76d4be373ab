"""The package as a whole: a quick import, a short public surface, a warning about its namesake."""

import os
import shutil
import subprocess
import sys
import tomllib
import warnings

import pytest

import mlip


def test_the_public_surface_is_short_and_complete():
    assert set(mlip.__all__) == {"Potential", "__version__", "load"}
    assert all(hasattr(mlip, name) for name in mlip.__all__)


def test_the_version_is_the_distributions(root):
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    assert mlip.__version__ == project["version"]


def test_import_is_quick_and_keeps_xla_silent(root):
    code = (
        "import os, sys, mlip; print(os.environ['TF_CPP_MIN_LOG_LEVEL'], "
        "*sorted({'jax', 'ase', 'numpy', 'matplotlib'} & set(sys.modules)))"
    )
    environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, env=environment, capture_output=True, check=True
    )
    assert done.stdout.strip() == b"3"  # read by JAX when it is imported; nothing heavy came along


def test_an_unknown_attribute_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'lod'"):
        mlip.lod  # noqa: B018


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (sys.executable, f"{sys.version_info.major}.{sys.version_info.minor}: choose"),
        ("no-such-python", "no usable Python: choose"),
    ],
)
def test_make_does_not_test_another_python_than_the_one_asked_for(root, tmp_path, asked, found):
    (tmp_path / "bin").mkdir()
    python = tmp_path / "bin" / "python"
    python.write_text("#!/bin/sh\necho 2.7\n")
    python.chmod(0o755)
    (tmp_path / ".ready").touch()
    words = ["make", "test", f"VENV={tmp_path}", f"PYTHON={asked}"]
    done = subprocess.run(words, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert f"{tmp_path} has Python 2.7, but PYTHON={asked} is {found}" in done.stderr


def test_the_namesake_in_the_same_place_is_warned_of(tmp_path):
    (tmp_path / "mlip-0.2.5.dist-info").mkdir()
    with pytest.warns(UserWarning, match=r"jax-mlip \(this one\) and mlip-0\.2\.5, another"):
        mlip._warn_of_namesake(tmp_path)


def test_no_warning_without_it(tmp_path):
    (tmp_path / "jax_mlip-0.1.0.dist-info").mkdir()
    (tmp_path / "mlip_arena-0.1.0.dist-info").mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mlip._warn_of_namesake(tmp_path)
