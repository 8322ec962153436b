"""One writer a place; what a killed process left is swept, what a living one makes is left
alone.
"""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from graft.export.sessions import open_artifact
from graft.recipes import image_classification
from graft.recipes.codecs import pixels
from graft.recipes.commands import bench
from graft.recipes.grid import jobs
from graft.recipes.report.run_file import read_run
from graft.recipes.runs import workspace
from graft.zoo.errors import ArtifactError, ConfigError
from graft.zoo.files import flock, holders, leases, marks, staging, writing
from graft.zoo.files.store import Store

SETTINGS = {"overwrite": False, "resume": False}


@pytest.fixture
def process():
    """Runs Python code in another process and waits until it says something; killed in the end."""
    started = []

    def start(code, *arguments):
        command = [sys.executable, "-c", code, *map(str, arguments)]
        started.append(
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        )
        assert started[-1].stdout.readline(), started[-1].stderr.read()
        return started[-1]

    yield start
    for each in started:
        each.kill()
        each.communicate()


HOLDS = """
import sys, time
from pathlib import Path
from graft.zoo.files import leases
with leases.hold_lease(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_writer_is_told_who_the_first_is_until_it_has_gone(process, tmp_path):
    holder = process(HOLDS, tmp_path / "run")
    with (
        pytest.raises(
            ConfigError,
            match=rf"run' is being written by process {holder.pid} on .* since \d\d:\d\d: wait, or give another --out",
        ),
        leases.hold_lease(tmp_path / "run"),
    ):
        pass
    with leases.hold_lease(tmp_path / "another"):
        pass
    holder.kill()
    holder.wait()
    with leases.hold_lease(tmp_path / "run"):
        pass
    assert not list(tmp_path.iterdir())


def test_two_trainings_of_one_name_do_not_touch_each_other(tmp_path):
    out = tmp_path / "run"
    with workspace.workspace(out, SETTINGS, "x") as folder:
        (folder / "run.json").write_text("{}")
        for settings in (
            SETTINGS,
            {"overwrite": True, "resume": False},
            {"overwrite": False, "resume": True},
        ):
            with (
                pytest.raises(ConfigError, match="by process"),
                workspace.workspace(out, settings, "x"),
            ):
                pass
        with pytest.raises(ConfigError, match="is being written by process"):
            workspace.finished(out, {"overwrite": False, "resume": True})
        assert (folder / "run.json").exists()
    assert [path.name for path in out.iterdir()] == ["run.json"]


def told(file, **changes):
    """A lease as another process has left it."""
    facts = {
        "process": 1,
        "host": "elsewhere",
        "boot": "0" * 8,
        "since": time.time(),
        "command": "graft train",
    }
    file.write_text(json.dumps(facts | changes))


def test_the_lease_of_another_machine_holds_while_it_is_touched(tmp_path):
    file = tmp_path / ".run.lock"
    told(file)
    held = pytest.raises(ConfigError, match=r"process 1 on elsewhere since .*: wait")
    with held, leases.hold_lease(tmp_path / "run"):
        pass
    os.utime(file, (0, time.time() - 2 * holders.STALE_SECONDS))
    with leases.hold_lease(tmp_path / "run"):
        pass
    told(file, boot=flock.machine_id())  # flock says that its process has ended
    with leases.hold_lease(tmp_path / "run"):
        pass


@pytest.mark.parametrize(
    "content",
    ["", "{", '{"process": 1}', "\x00", '{"process": 1, "since": 1e999}', '{"process": [['],
)
def test_a_damaged_lease_holds_nothing(content, tmp_path):
    (tmp_path / ".run.lock").write_text(content)
    with leases.hold_lease(tmp_path / "run"):
        pass


def _link(file, victim):
    file.symlink_to(victim)


def _chain(file, victim):
    (file.parent / "between").symlink_to(victim)
    file.symlink_to("between")


def _dangling(file, victim):
    file.symlink_to(victim.with_name("nothing"))


def _hard(file, victim):
    os.link(victim, file)


def _pipe(file, _):
    os.mkfifo(file)


def _socket(file, _):
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.path.relpath(file))


def _folder(file, _):
    file.mkdir()


def _list(file, _):
    file.write_text("[]")


def _of_another_tool(file, _):
    file.write_text('{"version": 3, "packages": {}}')


IN_THE_WAY = (_link, _chain, _dangling, _hard, _pipe, _socket, _folder, _list, _of_another_tool)


@pytest.mark.parametrize("put", IN_THE_WAY)
def test_what_is_no_lease_is_never_written_to(put, tmp_path):
    victim = tmp_path / "thesis.txt"
    victim.write_text("what I wrote")
    put(tmp_path / ".run.lock", victim)
    assert leases.find_holder(tmp_path / "run") is None
    refused = pytest.raises(ConfigError, match=r"\.run\.lock' is in the way: .*: move it away")
    with refused, leases.hold_lease(tmp_path / "run"):
        pass
    with pytest.raises(ConfigError, match="is in the way"):
        leases.refuse_held(tmp_path / "run")
    assert victim.read_text() == "what I wrote"
    assert os.path.lexists(tmp_path / ".run.lock")
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize("put", IN_THE_WAY)
def test_a_store_leaves_alone_what_is_no_lease(put, tmp_path):
    victim = tmp_path / "thesis.txt"
    victim.write_text("what I wrote")
    (tmp_path / "cache").mkdir()
    put(tmp_path / "cache" / ".abc.lock", victim)
    store = Store(tmp_path / "cache")
    with pytest.raises(ConfigError, match="is in the way"), store.alone(["abc"]):
        pass
    assert victim.read_text() == "what I wrote"
    assert os.path.lexists(tmp_path / "cache" / ".abc.lock")


def test_a_store_waits_for_no_pipe(tmp_path):
    for name in ("a/entry.json", f".part-{flock.machine_id()}-abcdefgh"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        os.mkfifo(tmp_path / name)
    store = Store(tmp_path)
    assert store.find("a") is None
    with store.add("k") as (folder, _):
        (folder / "0.bin").write_bytes(b"")
    (tmp_path / "k" / "0.bin").unlink()
    os.mkfifo(tmp_path / "k" / "0.bin")
    assert store.find("k", verify=True) is None


def test_a_lease_that_a_link_has_replaced_is_not_followed(tmp_path):
    victim, file = tmp_path / "thesis.txt", tmp_path / ".run.lock"
    with leases.hold_lease(tmp_path / "run") as lease:
        file.rename(victim)  # which says what the lease says
        file.symlink_to(victim)
        assert lease.lost()
    assert victim.exists()
    assert file.is_symlink()


def test_a_lease_is_touched_while_it_is_held(monkeypatch, tmp_path):
    monkeypatch.setattr(leases, "BEAT_SECONDS", 0.02)
    with leases.hold_lease(tmp_path / "run"):
        file = tmp_path / ".run.lock"
        os.utime(file, (0, 0))
        end = time.monotonic() + 5
        while file.stat().st_mtime == 0 and time.monotonic() < end:
            time.sleep(0.02)
        assert file.stat().st_mtime > 0


WRITES = """
import sys, time
from pathlib import Path
from graft.zoo.files.store import Store
store = Store(Path(sys.argv[1]))
with store.alone(["k"]), store.add("k") as (folder, facts):
    (folder / "0.bin").write_bytes(b"x" * 10)
    print("writing", flush=True)
    time.sleep(float(sys.argv[2]))
