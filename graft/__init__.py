"""Graft: transfer learning for Keras whose results leave Python as files."""

from pathlib import Path

# In a checkout the rooms lie beside this folder; installed, in it.
_checkout = Path(__file__).parents[1]
if (_checkout / "setup.cfg").is_file():
    __path__.append(str(_checkout))
