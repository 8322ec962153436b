"""Latency and memory are measured in a process of their own."""

import contextlib

import pytest

from graft.export import probe
from graft.export.convert.onnx import convert_to_onnx, write_onnx
from graft.export.manifest import Description
from graft.zoo.errors import ArtifactError


@pytest.fixture(scope="module")
def file(tiny_model, tmp_path_factory):
    path = tmp_path_factory.mktemp("probe") / "m.onnx"
    write_onnx(
        convert_to_onnx(tiny_model[1]),
        path,
        Description("tiny", ["ant", "bee", "cat"], {}, (0, 255)),
    )
    return path


def test_what_is_measured(file):
    facts = probe.measure_file(file)
    one, every = facts["latency_ms"]["one_thread"], facts["latency_ms"]["all_threads"]
    assert one["threads"] == 1
    assert every["threads"] >= 1
    for latency in (one, every):
        assert 0 < latency["median"] <= latency["p90"] < 1000
        assert 1 <= latency["runs"] <= 100
    assert 0 < facts["peak_memory_bytes"] < 1e9


def test_what_lies_where_the_user_works_is_not_taken_for_ours(file, tmp_path, monkeypatch):
    (tmp_path / "export.py").write_text("raise SystemExit('the script of the user')")
    monkeypatch.chdir(tmp_path)
    assert probe.measure_file(file)["peak_memory_bytes"] > 0


def test_a_process_that_fails_says_why_in_one_line(file, tmp_path):
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(file.read_bytes()[:300])
    with pytest.raises(
        ArtifactError, match=r"bad\.onnx' could not be timed in a process of its own: .*damaged"
    ):
        probe.measure_file(bad)


def test_a_process_that_hangs_is_ended(file, monkeypatch):
    monkeypatch.setattr(probe, "PROBE_TIMEOUT_SECONDS", 0.01)
    with pytest.raises(ArtifactError, match=r"one process ran for 0\.01 s"):
        probe.measure_file(file)


@pytest.mark.parametrize(
    ("name", "asked"), [("m.keras", [[1], [0]]), ("savedmodel", [[1], [0]]), ("m.onnx", [[1, 0]])]
)
def test_tensorflow_is_told_once_in_a_process_how_many_threads_it_may_take(
    name, asked, monkeypatch, tmp_path
):
    """Of a .keras file, all threads were one: the process had said so before."""
    started, facts = [], {"latency_ms": {}, "peak_memory_bytes": 1}

    @contextlib.contextmanager
    def noted(path, threads, image_size):
        started.append(threads)
        yield threads

    monkeypatch.setattr(probe, "_started", noted)
    monkeypatch.setattr(probe, "_timed_by", lambda process, path: [facts for _ in process])
    probe.measure_file(tmp_path / name)
    assert started == asked
