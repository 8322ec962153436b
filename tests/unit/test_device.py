"""What is decided by measuring the device."""

from graft.recipes.train import device


def test_a_step_is_timed_and_xla_stays_off_on_a_cpu():
    assert 0 < device.seconds_a_step(False, steps=1) < 60
    assert device.xla_pays() is False
