"""The house keeps its plan: arrows run one way, names are ours, documents name what exists."""

import ast
import configparser
import importlib
import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from benchmarks import house

ROOT = Path(__file__).parents[2]
ROOMS = {"zoo": 0, "export": 1, "recipes": 2, "graft": 3, "benchmarks": 4}
"""Folders at the top -> how high they lie. `zoo`, `export` and `recipes` are installed inside
`graft`.
"""


OF_KERAS = (
    "zoo/graph/layers.py",
    "zoo/heads/masks/decoders.py",
    "zoo/heads/masks/mask_loss.py",
    "export/convert/shipped.py",
    "zoo/heads/dense/assignment.py",
    "zoo/heads/dense/detection_loss.py",
    "zoo/heads/dense/layers.py",
    "recipes/train/phases/adamw.py",
    "recipes/train/gradnorm.py",
    "recipes/train/joint.py",
    "recipes/codecs/rand_augment.py",
    "recipes/adapt/methods.py",
)
"""Imported inside the functions that need them."""


HEIGHT = {
    "zoo": 0,
    "export": 1,
    "recipes/data": 2,
    "recipes/codecs": 3,
    "recipes/tasks": 4,
    "recipes/feed": 5,
    "recipes/report": 6,
    "recipes/train": 6,
    "recipes/runs": 7,
    "recipes/adapt": 8,
    "recipes/grid": 9,
    "recipes": 10,
    "recipes/commands": 11,
    "graft": 12,
    "benchmarks": 13,
}
"""Room -> how high it lies: it knows those below it, and none beside it."""

DEBT = {
    "against the arrows": 0,
    "modules over 300 lines": 0,
    "functions over 6 parameters": 0,
    "untyped": 0,
    "kinds told apart": 0,
    "circles": 0,
}
"""What may not be as it is planned: nothing."""


def modules():
    return [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]


def imports(path: Path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: a relative import hides its room"
            yield node.module


def room_of(path: Path) -> str:
    first, *others = path.relative_to(ROOT).parts
    return f"{first}/{others[0]}" if first == "recipes" and len(others) > 1 else first


def test_arrows_run_one_way():
    against = sorted(
        f"{path.relative_to(ROOT)} imports {other.relative_to(ROOT)}"
        for path, others in house.imports(ROOT).items()
        for other in others
        if room_of(path) != room_of(other) and HEIGHT[room_of(other)] >= HEIGHT[room_of(path)]
        if other.name != "__init__.py"
    )
    assert len(against) <= DEBT["against the arrows"], against


def test_what_is_counted_of_the_code():
    found = house.figures(ROOT)
    assert found["folders over 14 modules"] == 0, house.folder_sizes(ROOT)
    for name, most in DEBT.items():
        assert found.get(name, 0) <= most, (name, found.get(name), house.told_apart(ROOT))


def test_no_import_hides_its_room():
    for path in modules():
        list(imports(path))


def test_recipes_stay_readable():
    for path in sorted((ROOT / "recipes").glob("[a-z]*.py")):
        assert len(path.read_text().splitlines()) <= 190, (
            f"{path.name}: a recipe reads in 150 lines"
        )


def test_the_import_name_belongs_to_our_distribution():
    assert Path(importlib.import_module("graft").__file__).resolve().parent == ROOT / "graft"
    owners = metadata.packages_distributions().get("graft")
    if owners:  # absent where the tests run from a checkout that is not installed
        assert set(owners) == {"graft-zoo"}


@pytest.mark.parametrize("name", ["zoo", "recipes", "export"])
def test_an_old_name_says_the_new_one(name):
    """A second copy of a module would have classes of its own."""
    with pytest.raises(ImportError, match=f"`{name}` is called `graft.{name}` now"):
        importlib.import_module(name)
    assert Path(importlib.import_module(f"graft.{name}").__file__).parent == ROOT / name


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    copy = folder / "checkout"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".*", "build", "*.egg-info", "tests"))
    build = "from setuptools.build_meta import build_wheel; print(build_wheel('.'))"
    done = subprocess.run(
        [sys.executable, "-c", build], cwd=copy, capture_output=True, text=True, check=True
    )
    return copy / done.stdout.splitlines()[-1]


def test_a_wheel_claims_one_name(wheel, tmp_path):
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"graft"}
    for name in (
        "py.typed",
        "zoo/bundled/mobilenet_v2_0.35.weights.h5",
        "recipes/report/report.html.jinja",
    ):
        assert f"graft/{name}" in names
    zipfile.ZipFile(wheel).extractall(tmp_path)
    code = "import graft.recipes.train.fit as fit; print(fit.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert done.stdout.startswith(str(tmp_path / "graft" / "recipes"))


def test_every_package_is_listed_in_setup_cfg():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    listed = set(setup["options"]["packages"].split())
    found = {
        ".".join(["graft", *file.parent.relative_to(ROOT).parts]).replace("graft.graft", "graft")
        for room in ("graft", "zoo", "recipes", "export")
        for file in (ROOT / room).rglob("__init__.py")
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
                assert ast.get_docstring(node), (
                    f"{path.relative_to(ROOT)}: {node.name} has no docstring"
                )


def test_every_test_file_tests():
    for path in (ROOT / "tests").rglob("test_*.py"):
        assert "\ndef test_" in path.read_text(), f"{path.relative_to(ROOT)} holds no test"


def test_imports_are_light():
    """Importing every module loads none of the heavy libraries."""
    names = [
        "graft." + ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in modules()
        # Some modules are made of Keras classes; benchmarks are scripts.
        if path.relative_to(ROOT).as_posix() not in OF_KERAS
        and path.name != "__main__.py"
        and path.relative_to(ROOT).parts[0] not in ("benchmarks", "graft")
    ]
    code = (
        f"import sys, importlib; [importlib.import_module(n) for n in {names!r}]; "
        "print([m for m in ('tensorflow', 'keras', 'matplotlib', 'sklearn', 'tf2onnx') if m in "
        "sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout.strip() == "[]"


def test_documents_name_files_that_exist():
    for document in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"):
        text = (ROOT / document).read_text()
        for name in re.findall(r"`((?:zoo|recipes|export|tests|benchmarks)/[\w./-]+)`", text):
            assert "NAME" in name or (ROOT / name).exists(), (
                f"{document} names {name}, which does not exist"
            )


def test_no_machine_or_registry_is_named():
    words = re.compile("/work/|/root/|pypi" + r"\.org|files\.pythonhosted", re.IGNORECASE)
    for path in ROOT.rglob("*"):
        parts = path.relative_to(ROOT).parts
        if path.suffix in (
            ".py",
            ".md",
            ".cfg",
            ".toml",
            ".txt",
            ".jinja",
            ".yaml",
            ".csv",
        ) and not any(part.startswith(".") for part in parts[:-1]):
            if path == Path(__file__).resolve():
                continue
            found = words.search(path.read_text(encoding="utf-8"))
            assert not found, f"{path.relative_to(ROOT)} names {found.group()}"
