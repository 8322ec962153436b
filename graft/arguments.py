"""Arguments of Python, as the commands and recipes take them."""

import contextlib
import dataclasses
import tempfile
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from graft.zoo.errors import ConfigError, UnknownName
from graft.zoo.fits import ImageShape

__all__ = ["command_options", "labels_file", "readable_data", "recipe_options"]


def command_options(known: type, command: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a command, whose `known` dataclass they are of.

    Raises:
        UnknownName: it has no such option, or none of this value; names the nearest.
    """
    fields = {field.name: field for field in dataclasses.fields(known) if field.name != "json"}
    for name in given:
        if name not in fields:
            raise _unknown(name, fields, command)
    found = {name: _as_field(name, value, fields[name].default) for name, value in given.items()}
    _check_values(known, found)
    return found


def recipe_options(config: type, recipe: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a recipe by the names of its `Config`, those of its nested settings among them, or
    by those that they have on the command line.

    Raises:
        UnknownName: there is no such option; names the nearest.
    """
    fields = {field.name: field for field in dataclasses.fields(config)}
    nested: dict[str, Any] = {}
    for name, field in fields.items():
        if field.default_factory is not dataclasses.MISSING:
            made = field.default_factory()
            if dataclasses.is_dataclass(made):
                nested[name] = made
    found: dict[str, Any] = {}
    renamed = _renamed(config)
    whole_first = sorted(given.items(), key=lambda pair: not dataclasses.is_dataclass(pair[1]))
    for asked, value in whole_first:
        # `fit` is the option for images, unless it is given the settings of that name.
        name = asked if dataclasses.is_dataclass(value) else renamed.get(asked, asked)
        owner = next((own for own, made in nested.items() if hasattr(made, name)), None)
        if name in fields:
            found[name] = _as_field(name, value, fields[name].default)
            _check_values(config, {name: found[name]}, asked)
        elif owner is not None:
            settings = found.get(owner, nested[owner])
            changed = {name: _as_field(name, value, getattr(nested[owner], name))}
            _check_values(type(settings), changed)
            found[owner] = dataclasses.replace(settings, **changed)
        else:
            inner = (field.name for made in nested.values() for field in dataclasses.fields(made))
            raise _unknown(name, {*fields, *inner} - {*nested}, f"train {recipe}")
    return found


def _renamed(config: type) -> dict[str, str]:
    """Options of the command line that have another name than their field: name -> field."""
    hints = typing.get_type_hints(config, include_extras=True)
    return {
        more.name: name
        for name, hint in hints.items()
        for more in getattr(hint, "__metadata__", ())
        if getattr(more, "name", None)
    }


def _check_values(known: type, given: Mapping[str, Any], asked: str = "") -> None:
    """Refuse what the command line would not let through for fields of the dataclass `known`: a
    word that is none of those to choose from, and something else where nested settings belong. A
    single field may have been `asked` for by another name.
    """
    hints = typing.get_type_hints(known)
    for name, value in given.items():
        if dataclasses.is_dataclass(hints[name]):
            if not isinstance(value, hints[name]):
                raise ConfigError(
                    f"{name}= is {hints[name].__name__}(...), whose options may be given by their "
                    f"own names too (batch_size=8): got {value!r}"
                )
            _check_values(type(value), vars(value))
        words = _words(hints[name])
        for word in value if words and isinstance(value, tuple) else (value,):
            if words and word not in words:
                raise UnknownName(f"value of {asked or name}=", str(word), filter(None, words))


def _words(hint: Any) -> tuple[Any, ...]:
    """What can be chosen by a type: the words of a `Literal`, and None where it may be left out."""
    if typing.get_origin(hint) is typing.Literal:
        return typing.get_args(hint)
    inner = [of for of in typing.get_args(hint) if of is not Ellipsis]
    found = [_words(of) or ((None,) if of is type(None) else ()) for of in inner]
    words = tuple(word for some in found for word in some)
    return words if any(words) and all(found) else ()


def _unknown(name: str, known: Any, command: str) -> UnknownName:
    return UnknownName("option", name, known, f"`graft {command} --help` explains them all.")


def _as_field(name: str, value: Any, default: Any) -> Any:
    """Options of several values are tuples; one that is named alone is one of them. A pair of sides
    is written as on the command line.
    """
    if name == "image_size" and isinstance(value, list | tuple):
        return str(ImageShape.of(value))
    if isinstance(default, tuple) and isinstance(value, str):
        return (value,)
    return tuple(value) if isinstance(value, list) else value


@contextlib.contextmanager
def labels_file(labels: Sequence[str] | str | None) -> Iterator[str | None]:
    """Labels as the command takes them: a file, because a label may hold a comma."""
    if labels is None or isinstance(labels, str | Path):
        yield None if labels is None else str(labels)
        return
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "labels.txt"
        file.write_text("".join(f"{label}\n" for label in labels), encoding="utf-8")
        yield str(file)


@contextlib.contextmanager
def readable_data(
    data: Any, split: str | None, labels: Sequence[str] | None = None
) -> Iterator[str | None]:
    """Data as a command takes them; those in memory lie on the disk meanwhile, of this `split`
    where they do not say it, and their numbers are those of `labels`.
    """
    if data is None or isinstance(data, str | Path):
        yield None if data is None else str(data)
        return
    from graft.recipes.data.given import write_given

    with tempfile.TemporaryDirectory() as folder:
        yield str(write_given(data, Path(folder) / "data", labels, split))
