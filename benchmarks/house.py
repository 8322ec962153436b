"""Counts what ARCHITECTURE.md promises of the code: how large, how typed, which way its arrows run.

    python benchmarks/house.py              # this checkout
    python benchmarks/house.py ROOT ...     # others too, to compare; a column each

`tests/unit/test_house.py` keeps the promises with the same functions. A line of code is one on
which a token of code stands: blank lines, comments and docstrings (those of attributes too) do not
count. What a line holds depends on the line length of the formatter; statements do not.
"""

import ast
import io
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOMS = ("graft", "zoo", "export", "recipes")
PACKAGE = "graft"

KINDS = ("single_label", "multi_label", "regression", "embedding", "tags", "text", "image")
"""What answers and modalities are called in the files."""
CLASSES = (
    "Images",
    "Texts",
    "Features",
    "Ragged",
    "Tagged",
    "Head",
    "Tasks",
    "Example",
    "Sentence",
    "Tasked",
)
"""Classes of one modality or one kind of answer."""
KNOWING = (
    "recipes/tasks",
    "recipes/codecs",
    "zoo/heads",
    "zoo/spans.py",
    "zoo/scores.py",
    "zoo/heads.py",
)
"""Where kinds may be told apart."""

NO_CODE = (
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
)


def sources(root: Path, rooms: tuple[str, ...] = ROOMS) -> list[Path]:
    """The Python files of the rooms of a checkout, sorted."""
    return [file for room in rooms for file in sorted((root / room).rglob("*.py"))]


def parsed(file: Path) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse(file.read_text(encoding="utf-8"))


def code_lines(file: Path) -> int:
    """How many lines hold code."""
    text = file.read_text(encoding="utf-8")
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in NO_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and _is_text(node.value):
            lines.difference_update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(lines)


def statements(file: Path) -> int:
    """How many statements a file has, docstrings aside."""
    nodes = [node for node in ast.walk(parsed(file)) if isinstance(node, ast.stmt)]
    return sum(not (isinstance(node, ast.Expr) and _is_text(node.value)) for node in nodes)


def functions(file: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """All functions and methods of a file, inner ones too."""
    for node in ast.walk(parsed(file)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[ast.arg]:
    """The parameters of a function, without `self` and `cls`."""
    given = function.args
    found = [*given.posonlyargs, *given.args, *given.kwonlyargs]
    found += [star for star in (given.vararg, given.kwarg) if star is not None]
    return [parameter for parameter in found if parameter.arg not in ("self", "cls")]


def untyped(file: Path) -> list[str]:
    """`LINE NAME` of each parameter without a type and of each function without a type of what it
    returns.
    """
    found = []
    for function in functions(file):
        found += [f"{p.lineno} {p.arg}" for p in parameters(function) if p.annotation is None]
        if function.returns is None and function.name != "__init__":
            found.append(f"{function.lineno} {function.name}")
    return found


def told_apart(root: Path) -> list[str]:
    """`FILE:LINE` of each place outside of the rooms that may know where modalities or kinds of
    answers are told apart: an `isinstance` of one of `CLASSES`, a comparison with one of
    `KINDS`.
    """
    found = []
    for file in sources(root):
        place = file.relative_to(root).as_posix()
        if place.startswith(KNOWING):
            continue
        found += [f"{place}:{node.lineno}" for node in ast.walk(parsed(file)) if _tells_apart(node)]
    return found


def _tells_apart(node: ast.AST) -> bool:
    if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "isinstance":
        names = {part.id for part in ast.walk(node.args[1]) if isinstance(part, ast.Name)}
        names |= {part.attr for part in ast.walk(node.args[1]) if isinstance(part, ast.Attribute)}
        return bool(names & set(CLASSES))
    if isinstance(node, ast.Compare):
        sides = [node.left, *node.comparators]
        parts = [part for side in sides for part in getattr(side, "elts", [side])]
        return any(_is_text(part) and part.value in KINDS for part in parts)
    return False


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def imports(root: Path) -> dict[Path, set[Path]]:
    """File -> the files of ours that it imports, anywhere: at its top, in a function, for types
    alone.
    """
    modules = {}
    for file in sources(root, (*ROOMS, "benchmarks")):
        parts = list(file.relative_to(root).with_suffix("").parts)
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        inside = parts[0] in ("zoo", "export", "recipes") and (root / PACKAGE).is_dir()
        modules[".".join([PACKAGE, *parts] if inside else parts)] = file
    return {
        file: {modules[name] for name in _named(file) & set(modules)} - {file}
        for file in modules.values()
    }


def _named(file: Path) -> set[str]:
    """Dotted names that a file imports: a module, or a name and what it is imported from."""
    found: set[str] = set()
    for node in ast.walk(parsed(file)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def circles(root: Path) -> list[list[str]]:
    """Groups of files that import each other, in a circle."""
    arrows = imports(root)
    reached = {file: _reached(file, arrows) for file in arrows}
    groups = {
        frozenset(other for other in reached[file] if file in reached[other]) for file in arrows
    }
    return [
        sorted(file.relative_to(root).as_posix() for file in group)
        for group in groups
        if len(group) > 1
    ]


def _reached(file: Path, arrows: dict[Path, set[Path]]) -> set[Path]:
    seen: set[Path] = set()
    waiting = [file]
    while waiting:
        for other in arrows[waiting.pop()] - seen:
            seen.add(other)
            waiting.append(other)
    return seen


def figures(root: Path) -> dict[str, int]:
    """What there is to compare of a checkout."""
    files = sources(root)
    every = [function for file in files for function in functions(file)]
    return {
        "code lines": sum(map(code_lines, files)),
        "statements": sum(map(statements, files)),
        "modules": len(files),
        "modules over 300 lines": sum(len(file.read_text().splitlines()) > 300 for file in files),
        "folders over 14 modules": sum(count > 14 for count in folder_sizes(root).values()),
        "functions": len(every),
        "functions over 6 parameters": sum(len(parameters(function)) > 6 for function in every),
        "untyped": sum(len(untyped(file)) for file in files),
        "kinds told apart": len(told_apart(root)),
        "circles": len(circles(root)),
    }


def folder_sizes(root: Path) -> dict[str, int]:
    """Folder of machinery -> how many modules it holds; the recipes themselves are no machinery."""
    counts: dict[str, int] = {}
    for file in sources(root):
        if file.name not in ("__init__.py", "__main__.py") and file.parent != root / "recipes":
            folder = file.parent.relative_to(root).as_posix()
            counts[folder] = counts.get(folder, 0) + 1
    return counts


def main() -> None:
    """Print a line a figure, a column a checkout."""
    roots = [Path(root).resolve() for root in sys.argv[1:]] or [Path(__file__).resolve().parents[1]]
    columns = [figures(root) for root in roots]
    for name in columns[0]:
        print(f"{name:<30}" + "".join(f"{column[name]:>9,}" for column in columns))


if __name__ == "__main__":
    main()
