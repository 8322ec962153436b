// The two runtimes, behind one shape: load(folder) -> { labels, shape, fit, classify(pixels) -> Float32Array of probabilities }.
//
// `folder` is what `graft export` wrote: manifest.json says the size of the pictures, how they are fitted, and the names of
// input and output.

const FITS = ["stretch", "crop", "pad"];

export const RUNTIMES = { litert: loadLiteRT, onnx: loadONNX };

async function loadLiteRT(folder) {
  const { loadLiteRt, loadAndCompile, Tensor } = await import("@litertjs/core");
  const described = await describe(folder);
  await loadLiteRt("./node_modules/@litertjs/core/wasm/");
  const model = await loadAndCompile(`${folder}/model.tflite`, { accelerator: "wasm" });
  const { shape, input, output } = described;
  const sides = [1, shape.height, shape.width, shape.channels];
  return {
    ...described,
    async classify(pixels) {
      const given = new Tensor(pixels, sides);
      const results = await model.run({ [input]: given });
      const scores = Float32Array.from(await results[output].data());
      given.delete();
      results[output].delete();
      return scores;
    },
  };
}

async function loadONNX(folder) {
  const ort = await import("onnxruntime-web");
  ort.env.wasm.wasmPaths = new URL("./node_modules/onnxruntime-web/dist/", document.baseURI).href;
  ort.env.wasm.numThreads = 1; // more need headers that a plain file server does not send
  const described = await describe(folder);
  const session = await ort.InferenceSession.create(`${folder}/model.onnx`, { executionProviders: ["wasm"] });
  const { shape, input, output } = described;
  const sides = [1, shape.height, shape.width, shape.channels];
  return {
    ...described,
    async classify(pixels) {
      const results = await session.run({ [input]: new ort.Tensor("float32", pixels, sides) });
      return results[output].data;
    },
  };
}

async function describe(folder) {
  const answer = await fetch(`${folder}/manifest.json`);
  if (!answer.ok) {
    throw new Error(`there is no ${folder}/manifest.json: copy the folder that graft export made to ${folder}`);
  }
  const manifest = await answer.json();
  const [input] = manifest.inputs;
  const fit = manifest.preprocessing.fit ?? "stretch"; // an older Graft knew nothing else, and did not say it
  if (!FITS.includes(fit)) {
    throw new Error(`${folder}/manifest.json asks for the fit ${fit}: this page knows ${FITS.join(", ")}`);
  }
  const [, height, width, channels] = input.shape;
  if (channels === 4) {
    throw new Error(`${folder} holds a model of pictures with transparency, whose pixels no canvas keeps as they are`);
  }
  const shape = { height, width, channels };
  return { labels: manifest.labels, shape, fit, input: input.name, output: manifest.outputs[0].name };
}
