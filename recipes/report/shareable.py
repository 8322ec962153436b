"""What a page or a card says of files.

A page is made for sharing: of every file and folder it says the name, not where it lies on the
machine that made it. run.json keeps the paths.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PureWindowsPath
from typing import Any

__all__ = ["file_name", "shareable", "without_folders"]

Tree = Mapping[str, Any]

# Quoted paths may hold blanks; the others end at the first one. An address of the web is no path.
_PATH = re.compile(
    r"""(?P<web>\w+://\S+)"""
    r"""|(?P<quote>['"`])(?P<quoted>(?:~[\w.-]*|[A-Za-z]:)?[/\\][^'"`\n]*)(?P=quote)"""
    r"""|(?<![\w./\\~<])(?P<bare>(?:~[\w.-]*|[A-Za-z]:)?[/\\](?![\s/\\>])[^\s'"`,;<>()]+)"""
    r"""|(?P<home>\S*\b(?:home|Users)[/\\][^\s/\\'"`]+[/\\][^\s'"`,;<>()]+)"""
)


def file_name(path: str) -> str:
    """The last part of `path`; what is no path (a built-in name, "tfds:glue/sst2") as it is."""
    path = str(path)
    if re.match(r"\w{2,}:", path):
        return path
    name = PureWindowsPath(path).name if "\\" in path else Path(path).name
    return name or path


def without_folders(text: str, known: Sequence[str] = ()) -> str:
    """`text` with the absolute paths in it, and those through a home folder, cut to their last
    part.

    Args:
        text: a command, a message, or JSON.
        known: paths that may stand in it and hold blanks.
    """
    text = str(text)
    for path in sorted(known, key=len, reverse=True):
        text = re.sub(re.escape(path) + r"(?=[\s'\"`,;:)]|$)", lambda _, p=path: file_name(p), text)

    def short(found: re.Match) -> str:
        if found["web"]:
            return found["web"]
        if found["quoted"]:
            return f"{found['quote']}{file_name(found['quoted'])}{found['quote']}"
        if found["bare"]:
            return file_name(found["bare"])
        option, equals, path = found["home"].rpartition("=")
        return f"{option}{equals}{file_name(path)}"

    return _PATH.sub(short, text)


def shareable(facts: Tree) -> dict:
    """The content of a run.json for a page or a card: of files and folders their names alone.

    Labels and file names inside the data stay as they are.
    """
    data, backbone = facts["data"], facts["backbone"]
    known = _paths_in([facts["config"], data["source"]])

    def short(text: str | None) -> str | None:
        return text and without_folders(text, known)

    data = {**data, "source": short(data["source"]), "skipped": list(map(short, data["skipped"]))}
    if "target" in data:
        target = data["target"]
        data["target"] = {**target, "source": short(target["source"])}
        data["target"]["skipped"] = list(map(short, target.get("skipped", ())))
    weights = {key: short(value) for key, value in backbone["weights"].items()}
    return {
        **facts,
        # `python -m recipes.commands`, which bench runs, is the same as `graft`.
        "command": re.sub(r"^__main__\.py\b", "graft", short(facts["command"])),
        "config": _deep(facts["config"], short),
        "data": data,
        "backbone": {**backbone, "name": short(backbone["name"]), "weights": weights},
        "warnings": list(map(short, facts.get("warnings", ()))),
    }


def _deep(value: Any, change: Callable[[str], str]) -> Any:
    """`value` with `change` done to each text in its lists and dicts."""
    if isinstance(value, Mapping):
        return {key: _deep(part, change) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_deep(part, change) for part in value]
    return change(value) if isinstance(value, str) else value


def _paths_in(config: Any) -> list[str]:
    """The absolute paths, and those through the home folder, among the settings of a run."""
    if isinstance(config, Mapping):
        config = list(config.values())
    if isinstance(config, list | tuple):
        return [path for part in config for path in _paths_in(part)]
    is_path = isinstance(config, str) and re.match(r"~|[A-Za-z]:\\|/.", config)
    return [config] if is_path else []
