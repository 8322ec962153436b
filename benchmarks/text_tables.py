"""The text data sets of GRAFT_DATA as sources that the recipes read, written outside the project.

    GRAFT_DATA=... python benchmarks/text_tables.py build/tables

gives sst2.csv, trec.csv (official splits; TREC has no validation part, so that 15 % of its training
part become one), subj.csv (no official splits: 70/15/15 by split seed 0, made by the recipes),
wnut17/ (train, dev and test .conll) and snips/.
"""

import csv
import shutil
import sys
import tempfile
from pathlib import Path

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.text_corpus import read_labelled, unpacked

__all__ = ["main"]

SST2 = {"stsa.binary.train": "train", "stsa.binary.dev": "validation", "stsa.binary.test": "test"}
TREC = {"TREC.train.all": "train", "TREC.test.all": "test"}
NAMES = {
    "sst2": ("negative", "positive"),
    "trec": ("description", "entity", "abbreviation", "human", "location", "number"),
    "subj": ("subjective", "objective"),
}


def main(target: Path) -> None:
    """Write all of them into the folder `target`."""
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        root = unpacked(Path(scratch))
        folder = root / "sentence_classification" / "data"
        for name, files in (("sst2", SST2), ("trec", TREC), ("subj", {"subj.all": None})):
            with (target / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(("text", "label", "split")[: 2 if None in files.values() else 3])
                for source, split in files.items():
                    for text, label in read_labelled(folder / source):
                        writer.writerow((text, NAMES[name][int(label)], split)[: 3 if split else 2])
        tweets = target / "wnut17"
        tweets.mkdir(exist_ok=True)
        parts = {
            "train": "wnut17train.conll",
            "dev": "emerging.dev.conll",
            "test": "emerging.test.annotated",
        }
        for part, source in parts.items():
            shutil.copy(root / "wnut17_ner" / source, tweets / f"{part}.conll")
        shutil.copytree(
            root / "atis_snips_joint" / "data" / "snips", target / "snips", dirs_exist_ok=True
        )
    print(*sorted(path.name for path in target.iterdir()))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
