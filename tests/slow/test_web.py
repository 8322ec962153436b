"""The page of examples/web in headless Chromium: both runtimes give the scores of `graft predict`.

`GRAFT_RESULTS=FOLDER` keeps a screenshot as FOLDER/web.png.
"""

import base64
import functools
import http.server
import json
import os
import shutil
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.slow.conftest import CHROMIUM, FLAGS

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
DRIVER = """<!doctype html><body style="margin:0;overflow:hidden">
<iframe id="page" src="index.html" style="border:0;width:100vw;height:100vh"></iframe>
<script type="module">
const page = document.getElementById("page");
const names = NAMES;
await new Promise((done) => (page.onload = done));
const inside = page.contentWindow;
const script = page.contentDocument.createElement("script");
script.type = "module";
script.textContent = "import { classify } from './app.js'; window.classify = classify; window.ready?.();";
await new Promise((done) => { inside.ready = done; page.contentDocument.head.append(script); });
const photo = async (name) => new inside.File([await (await fetch(`photos/${name}`)).blob()], name);
const results = { scores: {}, shown: {} };
try {
  for (const runtime of ["litert", "onnx"]) {
    results.scores[runtime] = [];
    for (const name of names) results.scores[runtime].push((await inside.classify(await photo(name), runtime)).scores);
  }
  // As a person does: choose a file, look, choose the other runtime.
  const given = new inside.DataTransfer();
  given.items.add(await photo(names[0]));
  const input = page.contentDocument.getElementById("file");
  input.files = given.files;
  input.dispatchEvent(new inside.Event("change"));
  for (const runtime of ["onnx", "litert"]) {
    page.contentDocument.querySelector(`input[value=${runtime}]`).click();
    const status = page.contentDocument.getElementById("status");
    const word = runtime === "onnx" ? "onnxruntime" : "LiteRT";
    while (!status.textContent.endsWith(word)) await new Promise((done) => setTimeout(done, 50));
    results.shown[runtime] = page.contentDocument.getElementById("labels").innerText;
  }
} catch (error) {
  results.error = `${error.stack ?? error}`;
}
await fetch("/result", { method: "POST", body: JSON.stringify(results) });
</script>"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A copy of examples/web with its packages installed."""
    folder = tmp_path_factory.mktemp("web") / "page"
    shutil.copytree(
        ROOT / "examples" / "web", folder, ignore=shutil.ignore_patterns("node_modules", "model")
    )
    npm = shutil.which("npm")
    if CHROMIUM is None or npm is None:
        pytest.skip("no Chromium or no npm on this machine")
    done = subprocess.run(
        [npm, "install", "--ignore-scripts", "--no-audit", "--no-fund"],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        pytest.skip(f"npm install failed: {done.stderr.strip().splitlines()[-1:]}")
    return folder


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves the folder, and keeps what the driver sends back."""

    def do_POST(self):
        self.server.result = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(204)
        self.end_headers()
        self.server.done.set()

    def log_message(self, *_):
        pass


def driven(folder: Path, names, profile: Path, shot: Path | None = None, wait=90):
    """What the driver page reports about the photos `names` in `folder`/photos; a picture of the
    page goes to `shot`.
    """
    (folder / "driver.html").write_text(DRIVER.replace("NAMES", json.dumps(names)))
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Handler, directory=folder)
    )
    server.done = threading.Event()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    (read, to_browser), (from_browser, write) = os.pipe(), os.pipe()
    browser = subprocess.Popen(
        [
            "bash",
            "-c",
            f'exec "$@" 3<&{read} 4>&{write}',
            "_",
            CHROMIUM,
            *FLAGS,
            f"--user-data-dir={profile}",
            "--remote-debugging-pipe",
            "--window-size=800,1000",
            f"http://127.0.0.1:{server.server_port}/driver.html",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=(read, write),
    )
    try:
        assert server.done.wait(wait), "the page did not answer"
        if shot:
            shot.write_bytes(photographed(to_browser, from_browser))
    finally:
        browser.kill()
        browser.wait()
        server.shutdown()
        for end in (read, write, to_browser, from_browser):
            os.close(end)
    assert "error" not in server.result, server.result["error"]
    return server.result


def photographed(to_browser: int, from_browser: int) -> bytes:
    """A PNG of the page, asked for over the pipe of Chromium's debugging protocol."""
    messages = bytearray()

    def ask(number: int, method: str, session: str | None = None, **parameters) -> dict:
        question = {"id": number, "method": method, "params": parameters} | (
            {"sessionId": session} if session else {}
        )
        os.write(to_browser, json.dumps(question).encode() + b"\0")
        while True:
            while b"\0" not in messages:
                messages.extend(os.read(from_browser, 1 << 16))
            message, _, rest = bytes(messages).partition(b"\0")
            messages[:] = rest
            answer = json.loads(message)
            if answer.get("id") == number:
                return answer["result"]

    targets = ask(1, "Target.getTargets")["targetInfos"]
    page = next(target["targetId"] for target in targets if target["type"] == "page")
    session = ask(2, "Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
    return base64.b64decode(ask(3, "Page.captureScreenshot", session)["data"])


@pytest.fixture(scope="module")
def exported(graft, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "digits"
    done = graft(
        "train",
        "image-classification",
        "--data",
        "digits",
        "--out",
        run,
        "--backbone",
        "mobilenet_v2_0.35",
        "--weights",
        "bundled",
        "--image-size",
        "64",
        "--epochs",
        "6",
        "--learning-rate",
        "1e-3",
        "--augment",
    )
    assert done.returncode == 0, done.stderr
    assert graft("export", run, "--formats", "tflite", "onnx").returncode == 0
    return run / "export"


def scene(seed: int, size: tuple[int, int]) -> Image.Image:
    """A picture of smooth shades and hard edges, of any size."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 255, (6, 7, 3), np.uint8))
    picture = coarse.resize(size, Image.Resampling.BICUBIC)
    picture.paste(
        tuple(map(int, rng.integers(0, 255, 3))),
        (size[0] // 4, size[1] // 3, size[0] // 2, size[1] // 2),
    )
    return picture


def test_both_runtimes_answer_as_predict_does(graft, page, exported, tmp_path):
    shutil.copytree(exported, page / "model", dirs_exist_ok=True)
    photos = page / "photos"
    photos.mkdir(exist_ok=True)
    sizes = ((64, 64), (100, 80), (50, 40), (127, 128), (33, 120), (128, 64), (90, 90), (120, 121))
    for i, size in enumerate(sizes):
        picture = scene(i, size)
        # A rotated one, a transparent one, and both kinds of file. JPEGs have all their colours (no
        # subsampling): Chromium blows reduced ones up by repetition, libjpeg smoothly, and scores
        # then differ in the third digit.
        if i == 5:
            exif = Image.Exif()
            exif[0x0112] = 6
            picture.save(photos / f"{i}.jpg", quality=92, subsampling=0, exif=exif)
        elif i == 6:
            picture.putalpha(Image.new("L", size, 255))
            picture.save(photos / f"{i}.png")
        else:
            options = {"quality": 92, "subsampling": 0} if i % 2 else {}
            picture.save(photos / (f"{i}.jpg" if i % 2 else f"{i}.png"), **options)
    compare(graft, page, exported, sorted(file.name for file in photos.iterdir()), tmp_path)


@pytest.mark.parametrize("fit", ["crop", "pad"])
def test_both_runtimes_fit_as_the_manifest_says(graft, page, exported, fit, tmp_path):
    """The same weights, exported as if trained with another fit."""
    run = tmp_path / "run"
    shutil.copytree(exported.parent, run, ignore=shutil.ignore_patterns("export"))
    described = json.loads((run / "preprocessing.json").read_text())
    (run / "preprocessing.json").write_text(json.dumps({**described, "fit": fit}))
    assert graft("export", run, "--formats", "tflite", "onnx").returncode == 0
    for name in ("model", "photos"):
        shutil.rmtree(page / name, ignore_errors=True)
    shutil.copytree(run / "export", page / "model")
    (page / "photos").mkdir()
    sizes = ((64, 64), (100, 80), (50, 40), (127, 128), (33, 120), (128, 64), (200, 30), (121, 64))
    for i, size in enumerate(sizes):
        scene(i, size).save(page / "photos" / f"{i}.png")
    names = sorted(file.name for file in (page / "photos").iterdir())
    compare(graft, page, run / "export", names, tmp_path)


def test_real_photos(graft, train_clothes, clothing, page, tmp_path):
    """A fine-tuned MobileNetV2 on eight photos of clothes."""
    run = tmp_path / "run"
    train_clothes(run, 3, "--per-class", "20")
    assert graft("export", run, "--formats", "tflite", "onnx").returncode == 0
    shutil.rmtree(page / "model", ignore_errors=True)
    shutil.copytree(run / "export", page / "model")
    shutil.rmtree(page / "photos", ignore_errors=True)
    (page / "photos").mkdir()
    names = []
    for file in sorted((clothing / "test").rglob("*.jpg"))[::46][:8]:
        names.append(f"{len(names)}.png")  # not as JPEG: see above
        Image.open(file).convert("RGB").save(page / "photos" / names[-1])
    compare(graft, page, run / "export", names, tmp_path)


def compare(graft, page, exported, names, tmp_path):
    assert len(names) == 8
    result = driven(page, names, tmp_path / "profile")
    for runtime, file in (("litert", "model.tflite"), ("onnx", "model.onnx")):
        told = graft(
            "predict", exported / file, *(page / "photos" / name for name in names), "--json"
        )
        expected = json.loads(told.stdout)
        assert np.std([list(e["scores"].values()) for e in expected], axis=0).max() > 0.02, (
            "answers that differ"
        )
        for name, here, there in zip(names, expected, result["scores"][runtime], strict=True):
            for label, score in here["scores"].items():
                assert there[label] == pytest.approx(score, abs=1e-3), (runtime, name, label)
        best = max(expected[0]["scores"], key=expected[0]["scores"].get)
        assert result["shown"][runtime].split()[0] == best.split()[0]


def test_the_page_looks_right(page, exported, tmp_path):
    """A digit of the built-in data, as a person sees it labelled."""
    from graft.recipes.data.builtin import digits

    shutil.copytree(exported, page / "model", dirs_exist_ok=True)
    photos = page / "photos"
    photos.mkdir(exist_ok=True)
    image, _ = next(iter(digits.load()))
    Image.fromarray(image).resize((256, 256), Image.Resampling.BICUBIC).save(photos / "digit.png")
    shot = tmp_path / "web.png"
    driven(page, ["digit.png"], tmp_path / "profile", shot)
    pixels = np.asarray(Image.open(shot).convert("L"))
    assert pixels.std() > 15
    if os.environ.get("GRAFT_RESULTS"):
        shutil.copy(shot, Path(os.environ["GRAFT_RESULTS"]) / "web.png")
