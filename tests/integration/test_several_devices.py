"""Two devices share a batch and end where one would; on a machine without GPUs two logical CPUs
stand in.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from graft.recipes.train import device
from graft.zoo.errors import ConfigError

CODE = """
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import numpy as np, tempfile
from graft.recipes.train.fit import train
from graft.recipes.train.schedule import Phase
from graft.recipes.train.settings import FitSettings
from graft.zoo.files.store import Store
from graft.recipes.adapt import catalogue
from tests.tiny import builder, pictures, plan_of, squeeze_excite, two_domains
from graft.zoo.heads.heads import single_label
from graft.zoo.graph.stack import backbone_of, stack

head = single_label(["left", "right", "top"], dropout=0.0)  # each device would draw its own
build = builder(squeeze_excite)
data = {"train": pictures(40), "validation": pictures(12, 1)}
phases = (Phase("head", "head", 2, 0.01), Phase("two", 2, 2, 0.001))
losses = []
for multi_gpu in (False, True):
    settings = FitSettings(batch_size=8, multi_gpu=multi_gpu, cache="memory")
    with tempfile.TemporaryDirectory() as folder:
        made = lambda: stack(backbone_of(build()), [head])
        plan = plan_of(made, head, phases, settings=settings)
        _, (result,) = train(plan, data, store=Store(folder))
    losses.append([row["val_loss"] for row in result.history])
# More than one training in a process, of models with weights beside the model's.
for name in ("cdan", "pseudo_label"):
    make = catalogue.maker(name, 1.0, None)
    plan = plan_of(made, head, phases, settings=settings, method=make)
    _, (result,) = train(plan, two_domains())
    assert np.isfinite(result.history[-1]["loss"])
np.testing.assert_allclose(*losses, rtol=1e-3)
print("the same", losses)
"""


def test_two_devices_train_as_one():
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "the same" in done.stdout, done.stderr[-3000:]


def test_one_device_is_refused():
    with pytest.raises(ConfigError, match="needs two GPUs or more, and TensorFlow finds 1 device"):
        device.mirrored(True)