"""


def test_a_store_leaves_alone_what_another_process_writes_whatever_its_number(
    monkeypatch, tmp_path
):
    store = Store(tmp_path)
    with store.add("k") as (folder, _):
        (folder / "0.bin").write_bytes(b"x")
        Store(
            tmp_path
        )  # another process, here or in another container: it cannot tell by a number that ours lives
    assert store.find("k")
    monkeypatch.setattr(flock, "machine_id", lambda: "another0")
    with store.add("m") as (folder, _):
        monkeypatch.undo()
        Store(tmp_path)
        assert folder.exists()


def test_a_store_sweeps_what_a_killed_process_left(process, tmp_path):
    writer = process(WRITES, tmp_path, 60)
    Store(tmp_path)
    assert list(tmp_path.glob(".part-*"))
    writer.kill()
    writer.wait()
    Store(tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_another_process_computes_is_waited_for(process, tmp_path, capsys):
    process(WRITES, tmp_path, 0.7)
    store = Store(tmp_path)
    with store.alone(["a", "k"]):
        assert store.find("k"), "there as soon as the other one is done"
    assert "computes the same features: waiting" in capsys.readouterr().err
    assert not list(tmp_path.glob(".*"))


def test_an_entry_is_taken_over_from_a_process_that_died(process, tmp_path):
    writer = process(WRITES, tmp_path, 60)
    threading.Timer(0.3, writer.kill).start()
    with Store(tmp_path).alone(["k"]):
        assert Store(tmp_path).find("k") is None


STAGES = """
import os, signal, sys
from pathlib import Path
from graft.zoo.files import staging
target, place = Path(sys.argv[1]), sys.argv[2]
replace, count = os.replace, 0
def trap(*arguments):
    global count
    count += 1
    replace(*arguments)
    if place == "renaming" and count == 1:
        print("killed", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
os.replace = trap
with staging.staged_folder(target, overwrite=True) as folder:
    (folder / "new").write_text("")
    if place == "writing":
        print("killed", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(("place", "kept"), [("writing", "before"), ("renaming", "new")])
def test_what_a_killed_process_left_is_swept_or_takes_its_place(place, kept, process, tmp_path):
    target = tmp_path / "export"
    target.mkdir()
    (target / "before").write_text("")
    process(STAGES, target, place).wait()
    assert len(list(tmp_path.glob(".export.*"))) == (1 if place == "writing" else 2)
    staging.sweep_unfinished(target)
    assert [path.name for path in tmp_path.iterdir()] == ["export"]
    assert [path.name for path in target.iterdir()] == [kept]


def test_a_folder_that_is_being_written_is_not_swept(tmp_path):
    target = tmp_path / "export"
    with staging.staged_folder(target) as folder:
        staging.sweep_unfinished(target)
        assert folder.exists()
    assert target.exists()


@pytest.mark.parametrize("name", [".export.original", ".export.bak", ".export.0123abcd"])
def test_what_is_not_ours_is_not_swept(name, tmp_path):
    (tmp_path / name).mkdir()
    staging.sweep_unfinished(tmp_path / "export")
    assert (tmp_path / name).exists()


def test_a_run_that_was_killed_while_it_took_its_place_is_complete(tmp_path):
    out, folder = tmp_path / "run", tmp_path / ".run.part"
    settings = {"overwrite": False, "resume": True}
    for path in (folder, tmp_path / ".run.part.old"):
        (path / "checkpoint").mkdir(parents=True)
        (path / "run.json").write_text(json.dumps({"config": {}, "of": path.name}))
        (path / "settings.json").write_text("{}")
    assert workspace.finished(out, settings)
    assert json.loads((out / "run.json").read_text())["of"] == ".run.part"
    assert [path.name for path in out.iterdir()] == ["run.json"]
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_what_was_replaced_comes_back_where_nothing_took_its_place(tmp_path):
    (tmp_path / ".run.part.old").mkdir()
    (tmp_path / ".run.part.old" / "run.json").write_text('{"config": {}}')
    assert workspace.finished(tmp_path / "run", {"overwrite": False, "resume": True})


def test_a_full_disk_for_decoded_pictures_is_one_line(monkeypatch):
    def full(*_):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(pixels, "IN_MEMORY_BYTES", 10)
    assert not pixels.allocate_pixels((4, 2, 2, 3)).any()
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(
        ConfigError, match=r"no space left in .* for 0.0 GB of decoded images: .*TMPDIR"
    ):
        pixels.allocate_pixels((4, 2, 2, 3))
    monkeypatch.delattr(os, "posix_fallocate")
    room = pixels.allocate_pixels((4, 2, 2, 3))
    room[:] = 7
    assert np.all(room == 7)


FOLLOWER = """
import time
from graft.zoo import processes
with processes.with_parent():
    time.sleep(60)
"""
FOLLOWS = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], env={**os.environ, "GRAFT_PARENT": str(os.getpid())})
print(child.pid, flush=True)
time.sleep(60)
"""


def test_a_process_ends_with_the_one_that_started_it(tmp_path):
    parent = subprocess.Popen(
        [sys.executable, "-c", FOLLOWS, FOLLOWER], stdout=subprocess.PIPE, text=True
    )
    child = int(parent.stdout.readline())
    time.sleep(0.5)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    end = time.monotonic() + 10
    while _runs(child) and time.monotonic() < end:
        time.sleep(0.05)
    assert not _runs(child)


def _runs(process: int) -> bool:
    try:
        return "\nState:\tZ" not in open(f"/proc/{process}/status").read()
    except FileNotFoundError:
        return False


# ---------------------------------------------------------------------------------------------------------------------
# Leases of other machines


def test_one_place_has_one_lease_whatever_links_lead_to_it(process, tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "link").symlink_to("runs")
    process(HOLDS, tmp_path / "link" / "run")
    with (
        pytest.raises(ConfigError, match="is being written by process"),
        leases.hold_lease(tmp_path / "runs" / "run"),
    ):
        pass
    (tmp_path / "runs" / "run").mkdir()
    (tmp_path / "latest").symlink_to("runs/run")
    with (
        pytest.raises(ConfigError, match="latest' is being written by process"),
        leases.hold_lease(tmp_path / "latest"),
    ):
        pass


def test_the_clock_of_the_disk_decides_whether_another_machine_lives(monkeypatch, tmp_path):
    told(tmp_path / ".run.lock")
    real = time.time
    monkeypatch.setattr(flock.time, "time", lambda: real() + 3600)
    assert leases.find_holder(tmp_path / "run").host == "elsewhere"
    with (
        pytest.raises(ConfigError, match="process 1 on elsewhere"),
        leases.hold_lease(tmp_path / "run"),
    ):
        pass


def test_a_lease_that_another_machine_is_just_making_is_waited_for(tmp_path):
    file = tmp_path / ".run.lock"
    file.touch()
    threading.Timer(0.1, told, [file]).start()
    with (
        pytest.raises(ConfigError, match="process 1 on elsewhere"),
        leases.hold_lease(tmp_path / "run"),
    ):
        pass


def test_a_lease_that_another_machine_took_over_is_left_to_it(tmp_path):
    out = tmp_path / "run"

    def stand_still():
        with workspace.workspace(out, SETTINGS, "x") as folder:
            (folder / "run.json").write_text("{}")
            told(tmp_path / ".run.lock")

    with pytest.raises(ConfigError, match="is being written by another machine"):
        stand_still()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".run.lock", ".run.part"], (
        "the other one works in it"
    )
    assert leases.find_holder(out).host == "elsewhere"


def _other_machine_makes(out):
    """Takes the lease over, makes the run, and gives the lease back."""
    out.with_name(f".{out.name}.lock").unlink()
    out.mkdir()
    (out / "whole").touch()


@pytest.mark.parametrize("taken_again", [False, True])
@pytest.mark.parametrize("checkpoint", [False, True])
def test_a_complete_run_of_another_machine_is_not_replaced(
    checkpoint, taken_again, tmp_path, capsys
):
    out = tmp_path / "run"

    def stand_still():
        with workspace.workspace(out, {"overwrite": True, "resume": False}, "x") as folder:
            (folder / "run.json").touch()
            if checkpoint:
                (folder / "checkpoint" / "0").mkdir(parents=True)
                (folder / "checkpoint" / "0" / "1.npz").touch()
            _other_machine_makes(out)
            if taken_again:
                told(tmp_path / ".run.lock")

    with pytest.raises(ConfigError, match="another machine"):
        stand_still()
    assert [path.name for path in out.iterdir()] == ["whole"]
    assert (tmp_path / ".run.part" / "run.json").exists(), "perhaps the other one's"
    assert "--resume" not in capsys.readouterr().err


@pytest.mark.parametrize("inside", ["", "run.json", "cells/a/run.json"])
def test_nothing_takes_a_place_whose_lease_is_lost(inside, tmp_path):
    out = tmp_path / "link"
    (tmp_path / "big").mkdir()
    out.symlink_to("big/run")
    target = out / inside if inside else out

    def stand_still():
        with leases.hold_lease(out):
            staged = (
                staging.staged_file(target)
                if inside
                else staging.staged_folder(target, overwrite=True)
            )
            with staged as path:
                path.touch()
                (tmp_path / "big" / ".run.lock").unlink()

    with pytest.raises(ConfigError, match="another machine has written '.*run' meanwhile"):
        stand_still()
    assert not (tmp_path / "big" / "run" / inside).is_file()


def test_a_training_whose_lease_is_lost_ends_at_its_next_file(tmp_path):
    def stand_still():
        with workspace.workspace(tmp_path / "run", SETTINGS, "x") as folder:
            _other_machine_makes(tmp_path / "run")
            writing.write_text(tmp_path / "beside.json", "{}")  # of no lost place
            writing.write_text(folder / "checkpoint" / "state.json", "{}")
            pytest.fail("it would train on for nothing")

    with pytest.raises(ConfigError, match="another machine"):
        stand_still()
    assert (tmp_path / "beside.json").exists()


def test_a_lost_lease_is_not_touched(monkeypatch, tmp_path):
    monkeypatch.setattr(leases, "BEAT_SECONDS", 0.02)
    file = tmp_path / ".run.lock"
    with leases.hold_lease(tmp_path / "run"):
        told(file)
        os.utime(file, (0, 0))
        time.sleep(0.2)
        assert file.stat().st_mtime == 0


def test_looking_who_holds_a_place_takes_nothing(process, tmp_path):
    leases.refuse_held(tmp_path / "run")
    holder = process(HOLDS, tmp_path / "run")
    assert leases.find_holder(tmp_path / "run").process == holder.pid
    with pytest.raises(ConfigError, match=f"process {holder.pid} .*: wait, or give another --out"):
        leases.refuse_held(tmp_path / "run")
    holder.kill()
    holder.wait()
    leases.refuse_held(tmp_path / "run")
    assert (tmp_path / ".run.lock").exists()


def test_two_grids_in_one_folder_are_refused_before_anything_is_read(process, tmp_path):
    process(HOLDS, tmp_path / "bench")
    options = bench.Options(data="nowhere", backbones=("nothing",), out=tmp_path / "bench")
    with pytest.raises(ConfigError, match="bench' is being written by process"):
        bench.bench(options)


def test_two_trainings_of_one_name_are_refused_before_anything_is_read(process, tmp_path):
    process(HOLDS, tmp_path / "run")
    with pytest.raises(ConfigError, match="run' is being written by process"):
        image_classification.main(image_classification.Config(data="nowhere", out=tmp_path / "run"))


def test_no_folder_stays_that_was_made_for_a_lease(tmp_path):
    with leases.hold_lease(tmp_path / "a" / "b" / "run"):
        assert (tmp_path / "a" / "b").is_dir()
    assert not list(tmp_path.iterdir())
    with leases.hold_lease(tmp_path / "a" / "b" / "run"):
        (tmp_path / "a" / "b" / "run").mkdir()
    assert (tmp_path / "a" / "b" / "run").is_dir()


def test_a_folder_in_the_making_has_its_name_only_once_it_is_marked(monkeypatch, tmp_path):
    seen = []
    lock = flock.try_lock
    monkeypatch.setattr(
        flock,
        "try_lock",
        lambda *given: seen.extend(p.name for p in tmp_path.iterdir()) or lock(*given),
    )
    with marks.marked_folder(".part-", tmp_path) as folder:
        assert not marks.is_abandoned(folder, flock.machine_id())
        assert folder.name.startswith(".part-")
    assert seen[0].startswith(".new-")
    assert not list(tmp_path.iterdir())


KILLED_EARLY = """
import os, signal, sys
from pathlib import Path
from graft.zoo.files import marks
def killed(*_):
    print("killed", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
os.rename = killed
with marks.marked_folder(".part-", Path(sys.argv[1])):
    pass
"""


@pytest.mark.parametrize(
    "sweeps",
    [
        Store,
        lambda place: staging.sweep_unfinished(place / "run"),
        lambda place: _hold(place / "run"),
    ],
)
def test_a_folder_of_a_process_that_was_killed_before_it_named_it_is_swept(
    sweeps, process, tmp_path
):
    process(KILLED_EARLY, tmp_path).wait()
    (left,) = tmp_path.iterdir()
    sweeps(tmp_path)
    assert left.exists(), "it may be just made"
    os.utime(left, (0, time.time() - 2 * holders.STALE_SECONDS))
    sweeps(tmp_path)
    assert not list(tmp_path.iterdir())


def _hold(place):
    with leases.hold_lease(place):
        pass


def test_only_empty_folders_of_ours_that_nobody_holds_are_swept(tmp_path):
    long_ago = (0, time.time() - 2 * holders.STALE_SECONDS)
    (tmp_path / "elsewhere").mkdir()
    for name in (".new-mine", ".new-abcdefgh.d", ".new-abcd0000", ".new-abcd1111"):
        (tmp_path / name).mkdir()
    (tmp_path / ".new-abcd0000" / "thesis.txt").touch()
    (tmp_path / ".new-abcd2222").symlink_to("elsewhere")
    os.mkfifo(tmp_path / ".new-abcd3333")
    for path in tmp_path.iterdir():
        os.utime(path, long_ago)
    before = sorted(tmp_path.iterdir())
    descriptor = os.open(tmp_path / ".new-abcd1111", os.O_RDONLY)
    assert flock.try_lock(descriptor)
    marks.sweep_unmarked(tmp_path)
    assert sorted(tmp_path.iterdir()) == before
    os.close(descriptor)
    marks.sweep_unmarked(tmp_path)
    assert sorted(tmp_path.iterdir()) == [path for path in before if path.name != ".new-abcd1111"]


def test_who_computes_entries_does_not_wait_for_others(process, tmp_path):
    """Two processes that each lack what the other one computes would wait for each other."""
    process(WRITES, tmp_path, 60)
    store, start = Store(tmp_path), time.monotonic()
    with store.alone(["a"]):
        with store.alone(["k"]), store.add("k") as (folder, _):
            (folder / "0.bin").write_bytes(b"y")
        assert time.monotonic() - start < 5
    assert store.find("k")


# ---------------------------------------------------------------------------------------------------------------------
# Readers


def test_a_run_that_is_being_made_is_said_to_readers(process, tmp_path):
    holder = process(HOLDS, tmp_path / "run")
    for read in (read_run, open_artifact):
        with pytest.raises(
            ArtifactError, match=f"run' is being written by process {holder.pid} on .*: wait for it"
        ):
            read(tmp_path / "run")
    holder.kill()
    holder.wait()
    with pytest.raises(ArtifactError, match="is no run"):
        read_run(tmp_path / "run")


@pytest.mark.parametrize("complete", [True, False])
def test_a_run_that_was_killed_while_it_took_its_place_can_be_read(complete, tmp_path):
    for name in (".run.part.old", ".run.part")[: 1 + complete]:
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text(
            json.dumps({"schema": 1, "of": name, "recipe": "x", "config": {}, "data": {}})
        )
    assert read_run(tmp_path / "run")["of"] == (".run.part" if complete else ".run.part.old")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_an_export_that_was_killed_while_it_took_its_place_can_be_read(process, tmp_path):
    target = tmp_path / "export"
    target.mkdir()
    process(STAGES, target, "renaming").wait()
    assert not target.exists()
    with pytest.raises(ArtifactError, match=r"there is no artifact '.*model\.onnx'"):
        open_artifact(target / "model.onnx")
    assert [path.name for path in target.iterdir()] == ["new"]


def test_what_is_replaced_while_it_is_read_is_said(tmp_path):
    def replaced(error=None):
        with staging.unchanged_folder(tmp_path / "run"):
            with staging.staged_folder(tmp_path / "run", overwrite=True):
                pass
            if error:
                raise error

    (tmp_path / "run").mkdir()
    for error in (None, ArtifactError("'labels.txt' is missing")):
        with pytest.raises(
            ArtifactError, match="another process replaced '.*run' while it was read"
        ):
            replaced(error)
    with pytest.raises(KeyboardInterrupt):
        replaced(KeyboardInterrupt())
    with pytest.raises(ValueError, match="as it is"), staging.unchanged_folder(tmp_path / "run"):
        raise ValueError("as it is")


def test_a_folder_that_cannot_take_its_place_leaves_the_one_before(monkeypatch, tmp_path):
    target, replace = tmp_path / "run", os.replace
    target.mkdir()

    def full(source, place):
        if place == target and not str(source).endswith(".old"):
            raise KeyboardInterrupt
        replace(source, place)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(KeyboardInterrupt), staging.staged_folder(target, overwrite=True):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


# ---------------------------------------------------------------------------------------------------------------------
# Links to another disk


def _stage(out):
    return staging.staged_folder(out, overwrite=True)


def _work(out):
    return workspace.workspace(out, {"overwrite": True, "resume": False}, "x")


@pytest.fixture(params=[_stage, _work])
def making(request):
    return request.param


def test_a_run_goes_where_a_link_leads_each_time(making, tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "big" / "run").mkdir(parents=True)
    out = tmp_path / "runs" / "run"
    out.symlink_to("../big/run")
    for name in ("first", "second", "third"):
        with making(out) as folder:
            assert folder.parent == tmp_path / "big", "on the disk that has the space"
            (folder / name).touch()
        assert out.is_symlink()
        assert [path.name for path in (tmp_path / "big" / "run").iterdir()] == [name]
        assert [path.name for path in out.parent.iterdir()] == ["run"]
        assert [path.name for path in (tmp_path / "big").iterdir()] == ["run"]


def test_what_a_link_leads_to_is_made(making, tmp_path):
    out = tmp_path / "run"
    out.symlink_to("big/there")
    with making(out) as folder:
        (folder / "new").touch()
    assert out.is_symlink()
    assert (tmp_path / "big" / "there" / "new").exists()


def test_a_cache_and_a_grid_are_made_where_their_links_lead(tmp_path):
    for name in ("cache", "bench"):
        (tmp_path / name).symlink_to(f"big/{name}")
    store = Store(tmp_path / "cache")
    with store.alone(["k"]), store.add("k") as (folder, _):
        (folder / "0.bin").touch()
    assert (tmp_path / "big" / "cache" / "k").exists()
    jobs.run(jobs.Job("x", (sys.executable, "-c", ""), tmp_path / "bench" / "log"))
    assert (tmp_path / "big" / "bench" / "log").exists()


def test_a_link_to_itself_is_refused_at_once(making, tmp_path):
    (tmp_path / "run").symlink_to("run")
    with (
        pytest.raises(ConfigError, match="run' is a link that leads to itself"),
        making(tmp_path / "run"),
    ):
        pytest.fail("nothing may be trained for it")


def test_a_link_that_was_put_aside_is_removed_and_not_what_it_leads_to(tmp_path):
    """As an older Graft left them."""
    (tmp_path / "big").mkdir()
    (tmp_path / "big" / "kept").touch()
    (tmp_path / "run").mkdir()
    for name in (".run.part.old", ".run.part"):
        (tmp_path / name).symlink_to("big")
    for _ in range(2):
        with _work(tmp_path / "run") as folder:
            (folder / "run.json").touch()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["big", "run"]
    assert (tmp_path / "big" / "kept").exists()


def test_a_training_that_a_link_leads_to_is_resumed_and_read(tmp_path):
    (tmp_path / "big").mkdir()
    (tmp_path / "run").symlink_to("big/run")
    for name in (".run.part.old", ".run.part"):
        (tmp_path / "big" / name).mkdir()
        (tmp_path / "big" / name / "run.json").write_text(
            json.dumps({"schema": 1, "of": name, "recipe": "x", "config": {}, "data": {}})
        )
    assert read_run(tmp_path / "run")["of"] == ".run.part"
    assert [path.name for path in (tmp_path / "big").iterdir()] == ["run"]
    assert (tmp_path / "run").is_symlink()


# ---------------------------------------------------------------------------------------------------------------------
# Ends


@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.EINVAL])
def test_a_disk_that_cannot_reserve_space_is_written_to(code, monkeypatch):
    def refuse(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(pixels, "IN_MEMORY_BYTES", 10)
    monkeypatch.setattr(os, "posix_fallocate", refuse)
    room = pixels.allocate_pixels((4, 2, 2, 3))
    room[:] = 7
    assert np.all(room == 7)


DEAF = """
import signal, time
from graft.zoo import processes
with processes.with_parent():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="Linux ends it at once")
def test_a_process_ends_with_the_one_that_started_it_whatever_it_does():
    parent = subprocess.Popen(
        [sys.executable, "-c", FOLLOWS, DEAF], stdout=subprocess.PIPE, text=True
    )
    child = int(parent.stdout.readline())
    time.sleep(1)
    parent.kill()
    parent.wait()
    time.sleep(0.3)
    assert not _runs(child)


