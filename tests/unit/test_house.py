"""The house keeps its plan: arrows run one way, names are ours, documents name what exists."""

import ast
import configparser
import importlib
import pkgutil
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = {"zoo": 0, "export": 1, "recipes": 2, "benchmarks": 3}


OF_KERAS = (
    "zoo/layers.py",
    "recipes/engine/gradnorm.py",
    "recipes/engine/joint.py",
    "recipes/engine/rand_augment.py",
    "recipes/adapt/methods.py",
)
"""Imported inside the functions that need them."""


def modules():
    return [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]


def imports(path: Path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: a relative import hides its room"
            yield node.module


def test_arrows_run_one_way():
    for path in modules():
        room = path.relative_to(ROOT).parts[0]
        for name in imports(path):
            other = name.split(".")[0]
            assert ROOMS.get(other, -1) <= ROOMS[room], f"{path.relative_to(ROOT)} imports {name}, against the arrows"


def test_recipes_stay_readable():
    for path in sorted((ROOT / "recipes").glob("[a-z]*.py")):
        assert len(path.read_text().splitlines()) <= 150, f"{path.name}: a recipe reads in 150 lines"


@pytest.mark.parametrize("name", ["zoo", "recipes", "export"])
def test_import_names_belong_to_our_distribution(name):
    """Other wheels ship a folder called `recipes` too; ours must be the one that is imported."""
    assert Path(importlib.import_module(name).__file__).resolve().parent == ROOT / name
    owners = metadata.packages_distributions().get(name)
    if owners:  # absent where the tests run from a checkout that is not installed
        assert set(owners) == {"graft-zoo"}


def test_every_package_is_listed_in_setup_cfg():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    listed = set(setup["options"]["packages"].split())
    found = {
        info.name
        for room in ("zoo", "recipes", "export")
        for info in [*pkgutil.walk_packages([str(ROOT / room)], f"{room}."), pkgutil.ModuleInfo(None, room, True)]
        if info.ispkg
    }
    assert listed == found


def test_all_is_true():
    """`__all__` lists what exists, and every public function and class of a module is in it."""
    for path in modules():
        tree = ast.parse(path.read_text())
        public = {
            node.name
            for node in tree.body
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
        }
        listed = next(
            (
                set(ast.literal_eval(node.value))
                for node in tree.body
                if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__"
            ),
            None,
        )
        is_script = path.parent == ROOT / "recipes" or path.is_relative_to(ROOT / "benchmarks")
        if public and not is_script:
            assert listed is not None, f"{path.relative_to(ROOT)} has no __all__"
            missing = public - listed
            assert not missing, f"{path.relative_to(ROOT)}: {missing} not in __all__"


def test_public_functions_have_docstrings():
    for path in modules():
        tree = ast.parse(path.read_text())
        assert ast.get_docstring(tree), f"{path.relative_to(ROOT)} does not say what it is"
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                assert ast.get_docstring(node), f"{path.relative_to(ROOT)}: {node.name} has no docstring"


def test_every_test_file_tests():
    for path in (ROOT / "tests").rglob("test_*.py"):
        assert "\ndef test_" in path.read_text(), f"{path.relative_to(ROOT)} holds no test"


def test_imports_are_light():
    """Importing every module loads none of the heavy libraries."""
    names = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in modules()
        # Some modules are made of Keras classes; benchmarks are scripts.
        if path.relative_to(ROOT).as_posix() not in OF_KERAS
        and path.name != "__main__.py"
        and path.relative_to(ROOT).parts[0] != "benchmarks"
    ]
    code = (
        f"import sys, importlib; [importlib.import_module(n) for n in {names!r}]; "
        "print([m for m in ('tensorflow', 'keras', 'matplotlib', 'sklearn', 'tf2onnx') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


def test_documents_name_files_that_exist():
    for document in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"):
        text = (ROOT / document).read_text()
        for name in re.findall(r"`((?:zoo|recipes|export|tests|benchmarks)/[\w./-]+)`", text):
            assert "NAME" in name or (ROOT / name).exists(), f"{document} names {name}, which does not exist"


def test_no_machine_or_registry_is_named():
    words = re.compile("/work/|/root/|pypi" + r"\.org|files\.pythonhosted", re.IGNORECASE)
    for path in ROOT.rglob("*"):
        parts = path.relative_to(ROOT).parts
        if path.suffix in (".py", ".md", ".cfg", ".toml", ".txt", ".jinja", ".yaml", ".csv") and not any(
            part.startswith(".") for part in parts[:-1]
        ):
            if path == Path(__file__).resolve():
                continue
            found = words.search(path.read_text(encoding="utf-8"))
            assert not found, f"{path.relative_to(ROOT)} names {found.group()}"
