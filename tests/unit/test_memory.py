"""Memory that is free again goes back to the system."""

import subprocess
import sys

import pytest

from graft.zoo.files import memory

GROWN = """
import ctypes, sys
import numpy as np
from graft.zoo.files.memory import EVERY_BYTES, note_read

def held():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("RssAnon")) // 1024

ctypes.CDLL(None).mallopt(-3, 1 << 25)  # arrays lie in the heap, as those of threads come to
# what is kept lies behind what is freed: the heap cannot shrink from its end
big = [np.ones(1 << 20, np.uint8) for _ in range(200)]
kept = np.ones(1 << 20, np.uint8)
del big
before = held()
note_read(EVERY_BYTES - 1)
between = held()
note_read(1)
print(before, between, held())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the C library of Linux keeps it")
def test_what_is_free_goes_back_after_enough_was_read():
    done = subprocess.run([sys.executable, "-c", GROWN], capture_output=True, text=True, check=True)
    before, between, after = map(int, done.stdout.split())
    assert between >= before - 5
    assert after < before - 150


def test_other_systems_have_nothing_to_give_back(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    memory._trim.cache_clear()
    assert memory._trim()() is None
    memory._trim.cache_clear()