SLEEPS = """
import signal, time
from graft.recipes.commands import __main__, zoo
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup, and a shell's &, have them ignored
signal.signal(signal.SIGINT, signal.default_int_handler)
def command(arguments):
    try:
        print("begun", flush=True)
        time.sleep(60)
    except KeyboardInterrupt as error:
        error.add_note("'run' is kept")
        raise
zoo.command = command
__main__.main(["zoo"])
"""


@pytest.mark.parametrize(
    ("number", "code", "words"),
    [
        (signal.SIGTERM, 143, "ended by SIGTERM"),
        (signal.SIGHUP, 129, "ended by SIGHUP"),
        (signal.SIGINT, 130, "interrupted"),
    ],
)
def test_a_signal_that_asks_to_end_is_one_line_and_a_code(number, code, words, process):
    asked = process(SLEEPS)
    asked.send_signal(number)
    assert asked.stderr.read() == f"graft zoo: {words}: 'run' is kept\n"
    assert asked.wait() == code


def test_a_lease_that_another_machine_took_and_gave_back_is_lost(tmp_path):
    """Before, only one that it still held: a run that was complete was replaced by another's part
    of one.
    """
    with leases.hold_lease(tmp_path / "run") as lease:
        assert not lease.lost()
        (tmp_path / ".run.lock").unlink()
        assert lease.lost()


