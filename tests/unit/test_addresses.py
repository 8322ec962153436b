"""Data at an address: fetched once, whole or not at all; what cannot be had is said in one line."""

import functools
import http.server
import io
import sys
import threading
import time
import zipfile

import fsspec
import pytest
from PIL import Image

from graft.recipes.data import sentences, sources
from graft.recipes.data.containers import addresses
from graft.zoo.errors import ArtifactError, ConfigError, DataError
from graft.zoo.files import archives
from tests.unit.test_containers import image_table, pairs, write_tar

TABLE = "text,label\ngood,1\nfine,1\nbad,0\nawful,0\n"
IMPORTED_FOR_WEB = "aiohttp"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GRAFT_CACHE", str(tmp_path / "cache"))
    addresses.fetched.cache_clear()
    yield tmp_path / "cache"
    addresses.fetched.cache_clear()
    fsspec.filesystem("memory").store.clear()


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `files`, and counts what was asked for."""

    files: dict[str, bytes] = {}
    asked: list[str] = []
    tag = "1"

    def do_HEAD(self):
        self._answer(False)

    def do_GET(self):
        self._answer(True)

    def _answer(self, whole):
        self.asked.append(f"{self.command} {self.path}")
        if self.path.startswith("/status/"):
            self.send_error(int(self.path.split("/")[2]))
            return
        if self.path == "/silent.csv":
            time.sleep(3)
            return
        content = self.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", self.tag)
        self.end_headers()
        if whole and self.path.startswith("/cut"):
            self.wfile.write(content[: len(content) // 2])
            self.close_connection = True
        elif whole:
            self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def web():
    """A server: (its address, its handler)."""
    pytest.importorskip(IMPORTED_FOR_WEB)
    handler = type("Own", (Handler,), {"files": {}, "asked": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", handler
    server.shutdown()
    server.server_close()


def zipped(members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def png(shade):
    file = io.BytesIO()
    Image.new("RGB", (4, 4), (shade, 7, 7)).save(file, "PNG")
    return file.getvalue()


PHOTOS = {f"photos/{label}/{i}.png": png(20 * i + ord(label)) for label in "ab" for i in range(2)}


def test_a_table_is_fetched_once(web, cache):
    address, handler = web
    handler.files["/reviews.csv"] = TABLE.encode()
    spec = f"{address}/reviews.csv"
    source = sentences.load(spec, need=("label",))
    assert [s.text for s in source.splits["train"]] == ["good", "fine", "bad", "awful"]
    assert source.name == spec
    addresses.fetched.cache_clear()  # as another process
    sentences.load(spec, need=("label",))
    assert handler.asked.count("GET /reviews.csv") == 1
    handler.files["/reviews.csv"] = TABLE.replace("good", "best").encode()
    handler.tag = "2"
    addresses.fetched.cache_clear()
    assert sentences.load(spec, need=("label",)).splits["train"][0].text == "best"
    assert len(list(cache.iterdir())) == 2


def test_archives_and_shards_from_the_web(web):
    address, handler = web
    handler.files["/photos.zip"] = zipped(PHOTOS)
    source = sources.load(f"{address}/photos.zip")
    assert source.labels == ("a", "b")
    assert [e.image.read_bytes() for e in source.splits["train"]] == list(PHOTOS.values())
    handler.files["/list.zip"] = zipped(
        {"x.csv": "path,label\n" + "".join(f"{n},{n[7]}\n" for n in PHOTOS), **PHOTOS}
    )
    assert len(sources.load(f"{address}/list.zip").splits["train"]) == 4


def test_files_of_other_systems(tmp_path):
    import pyarrow.parquet as pq

    memory = fsspec.filesystem("memory")
    with memory.open("/x.parquet", "wb") as file:
        pq.write_table(image_table(), file)
    assert sources.load("memory://x.parquet").labels == ("cat", "dog")
    memory.pipe("/x.tar", write_tar(tmp_path / "x.tar", pairs()).read_bytes())
    assert sources.load("memory://x.tar").labels == ("cat", "dog")
    for name, content in PHOTOS.items():
        memory.pipe(f"/folder/{name}", content)
    assert sources.load("memory://folder").labels == ("a", "b")
    (tmp_path / "all.zip").write_bytes(zipped({"in/reviews.csv": TABLE, **PHOTOS}))
    found = sentences.load(f"zip://in/reviews.csv::{tmp_path / 'all.zip'}", need=("label",))
    assert found.labels == ("0", "1")
    assert sources.load(f"zip://photos::{tmp_path / 'all.zip'}").labels == ("a", "b")


def test_a_folder_that_has_changed_is_fetched_again():
    memory = fsspec.filesystem("memory")
    for name, content in PHOTOS.items():
        memory.pipe(f"/folder/{name}", content)
    assert len(sources.load("memory://folder").splits["train"]) == 4
    memory.pipe("/folder/photos/a/9.png", png(3))
    addresses.fetched.cache_clear()
    assert len(sources.load("memory://folder").splits["train"]) == 5


@pytest.mark.parametrize(
    ("path", "kind", "message"),
    [
        ("/none.csv", DataError, "there is nothing at 'http://.*none.csv': check the address"),
        ("/status/401/x.csv", ConfigError, r"without credentials \(HTTP 401\)"),
        ("/status/403/x.csv", ConfigError, r"without credentials \(HTTP 403\)"),
        ("/status/500/x.csv", ConfigError, r"cannot be fetched \(HTTP 500\)"),
        ("/silent.csv", ConfigError, "the server was silent for 0.2 s"),
        ("/cut.csv", (ConfigError, DataError), "cannot be fetched|ended after"),
        ("/broken.zip", DataError, "is no whole zip archive"),
        ("/outside.zip", ArtifactError, "names a file outside of itself"),
    ],
)
def test_what_cannot_be_had(web, cache, monkeypatch, path, kind, message):
    address, handler = web
    monkeypatch.setattr(addresses, "LIMIT_SECONDS", 0.2)
    fsspec.config.conf.clear()
    handler.files["/cut.csv"] = TABLE.encode() * 100
    handler.files["/broken.zip"] = zipped(PHOTOS)[:300]
    handler.files["/outside.zip"] = zipped({"../x.csv": TABLE})
    with pytest.raises(kind, match=message) as caught:
        sentences.load(address + path, need=("label",))
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2
    assert not cache.exists() or not any(cache.iterdir()), "nothing half-fetched stays"


def test_nobody_listens():
    pytest.importorskip(IMPORTED_FOR_WEB)
    with pytest.raises(ConfigError, match="cannot be fetched .*check the address and the network"):
        sources.load("http://127.0.0.1:9/x.csv")


@pytest.mark.parametrize(
    ("spec", "kind", "message"),
    [
        ("memory://none.csv", DataError, "there is nothing at 'memory://none.csv'"),
        ("what://x.csv", ConfigError, "no package here knows such addresses"),
        ("zip://x.csv::none.zip", DataError, "there is nothing at"),
    ],
)
def test_addresses_of_nothing(tmp_path, monkeypatch, spec, kind, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(kind, match=message):
        sentences.load(spec, need=("label",))


@pytest.mark.parametrize(
    ("spec", "module", "extra"),
    [
        ("s3://bucket/x.csv", "s3fs", "s3"),
        ("gs://bucket/x.csv", "gcsfs", "gcs"),
        ("http://127.0.0.1:9/x.csv", "aiohttp", "http"),
    ],
)
def test_absent_packages(monkeypatch, spec, module, extra):
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, "fsspec.implementations.http", raising=False)
    none: dict = {}
    for name in ("registry", "_registry"):  # of what this process has opened already
        monkeypatch.setattr(sys.modules["fsspec.registry"], name, none)
    with pytest.raises(ConfigError, match=rf"pip install 'graft-zoo\[{extra}\]'"):
        sources.load(spec)


def test_credentials_are_missing(monkeypatch):
    class NoCredentialsError(Exception):
        """As botocore raises it."""

    def refuse(*_, **__):
        raise NoCredentialsError("Unable to locate credentials")

    monkeypatch.setattr(fsspec.core, "url_to_fs", refuse)
    with pytest.raises(ConfigError, match="may not be read without credentials"):
        sources.load("s3://bucket/x.csv")


def test_an_archive_of_too_many_files_is_refused(monkeypatch):
    monkeypatch.setattr(archives, "MAX_MEMBERS", 9)
    members = {f"{i}": b"" for i in range(10)}
    fsspec.filesystem("memory").pipe("/many.zip", zipped(members))
    with pytest.raises(ArtifactError, match="files: refused"):
        sources.load("memory://many.zip")


def test_an_address_is_told_from_a_path():
    told = functools.partial(map, addresses.is_address)
    assert all(told(["https://x/y.csv", "zip://a.csv::b.zip", "memory://x", "s3://b/c"]))
    assert not any(told(["photos", "C:/photos", "tfds:mnist", "hf:mnist", "a//b", "/a://b"]))
