"""Graft: transfer learning for Keras whose results leave Python as files.

    import graft

    run = graft.train("image-classification", data="photos/", out="runs/photos")
    graft.export(run, quantize=["int8"])
    graft.load("runs/photos/export/model.tflite").predict("hat.jpg")

`import graft` loads none of TensorFlow, Keras or numpy: each name is looked up when it is used.
"""

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

# In a checkout the rooms lie beside this folder; installed, in it.
_checkout = Path(__file__).parents[1]
if (_checkout / "setup.cfg").is_file():
    __path__.append(str(_checkout))

if TYPE_CHECKING:
    from graft.building import backbone, stack
    from graft.files import Model, evaluate, load, measure, predict
    from graft.training import Run, train
    from graft.zoo.heads import heads

__all__ = [
    "Model",
    "Run",
    "backbone",
    "errors",
    "evaluate",
    "export",
    "heads",
    "load",
    "measure",
    "predict",
    "schedules",
    "stack",
    "train",
    "zoo",
]

_HOMES = {
    "Model": "graft.files:Model",
    "Run": "graft.training:Run",
    "backbone": "graft.building:backbone",
    "errors": "graft.zoo.errors",
    "evaluate": "graft.files:evaluate",
    "heads": "graft.zoo.heads.heads",
    "load": "graft.files:load",
    "measure": "graft.files:measure",
    "predict": "graft.files:predict",
    "schedules": "graft.catalogues:schedules",
    "stack": "graft.building:stack",
    "train": "graft.training:train",
}
"""Public name -> module, and what it is called there; without that the module itself."""


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("graft-zoo")
    if name not in _HOMES:
        raise AttributeError(
            f"module 'graft' has no attribute '{name}': it has {', '.join(__all__)}"
        )
    module, _, attribute = _HOMES[name].partition(":")
    found = importlib.import_module(module)
    found = getattr(found, attribute) if attribute else found
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


class _CallableRoom(ModuleType):
    """A room of the house that is also a public function of the same name: `graft.export(run)`
    beside `graft.export.sessions`.
    """

    def __call__(self, *args: Any, **options: Any) -> Any:
        called = {"export": "graft.files:export", "zoo": "graft.catalogues:zoo"}
        module, _, name = called[self.__name__.removeprefix("graft.")].partition(":")
        return getattr(importlib.import_module(module), name)(*args, **options)

    def __repr__(self) -> str:
        return repr(self()) if self.__name__ == "graft.zoo" else super().__repr__()

    def _repr_html_(self) -> str | None:
        return self()._repr_html_() if self.__name__ == "graft.zoo" else None


for _room in ("export", "zoo"):  # both import nothing
    importlib.import_module(f"graft.{_room}")
    sys.modules[f"graft.{_room}"].__class__ = _CallableRoom