def test_a_folder_that_a_link_leads_to_is_replaced_where_it_is(tmp_path):
    """Before, the link gave way to a folder, and the next time the work was lost behind
    NotADirectoryError.
    """
    (tmp_path / "large").mkdir()
    (tmp_path / "x").symlink_to("large/x")
    settings = {"overwrite": False, "resume": False}
    for number in range(3):
        with workspace.workspace(tmp_path / "x", settings, "f") as folder:
            (folder / "run.json").write_text(str(number))
        settings = {"overwrite": True, "resume": False}
        assert (tmp_path / "x").is_symlink()
        assert (tmp_path / "large/x/run.json").read_text() == str(number)
    for number in range(3):
        with staging.staged_folder(tmp_path / "x", overwrite=True) as folder:
            (folder / "a").write_text(str(number))
        assert (tmp_path / "large/x/a").read_text() == str(number)
    assert (tmp_path / "x").is_symlink()
    assert sorted(path.name for path in (tmp_path / "large").iterdir()) == ["x"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["large", "x"]


def test_what_was_left_before_it_was_marked_is_swept(tmp_path):
    left, young, full = (tmp_path / f".new-{letter * 8}" for letter in "abc")
    for folder in (left, young, full):
        folder.mkdir()
    (full / "notes.txt").write_text("mine")
    for folder in (left, full):
        os.utime(folder, (1, 1))
    with staging.staged_folder(tmp_path / "run"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == [young.name, full.name, "run"]


def test_a_link_to_a_file_stays_one(tmp_path):
    (tmp_path / "disk").mkdir()
    link = tmp_path / "report.html"
    link.symlink_to(tmp_path / "disk" / "report.html")
    for text in ("one", "two"):
        writing.write_text(link, text)
        assert link.is_symlink()
        assert (tmp_path / "disk" / "report.html").read_text() == text
    assert [file.name for file in (tmp_path / "disk").iterdir()] == ["report.html"]
