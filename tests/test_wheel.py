"""The wheel: what is in it, what must not be, and that it works where no checkout is near."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

SOURCES = ("theory", "fusion", "estimators", "pyproject.toml", "README.md", "LICENSE")


def run(*command: object, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run in a foreign folder, without the variables that would let the checkout shine through."""
    inherited = {key: value for key, value in os.environ.items() if key not in {"PYTHONPATH", "PYTHONHOME"}}
    arguments = [str(part) for part in command]
    return subprocess.run(
        arguments, cwd=folder, capture_output=True, text=True, timeout=240, env=inherited | environment
    )


def check(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, f"{done.args}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(root, tmp_path_factory) -> Path:
    """Build from a copy: the checkout gets no build folder, and a stale one cannot leak into the wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in SOURCES:
        if (root / name).is_dir():
            shutil.copytree(root / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(root / name, source / name)
    # Setuptools is in the environment (extra dev): building needs no download.
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--no-deps", "--no-index"]
    check(run(*pip, "--no-build-isolation", "--wheel-dir", folder, source, folder=folder))
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory) -> Path:
    """Return the interpreter of a clean environment that holds the wheel and sees the dependencies."""
    folder = tmp_path_factory.mktemp("clean") / "venv"
    venv.create(folder, with_pip=False, symlinks=True)
    binary = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", binary]
    check(run(*pip, "install", "--no-deps", "--no-index", wheel, folder=folder))
    site = check(
        run(binary, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", folder=folder)
    ).strip()
    # A folder named in a .pth file is searched, but its own .pth files are not run: the dependencies are
    # there, the editable install of the checkout is not.
    (Path(site) / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return binary


def test_wheel_holds_the_digits_and_not_the_panels(wheel, root):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = archive.read(next(name for name in names if name.endswith("METADATA"))).decode()
    data = "estimators/datasets/data"
    assert {f"{data}/mfeat/{name}" for name in ("mfeat.npz", "README.md", "LICENSE-MIT-carrier.txt")} <= names
    assert (root / data / "llm_panels" / "mmlupro.npz").exists()
    assert not [name for name in names if "llm_panels/" in name], (
        "third parties' answers must stay out of the wheel"
    )
    assert {f"{package}/py.typed" for package in ("theory", "fusion", "estimators")} <= names
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {
        "theory",
        "fusion",
        "estimators",
    }
    assert "License-Expression: BSD-3-Clause" in metadata
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_wheel_holds_every_module(wheel, root):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    modules = {
        str(path.relative_to(root))
        for package in ("theory", "fusion", "estimators")
        for path in (root / package).rglob("*.py")
    }
    assert modules <= names, sorted(modules - names)


def test_three_packages_import_far_from_the_checkout(python, tmp_path, root):
    code = (
        "import theory, fusion, estimators, sys; "
        "print(*[module.__file__ for module in (theory, fusion, estimators)], sep='\\n')"
    )
    files = check(run(python, "-c", code, folder=tmp_path)).split()
    assert len(files) == 3
    for file in files:
        assert Path(file).is_relative_to(python.parent.parent), file
        assert not Path(file).is_relative_to(root / "theory")


def test_every_public_name_resolves_far_from_the_checkout(python, tmp_path):
    check(
        run(
            python,
            "-c",
            "from theory import *; from fusion import *; from estimators import *",
            folder=tmp_path,
        )
    )


def test_data_far_from_the_checkout(python, tmp_path):
    code = (
        "from estimators import load_mfeat, load_llm_panel\n"
        "assert load_mfeat().views['fou'].shape == (2000, 76)\n"
        "try:\n    load_llm_panel('mmlupro')\n"
        "except FileNotFoundError as error:\n    print(error)\n"
    )
    assert "the wheel leaves out" in check(run(python, "-c", code, folder=tmp_path))


def test_command_line_far_from_the_checkout(python, tmp_path, root):
    output = check(run(python.parent / "consilience", "--version", folder=tmp_path))
    assert output.split()[-1] == "0.1.0"


def test_demo_far_from_the_checkout_takes_the_digits(python, tmp_path):
    """The language models' answers are not in the wheel; page, style sheet and digits are."""
    command = [
        python.parent / "consilience",
        "demo",
        "--liars",
        "0",
        "--html",
        "demo.html",
        "--json",
        "demo.json",
    ]
    output = check(run(*command, folder=tmp_path))
    assert output.startswith("Handwritten digits: six views, six classifiers")
    assert "Report: demo.html" in output
    page = (tmp_path / "demo.html").read_text(encoding="utf-8")
    assert "Fusion rules compared" in page
    assert ".verdict {" in page
    assert json.loads((tmp_path / "demo.json").read_text(encoding="utf-8"))["n_samples"] == 2000


def test_demo_of_a_panel_that_is_not_there_says_so(python, tmp_path):
    done = run(python.parent / "consilience", "demo", "--panel", "mmlupro", folder=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("consilience: error: ")
    assert "the wheel leaves out" in line


@pytest.mark.parametrize(
    ("foreign", "imported", "text"),
    [
        ("fusion", "theory", "the import name 'fusion' belongs to another distribution"),
        ("fusion", "estimators", "the import name 'fusion' belongs to another distribution"),
        ("estimators", "fusion", "the import name 'estimators' belongs to another distribution"),
        ("theory", "fusion", "the import name 'theory' belongs to another distribution"),
    ],
)
def test_foreign_package_of_our_name_is_detected(python, tmp_path, foreign, imported, text):
    (tmp_path / foreign).mkdir()
    (tmp_path / foreign / "__init__.py").write_text("name = 'somebody else'\n")
    done = run(python, "-c", f"import {imported}", folder=tmp_path, PYTHONPATH=str(tmp_path))
    assert done.returncode != 0
    assert "ImportError" in done.stderr
    assert text in done.stderr
    assert "Uninstall that distribution" in done.stderr
    assert not run(python, "-c", f"import {imported}", folder=python.parent).stderr


def test_missing_sibling_is_detected(python, tmp_path):
    site = Path(
        check(run(python, "-c", "import theory; print(theory.__file__)", folder=tmp_path)).strip()
    ).parents[1]
    shutil.copytree(site / "theory", tmp_path / "theory")
    # -S leaves out site-packages, and with it the two siblings
    done = run(python, "-S", "-c", "import theory", folder=tmp_path, PYTHONPATH=str(tmp_path))
    assert "consilience is incomplete: package 'fusion' is missing" in done.stderr
    assert "pip install --force-reinstall consilience" in done.stderr
