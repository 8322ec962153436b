// The page: a photo or a frame of the camera in, the best labels out.

import { RUNTIMES } from "./model.js";
import { decode } from "./picture.js";

const SHOWN = 5;
const folder = new URLSearchParams(location.search).get("model") ?? "model";
const find = (id) => document.getElementById(id);
const loaded = {};
let last = null;
let asked = 0;

/** The model in one of the runtimes, loaded when it is first asked for. */
function model(runtime) {
  loaded[runtime] ??= RUNTIMES[runtime](folder);
  return loaded[runtime];
}

/** Probabilities by label, for a picture; also what the tests of the page call. */
export async function classify(source, runtime) {
  const { labels, shape, fit, classify } = await model(runtime);
  const pixels = await decode(source, shape, fit);
  const start = performance.now();
  const scores = await classify(pixels);
  const ms = performance.now() - start;
  return { ms, scores: Object.fromEntries(labels.map((label, i) => [label, scores[i]])) };
}

async function show(source) {
  last = source;
  const ticket = ++asked; // a slower answer to an earlier question must not take the place of this one
  const runtime = document.querySelector("input[name=runtime]:checked").value;
  say("Looking ...");
  try {
    const { ms, scores } = await classify(source, runtime);
    if (ticket !== asked) return;
    const best = Object.entries(scores).sort((a, b) => b[1] - a[1]).slice(0, SHOWN);
    find("labels").replaceChildren(...best.map(row));
    say(`${ms.toFixed(1)} ms with ${runtime === "litert" ? "LiteRT" : "onnxruntime"}`);
  } catch (error) {
    if (ticket === asked) fail(error);
  }
}

function row([label, share]) {
  const item = document.createElement("li");
  const [name, bar, number] = ["span", "span", "span"].map((tag) => document.createElement(tag));
  name.textContent = label;
  bar.className = "bar";
  bar.append(document.createElement("i"));
  bar.firstChild.style.width = `${100 * share}%`;
  number.textContent = `${(100 * share).toFixed(1)} %`;
  item.append(name, bar, number);
  return item;
}

function say(text) {
  find("status").className = "";
  find("status").textContent = text;
}

function fail(error) {
  find("labels").replaceChildren();
  find("status").className = "error";
  find("status").textContent = error.message;
}

function take(file) {
  if (!file) return;
  stopCamera();
  URL.revokeObjectURL(find("photo").src);
  find("photo").src = URL.createObjectURL(file);
  find("photo").hidden = false;
  find("hint").hidden = true;
  show(file);
}

async function openCamera() {
  try {
    find("camera").srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch (error) {
    fail(new Error(`the camera cannot be opened: ${error.message}`));
    return;
  }
  await find("camera").play();
  find("photo").hidden = find("hint").hidden = find("open").hidden = true;
  find("camera").hidden = find("shoot").hidden = false;
}

function stopCamera() {
  find("camera").srcObject?.getTracks().forEach((track) => track.stop());
  find("camera").srcObject = null;
  find("camera").hidden = find("shoot").hidden = true;
  find("open").hidden = false;
}

async function shoot() {
  const frame = await createImageBitmap(find("camera"));
  const canvas = new OffscreenCanvas(frame.width, frame.height);
  canvas.getContext("2d").drawImage(frame, 0, 0);
  take(await canvas.convertToBlob());
}

find("file").addEventListener("change", (event) => take(event.target.files[0]));
find("open").addEventListener("click", openCamera);
find("shoot").addEventListener("click", shoot);
for (const kind of ["dragover", "dragleave", "drop"]) {
  find("drop").addEventListener(kind, (event) => {
    event.preventDefault();
    find("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop") take(event.dataTransfer.files[0]);
  });
}
for (const choice of document.querySelectorAll("input[name=runtime]")) {
  choice.addEventListener("change", () => last && show(last));
}
model("litert").then(() => last ?? say("Ready."), fail);
