"""The pass through frozen blocks on two Ray nodes of one processor each: the same bytes as in one
process, also where a node goes away, the trainer is interrupted, or the cluster is lost.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from graft.recipes.codecs.targets import Ragged
from graft.recipes.codecs.texts import Texts
from graft.recipes.feed import cluster
from graft.recipes.feed.cache import CacheSettings, PrefixCache
from graft.recipes.feed.stretches import stretches
from graft.zoo.errors import ConfigError
from graft.zoo.files.store import PARTS, Store
from graft.zoo.graph.blocks import find_blocks
from graft.zoo.graph.cuts import narrowest_cut
from graft.zoo.graph.stack import backbone_of, stack
from graft.zoo.heads.heads import single_label
from tests.tiny import builder, normalization, pictures

pytest.importorskip("ray")


class Nodes:
    """A cluster of a head and another node, of which one can go away and come back."""

    def __init__(self):
        from ray.cluster_utils import Cluster

        self.cluster = Cluster(
            initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
        )
        self.address = self.cluster.address
        self.other = self.cluster.add_node(num_cpus=1)

    def remove(self) -> None:
        if self.other is not None:
            self.cluster.remove_node(self.other, allow_graceful=False)
            self.other = None

    def whole(self) -> None:
        if self.other is None:
            self.other = self.cluster.add_node(num_cpus=1)


@pytest.fixture(scope="module")
def running():
    nodes = Nodes()
    yield nodes
    nodes.cluster.shutdown()


@pytest.fixture
def nodes(running):
    running.whole()
    return running


def cuts_of(model, trained):
    blocks = find_blocks(backbone_of(model))
    return [narrowest_cut(model, blocks[len(blocks) - n - 1].cut) for n in trained]


def filled(model, data, folder, cuts, augment=(), **settings) -> dict[str, list[bytes]]:
    """Every entry that a cache of these settings writes: name -> content of its files."""
    cache = PrefixCache(Store(folder), model, data, augment, CacheSettings(**settings))
    for view in range(cache.views["train"]):
        cache.fill(cuts, view)
    return entries(folder)


def entries(folder: Path) -> dict[str, list[bytes]]:
    return {
        file.parent.name: [part.read_bytes() for part in sorted(file.parent.glob("*.bin"))]
        for file in folder.glob("[!.]*/entry.json")
    }


@pytest.fixture
def answers(monkeypatch):
    """A function that has `then(number)` called after each answer of a node; it gives the list of
    what was asked for.
    """

    compute = cluster.Cluster.compute

    def watch(then=lambda number: None) -> list:
        asked = []

        def watched(self, function, items, *more):
            asked.extend(items)
            for number, pair in enumerate(compute(self, function, items, *more)):
                yield pair
                then(number)

        monkeypatch.setattr(cluster.Cluster, "compute", watched)
        return asked

    return watch


def test_two_nodes_write_the_bytes_of_one_process(nodes, tmp_path, answers):
    model, asked = builder(normalization)(), answers()
    data = {"train": pictures(300), "validation": pictures(70, 1)}
    cuts = cuts_of(model, (0, 2))
    settings = {"views": 2, "dtype": "float16"}
    here_ = filled(model, data, tmp_path / "here", cuts, ("flip", "crop"), **settings)
    there = filled(
        model, data, tmp_path / "ray", cuts, ("flip", "crop"), ray=nodes.address, **settings
    )
    assert len(here_) == 6
    assert there == here_
    assert len(asked) == 2 * 5 + 2
    assert not list((tmp_path / "ray").glob(f"{PARTS}*")), "the parts are removed"


def test_from_the_features_of_a_lower_cut(nodes, tmp_path):
    model, data = builder(normalization)(), {"train": pictures(150)}
    head, low = cuts_of(model, (0, 2))
    for folder, ray in ((tmp_path / "here", None), (tmp_path / "ray", nodes.address)):
        filled(model, data, folder, [low], dtype="float32")
        filled(model, data, folder, [low, head], dtype="float32", ray=ray)
    assert len(entries(tmp_path / "here")) == 2
    assert entries(tmp_path / "ray") == entries(tmp_path / "here")


def test_texts_have_as_many_rows_as_tokens(nodes, tmp_path, tiny_encoder):
    from graft.zoo.backbones.encoders import build_encoder, find_encoder

    rng = np.random.default_rng(0)
    lengths = np.sort(rng.integers(3, 30, 150))
    ids = Ragged.of([rng.integers(5, 60, n).astype(np.int32) for n in lengths])
    names = tuple(map(str, range(150)))
    inputs = ("token_ids", "padding_mask", "segment_ids")
    texts = Texts(ids, {}, names, names, inputs, 0, 32)
    model = stack(build_encoder(find_encoder(str(tiny_encoder))), [single_label(["a", "b"])])
    cuts = cuts_of(model, (0, 1))
    here_ = filled(model, {"train": texts}, tmp_path / "here", cuts)
    there = filled(model, {"train": texts}, tmp_path / "ray", cuts, ray=nodes.address)
    assert here_
    assert there == here_


def test_features_that_float16_cannot_hold(nodes, tmp_path):
    model = builder(normalization)()
    layer = next(layer for layer in model.layers if hasattr(layer, "kernel"))
    layer.kernel.assign(layer.kernel * 1e6)
    data, cuts = {"train": pictures(70)}, cuts_of(model, (2,))
    here_ = filled(model, data, tmp_path / "here", cuts)
    assert filled(model, data, tmp_path / "ray", cuts, ray=nodes.address) == here_
    assert len(next(iter(here_.values()))[0]) % (70 * 4) == 0
    assert not list((tmp_path / "ray").glob(f"{PARTS}*"))


def test_a_node_that_goes_away_costs_its_stretch_alone(nodes, tmp_path, answers, capsys):
    import ray

    def remove(number: int) -> None:
        end = time.monotonic() + 30
        while ray.available_resources().get("CPU", 0) > 0 and time.monotonic() < end:
            time.sleep(0.1)  # until both nodes have something to do
        nodes.remove()

    model, data = builder(normalization)(), {"train": pictures(700)}
    cuts = cuts_of(model, (2,))
    asked = answers(remove)
    there = filled(model, data, tmp_path / "ray", cuts, ray=nodes.address)
    assert nodes.other is None
    assert len(asked) == len(stretches(700)), "one pass goes on, whatever is lost"
    assert capsys.readouterr().out == "", "what Ray says of it is no result"
    assert there == filled(model, data, tmp_path / "here", cuts)


def test_a_worker_that_dies_costs_one_more_try(nodes, tmp_path, capsys):
    def die_once(number: int) -> int:
        import os

        if number == 1 and not marker.exists():
            marker.touch()
            os._exit(1)
        return number * number

    def die(number: int) -> None:
        import os

        os._exit(1)

    marker = tmp_path / "died"
    with cluster.connected(nodes.address) as found:
        answers = dict(found.compute(die_once, [0, 1, 2], lambda item: item, 1, {}))
        assert (answers, found.losses) == ({0: 0, 1: 1, 2: 4}, 1)
        assert "a Ray worker was lost" in capsys.readouterr().err
        with pytest.raises(ConfigError, match="lost its worker 5 times"):
            list(found.compute(die, [7], lambda item: item, 1, {}))


def test_an_error_on_the_nodes_is_one_line(nodes):
    def fail(number: int) -> None:
        import no_such_package  # noqa: F401

    with cluster.connected(nodes.address) as found:
        with pytest.raises(
            ConfigError, match="No module named 'no_such_package'.*the same Graft"
        ) as e:
            list(found.compute(fail, [7], lambda item: item, 1, {}))
        assert "\n" not in str(e.value)


def test_an_interrupted_trainer_goes_on_with_the_parts_that_are_there(
    nodes, tmp_path, answers, capsys
):
    model, data = builder(normalization)(), {"train": pictures(500)}
    cuts = cuts_of(model, (2,))

    def interrupt(number: int) -> None:
        if number == 2:
            raise KeyboardInterrupt

    first = answers(interrupt)
    with pytest.raises(KeyboardInterrupt):
        filled(model, data, tmp_path / "ray", cuts, ray=nodes.address)
    (parts,) = (tmp_path / "ray").glob(f"{PARTS}*")
    damaged = next(parts.glob("[0-9]*/0.bin"))
    damaged.write_bytes(b"\0" * damaged.stat().st_size)
    kept = len(list(parts.glob("[0-9]*/entry.json"))) - 1
    assert kept >= 2
    second = answers()
    there = filled(model, data, tmp_path / "ray", cuts, ray=nodes.address)
    assert (len(first), len(second)) == (8, 8 - kept)
    assert f"{kept} of 8 parts are there already" in capsys.readouterr().err
    assert there == filled(model, data, tmp_path / "here", cuts)


def test_a_node_that_does_not_see_the_folder(nodes, tmp_path, monkeypatch):
    """Or the file there is another one."""
    from graft.recipes.feed import shared_pass

    write = shared_pass.write_examples
    monkeypatch.setattr(
        shared_pass, "write_examples", lambda examples, file: write(examples, file)[::-1]
    )
    model, data = builder(normalization)(), {"train": pictures(70)}
    with pytest.raises(ConfigError, match=r"cannot compute its part for --ray .*handed over"):
        filled(model, data, tmp_path, cuts_of(model, (2,)), ray=nodes.address)


def options(photos, backbone, out, *more):
    given = ["--data", photos, "--backbone", backbone, "--out", out, "--epochs", "3"]
    return ["image-classification", *given, "--batch-size", "8", "--schedule", "fine_tune", *more]


def test_the_command_trains_on_what_the_nodes_computed(
    nodes, photo_folder, tiny_keras, graft, kept_of, tmp_path
):
    ended = graft("train", *options(photo_folder, tiny_keras, tmp_path / "here" / "run"))
    assert ended.returncode == 0, ended.stderr
    more = ["--ray", nodes.address]
    ended = graft("train", *options(photo_folder, tiny_keras, tmp_path / "ray" / "run", *more))
    assert ended.returncode == 0, ended.stderr
    assert f"shared by the cluster at '{nodes.address}'" in ended.stderr
    found, expected = (entries(tmp_path / name / ".graft-cache") for name in ("ray", "here"))
    assert sum(map(bool, expected.values())) > 2
    assert found == expected
    (found, expected) = (kept_of(tmp_path / name / "run")["value"] for name in ("ray", "here"))
    assert found == expected


def until_handed_over(process: subprocess.Popen, folder: Path) -> None:
    """Wait until the nodes have something to do."""
    end = time.monotonic() + 120
    while not list(folder.glob(f".graft-cache/{PARTS}*/*.examples")):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end
        time.sleep(0.1)


def begun(photos: Path, backbone: Path, folder: Path, address: str) -> subprocess.Popen:
    """A training whose pass has begun."""
    given = options(photos, backbone, folder / "run", "--ray", address)
    process = subprocess.Popen(
        [sys.executable, "-m", "graft", "train", *map(str, given)],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    until_handed_over(process, folder)
    return process


def test_sigterm_ends_a_pass_as_it_ends_all_else(nodes, photo_folder, tiny_keras, tmp_path):
    """Ray takes that signal for itself."""
    process = begun(photo_folder, tiny_keras, tmp_path, nodes.address)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=60)[1].splitlines()
    assert process.returncode == 143, said
    assert said[-1].startswith("graft train: ended by SIGTERM: no epoch was finished")


def test_a_cluster_that_is_lost_is_one_line(photo_folder, tiny_keras, tmp_path):
    own = Nodes()
    try:
        process = begun(photo_folder, tiny_keras, tmp_path, own.address)
    finally:
        own.cluster.shutdown()
    said = process.communicate(timeout=120)[1].splitlines()
    assert process.returncode == 2, said
    assert f"the Ray cluster at '{own.address}' is lost" in said[-1]
    assert "Traceback" not in "".join(said)


def test_an_address_at_which_nobody_listens(photo_folder, tiny_keras, call, tmp_path):
    given = options(photo_folder, tiny_keras, tmp_path / "run", "--ray", "127.0.0.1:9")
    code, out, lines = call("train", *given)
    assert (code, out, len(lines)) == (2, "", 1)
    assert "no Ray cluster answers at '127.0.0.1:9'" in lines[0]
    assert list(tmp_path.iterdir()) == []
