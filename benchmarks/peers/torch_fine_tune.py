"""The peer: PyTorch's transfer-learning tutorial, a plain loop that tunes everything. Not code of
Graft.

    python benchmarks/peers/torch_fine_tune.py CLOTHING WEIGHTS EPOCHS SEED

The tutorial's optimizer (SGD 1e-3, momentum 0.9, a tenth after 7 epochs), batches of 4,
augmentation, up to 4 processes that decode, best weights kept; its sizes changed to 160 pixels.
Prints {"curve": [[seconds, validation accuracy]], "test"}; the clock starts before the folder is
read.
"""

import json
import os
import sys
import time

import torch
from mobilenet_torch import body
from torchvision import datasets, transforms

SIZE = 160
SCALE = [transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.5] * 3)]
TRAIN = transforms.Compose(
    [transforms.RandomResizedCrop(SIZE), transforms.RandomHorizontalFlip(), *SCALE]
)
MEASURE = transforms.Compose([transforms.Resize(SIZE), transforms.CenterCrop(SIZE), *SCALE])


def main(data: str, weights: str, epochs: str, seed: str) -> None:
    """Train and print."""
    torch.manual_seed(int(seed))
    start = time.perf_counter()
    sets = {
        split: datasets.ImageFolder(f"{data}/{split}", TRAIN if split == "train" else MEASURE)
        for split in ("train", "validation", "test")
    }
    loaders = {
        split: torch.utils.data.DataLoader(
            part,
            batch_size=4 if split == "train" else 64,
            shuffle=split == "train",
            num_workers=min(4, os.cpu_count()),
        )
        for split, part in sets.items()
    }
    pool = [torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()]
    model = torch.nn.Sequential(
        body(weights), *pool, torch.nn.Linear(1280, len(sets["train"].classes))
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001, momentum=0.9)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=7, gamma=0.1)

    def accuracy(split: str) -> float:
        model.eval()
        with torch.inference_mode():
            right = sum((model(x).argmax(-1) == y).sum().item() for x, y in loaders[split])
        return right / len(sets[split])

    curve, best, kept = [], -1.0, {}
    for _ in range(int(epochs)):
        model.train()
        for inputs, targets in loaders["train"]:
            loss = torch.nn.functional.cross_entropy(model(inputs), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
        reached = accuracy("validation")
        curve.append([time.perf_counter() - start, reached])
        if reached > best:
            best, kept = (
                reached,
                {name: value.clone() for name, value in model.state_dict().items()},
            )
    model.load_state_dict(kept)
    print(
        json.dumps(
            {"curve": curve, "test": accuracy("test"), "version": f"torch {torch.__version__}"}
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
