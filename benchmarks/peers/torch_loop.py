"""The peer in PyTorch: a head on a frozen MobileNetV2, features recomputed each epoch, or cached by
hand. Not code of Graft.

    python benchmarks/peers/torch_loop.py CLOTHING

Needs torch and transformers (extra `peers`). Random weights: the speed is the same, an accuracy is
not claimed.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset
from transformers import MobileNetV2Config, MobileNetV2Model

EPOCHS = 20


def read(folder: Path) -> TensorDataset:
    """All photos of a split, decoded once."""
    classes = sorted(path.name for path in folder.iterdir())
    files = [
        (path, i) for i, name in enumerate(classes) for path in sorted((folder / name).iterdir())
    ]
    pixels = np.stack(
        [np.asarray(Image.open(path).convert("RGB").resize((160, 160))) for path, _ in files]
    )
    return TensorDataset(torch.from_numpy(pixels), torch.tensor([label for _, label in files]))


def features(model, pixels):
    """Pooled features `(b, 1280)`."""
    with torch.inference_mode():
        return model(pixels.permute(0, 3, 1, 2).float() / 127.5 - 1).pooler_output


def run(data: Path, cached: bool) -> float:
    """Seconds of 20 epochs with a validation pass after each, decoding included."""
    torch.manual_seed(0)
    start = time.perf_counter()
    splits = {split: read(data / split) for split in ("train", "validation")}
    model = MobileNetV2Model(MobileNetV2Config(image_size=160, tf_padding=False)).eval()
    if cached:
        for split, dataset in splits.items():
            made = torch.cat([features(model, pixels) for pixels, _ in DataLoader(dataset, 64)])
            splits[split] = TensorDataset(made.clone(), dataset.tensors[1])
    head = torch.nn.Sequential(torch.nn.Dropout(0.2), torch.nn.Linear(1280, 10))
    optimizer = torch.optim.AdamW(head.parameters(), 2e-3)
    batches = {
        s: DataLoader(d, 32, shuffle=s == "train", drop_last=s == "train")
        for s, d in splits.items()
    }
    for _ in range(EPOCHS):
        head.train()
        for inputs, targets in batches["train"]:
            inputs = inputs if cached else features(model, inputs).clone()
            loss = torch.nn.functional.cross_entropy(head(inputs), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        head.eval()
        with torch.inference_mode():
            for inputs, _ in batches["validation"]:
                head(inputs if cached else features(model, inputs))
    return time.perf_counter() - start


def main(data: str) -> None:
    """Measure both ways and print them."""
    seconds = {
        "features cached by hand": run(Path(data), True),
        "features recomputed each epoch": run(Path(data), False),
    }
    note = f"transformers' MobileNetV2, {torch.get_num_threads()} threads, random weights"
    print(json.dumps({"seconds": seconds, "version": torch.__version__, "note": note}))


if __name__ == "__main__":
    main(*sys.argv[1:])
