"""Files appear whole or not at all; errors are one line and name the nearest."""

import errno

import numpy as np
import pytest

from graft.zoo import errors
from graft.zoo.files.reading import read_arrays, read_json, read_text
from graft.zoo.files.staging import staged_file, staged_folder
from graft.zoo.files.writing import write_text


def leftovers(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_only_when_it_is_complete(tmp_path):
    target = tmp_path / "deep" / "a.txt"
    with staged_file(target) as path:
        path.write_text("new")
        assert path.suffix == ".txt"
        assert not target.exists()
    assert target.read_text() == "new"
    assert leftovers(target.parent) == ["a.txt"]


@pytest.mark.parametrize("read", [read_text, read_json, read_arrays])
def test_what_cannot_be_read_is_named(tmp_path, read):
    place = tmp_path / "a"
    with pytest.raises(errors.ArtifactError, match=f"'{place}' is missing: restore it"):
        read(place)
    place.write_bytes(b"\xff{")
    with pytest.raises(errors.ArtifactError, match=f"'{place}' is damaged .*: restore it"):
        read(place)


def test_an_archive_cut_anywhere_is_damaged(tmp_path):
    place = tmp_path / "a.npz"
    np.savez_compressed(place, first=np.arange(100), second=np.zeros((3, 3)))
    whole = place.read_bytes()
    assert read_arrays(place)["second"].shape == (3, 3)
    for length in range(0, len(whole), 7):
        place.write_bytes(whole[:length])
        with pytest.raises(errors.ArtifactError):
            read_arrays(place)
    np.save(tmp_path / "one.npy", np.arange(3))
    with pytest.raises(errors.ArtifactError):
        read_arrays(tmp_path / "one.npy")


def test_a_failed_write_leaves_the_old_file(tmp_path):
    target = tmp_path / "a.txt"
    write_text(target, "old")

    def fail():
        with staged_file(target) as path:
            path.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert target.read_text() == "old"
    assert leftovers(tmp_path) == ["a.txt"]


def test_a_folder_is_replaced_only_on_request_and_only_when_complete(tmp_path):
    target = tmp_path / "run"
    with staged_folder(target) as folder:
        write_text(folder / "a", "first")
    with (
        pytest.raises(errors.ConfigError, match="exists already: --overwrite replaces it"),
        staged_folder(target),
    ):
        pass

    def fail():
        with staged_folder(target, overwrite=True) as folder:
            write_text(folder / "b", "second")
            assert (target / "a").read_text() == "first"
            raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        fail()
    assert leftovers(target) == ["a"]
    with staged_folder(target, overwrite=True) as folder:
        write_text(folder / "b", "second")
    assert leftovers(target) == ["b"]
    assert leftovers(tmp_path) == ["run"]


@pytest.mark.parametrize("staged", [staged_file, staged_folder])
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, staged):
    def fill():
        with staged(tmp_path / "out") as path:
            if staged is staged_file:
                path.write_text("half")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(
        errors.ConfigError,
        match="no space left on the disk while writing .*out.*: nothing was left",
    ):
        fill()
    assert leftovers(tmp_path) == []


def test_other_system_errors_pass_through(tmp_path):
    with pytest.raises(PermissionError), staged_file(tmp_path / "out"):
        raise PermissionError(errno.EACCES, "no")


def test_unknown_names_get_the_nearest_whatever_the_case():
    error = errors.UnknownName(
        "backbone", "MobilenetV2", ["mobilenet_v2", "vgg16"], see="`graft zoo` lists them all."
    )
    assert (
        str(error)
        == "no backbone is called 'MobilenetV2'. Did you mean 'mobilenet_v2'? `graft zoo` lists them all."
    )
    assert error.nearest == "mobilenet_v2"
    far = errors.UnknownName("backbone", "zzz", ["mobilenet_v2"])
    assert far.nearest is None
    assert str(far) == "no backbone is called 'zzz'. Known: mobilenet_v2"


def test_every_error_is_one_line_and_a_builtin_too():
    assert str(errors.DataError("first\n   second")) == "first second"
    for name in errors.__all__:
        kind = getattr(errors, name)
        assert issubclass(kind, errors.GraftError)
        if kind is not errors.GraftError:
            assert any(
                base.__module__ == "builtins"
                for base in kind.__mro__
                if base not in (Exception, BaseException, object)
            )
