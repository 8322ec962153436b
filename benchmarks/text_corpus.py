"""The unlabelled text that the bundled text encoder is distilled on, from real data sets; and what
it must never see.

    GRAFT_DATA=... python benchmarks/text_corpus.py build/text

writes `corpus.txt`, one text a line: sentences of product reviews (Amazon, four domains), of film
    reviews (MR, SST),
questions (TREC), customer reviews (CR), spoken commands (SNIPS) and tweets (WNUT-17), of their
training parts. Left out is every sentence of a validation or test part, of the whole of SUBJ (its
splits are made), and, because MR holds the sentences of SST, whatever equals one of those but for
case, blanks and punctuation.
"""

import os
import re
import sys
import tarfile
import tempfile
from pathlib import Path

__all__ = ["main", "read_labelled", "unpacked"]

WORDS = (4, 40)
"""Longer pieces of reviews are cut; shorter ones say nothing."""


def unpacked(folder: Path) -> Path:
    """The text archives of GRAFT_DATA, unpacked into `folder`."""
    data = Path(os.environ["GRAFT_DATA"])
    for name in ("sentence_classification", "amazon_multidomain", "wnut17_ner", "atis_snips_joint"):
        for archive in (data / name).glob("*.tar.xz"):
            with tarfile.open(archive) as file:
                file.extractall(folder / name, filter="data")
    return folder


def read_labelled(path: Path) -> list[tuple[str, str]]:
    """(text, label) of a file of sentence_classification: `label text`, latin-1, lines end with LF
    alone.
    """
    lines = path.read_bytes().decode("latin-1").split("\n")
    return [
        (text.strip(), label)
        for label, _, text in (line.partition(" ") for line in lines)
        if text.strip()
    ]


def main(target: Path) -> None:
    """Write `target`/corpus.txt."""
    with tempfile.TemporaryDirectory() as scratch:
        root = unpacked(Path(scratch))
        sentences = root / "sentence_classification" / "data"
        joint = root / "atis_snips_joint" / "data" / "snips"
        tweets = root / "wnut17_ner"

        held_out = [
            "stsa.binary.dev",
            "stsa.binary.test",
            "stsa.fine.dev",
            "stsa.fine.test",
            "TREC.test.all",
            "subj.all",
        ]
        forbidden = {_key(text) for name in held_out for text, _ in read_labelled(sentences / name)}
        forbidden |= {
            _key(line) for part in ("dev", "test") for line in _lines(joint / part / "seq.in")
        }
        for part in ("emerging.dev.conll", "emerging.test.annotated"):
            forbidden |= {_key(text) for text in _tweets(tweets / part)}

        texts = [
            t
            for n in ("stsa.binary.train", "rt-polarity.all", "custrev.all")
            for t, _ in read_labelled(sentences / n)
        ]
        texts += [text for text, _ in read_labelled(sentences / "TREC.train.all")]
        texts += _lines(joint / "train" / "seq.in") + _tweets(tweets / "wnut17train.conll")
        for file in sorted((root / "amazon_multidomain").rglob("*.review")):
            for review in re.findall(
                r"<review_text>(.*?)</review_text>", file.read_text("latin-1"), re.DOTALL
            ):
                texts += _sentences(review)
        kept = {
            _key(text): " ".join(text.split()) for text in texts if len(text.split()) >= WORDS[0]
        }
        kept = [text for key, text in kept.items() if key not in forbidden]
    target.mkdir(parents=True, exist_ok=True)
    (target / "corpus.txt").write_text("".join(f"{text}\n" for text in kept), encoding="utf-8")
    print(f"{len(kept):,} texts, {len(forbidden):,} sentences held out: {target / 'corpus.txt'}")


def _key(text: str) -> str:
    return re.sub(r"[\W_]+", "", text.lower())


def _lines(path: Path) -> list[str]:
    return [line.strip() for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]


def _tweets(path: Path) -> list[str]:
    blocks = re.split(r"\n[ \t]*\n", path.read_text(encoding="utf-8"))
    return [
        " ".join(line.split("\t")[0] for line in block.split("\n") if line.strip())
        for block in blocks
    ]


def _sentences(review: str) -> list[str]:
    """Sentences of a review; two short neighbours stay together, a long one is cut."""
    found: list[str] = []
    for sentence in re.split(r"(?<=[.!?])\s+", " ".join(review.split())):
        words = sentence.split()
        if found and len(found[-1].split()) < 8:
            found[-1] += " " + sentence
        else:
            found += [" ".join(words[i : i + WORDS[1]]) for i in range(0, len(words), WORDS[1])]
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]))
