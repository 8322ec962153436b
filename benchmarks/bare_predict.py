"""What `graft predict` would take if it did nothing but decode and ask: Pillow's draft and resize
in as many threads as there are processors, and one LiteRT interpreter on all of them, an image at a
time. A part of scale.py.

    python benchmarks/bare_predict.py MODEL.tflite FOLDER SIZE

prints the path of each image and the number of its most likely label.
"""

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from PIL import Image


def main(model: str, folder: str, size: int) -> None:
    """Ask a file with a float32 input of one image."""

    def decoded(file: Path) -> np.ndarray:
        with Image.open(file) as image:
            image.draft("RGB", (2 * size, 2 * size))
            small = image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR)
            return np.asarray(small, np.float32)

    interpreter = Interpreter(model_path=model, num_threads=os.cpu_count())
    interpreter.allocate_tensors()
    taken = interpreter.get_input_details()[0]["index"]
    given = interpreter.get_output_details()[0]["index"]
    files = sorted(Path(folder).rglob("*.jpg"))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for file, pixels in zip(files, pool.map(decoded, files), strict=True):
            interpreter.set_tensor(taken, pixels[None])
            interpreter.invoke()
            print(file, interpreter.get_tensor(given)[0].argmax(), sep="\t")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
