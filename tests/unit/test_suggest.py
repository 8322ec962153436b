"""`graft suggest`: what it ranks where no backbone was named, and how it times them."""

import numpy as np
import pytest

from graft.recipes.commands import suggest as command
from graft.recipes.grid import suggest
from graft.recipes.runs.backbones import Reading
from graft.zoo.backbones import table as backbone_table
from graft.zoo.errors import ConfigError


@pytest.fixture
def nothing_downloaded(tmp_path, monkeypatch):
    """A machine with the bundled weights alone; gives the folder where Keras would keep others."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "models").mkdir()
    return tmp_path / "models"


def test_a_ranking_of_one_is_refused_before_the_data_is_read(nothing_downloaded):
    with pytest.raises(ConfigError) as error:
        command.suggest(command.Options(data="no such folder"))
    said = str(error.value)
    assert "\n" not in said
    assert "mobilenet_v2_0.35@bundled (pretrained on printed characters, not on photos)" in said
    assert "--backbones mobilenet_v2 efficientnet_b0" in said
    assert "NAME@WEIGHTS" in said


def test_two_backbones_on_the_machine_are_ranked(nothing_downloaded):
    row = backbone_table.find_backbone("mobilenet_v2")
    (nothing_downloaded / row.download.file.format(size=224)).touch()
    assert {entry.name for entry in suggest.default_entries()} == {
        "mobilenet_v2",
        "mobilenet_v2_0.35",
    }


class Clock:
    """Seconds that pass only when something is said to take them."""

    now = 0.0

    def perf_counter(self):
        return self.now


@pytest.mark.parametrize("sizes", [[4], [4, 2], [4, 4, 4, 4, 4, 4, 4, 3]])
def test_tracing_and_a_disturbed_batch_do_not_count(monkeypatch, sizes):
    """Each shape is traced once, and one batch in between takes a hundred times as long."""
    clock, calls, traced = Clock(), [], set()
    monkeypatch.setattr(suggest, "time", clock)

    def forward(inputs):
        calls.append(len(inputs))
        slow = len(calls) == 3
        clock.now += 60.0 if len(inputs) not in traced else 0.5 * len(inputs) * (100 if slow else 1)
        traced.add(len(inputs))
        return inputs

    batches = [np.full((n, 1), i, float) for i, n in enumerate(sizes)]
    features, seconds = suggest._pass_over(forward, batches)
    assert seconds == pytest.approx(0.5)
    np.testing.assert_array_equal(features, np.concatenate(batches))
    assert len(calls) - len(traced) >= suggest.TIMED_BATCHES


def test_backbones_of_one_size_share_what_was_decoded(tmp_path, monkeypatch):
    from PIL import Image

    from graft.recipes.codecs.images import ImageCodec
    from graft.recipes.data import sources

    rng = np.random.default_rng(0)
    for split in ("train", "validation", "test"):
        for label in "ab":
            (tmp_path / split / label).mkdir(parents=True)
            for i in range(2):
                pixels = rng.integers(0, 256, (40, 40, 3), np.uint8)
                Image.fromarray(pixels).save(tmp_path / split / label / f"{i}.png")
    read, encode = [], ImageCodec.encode

    def counted(codec, *given):
        read.append((codec.shape.size, codec.fit))
        return encode(codec, *given)

    monkeypatch.setattr(ImageCodec, "encode", counted)
    entries = suggest.read_entries(
        ["mobilenet_v2_0.35@none", "mobilenet@none", "mobilenet_v2@none"]
    )
    reading = Reading(32, fit="crop")
    rows = suggest.suggest(sources.load(str(tmp_path)), entries, 4, reading=reading)
    assert len(rows) == 3
    assert read == [(32, "crop")]
