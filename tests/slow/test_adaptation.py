"""Adaptation on real handwriting: MNIST's labels, USPS's pictures."""

from benchmarks import adaptation_data
from graft.recipes import domain_adaptation
from graft.recipes.report.run_file import read_run
from graft.recipes.train.settings import FitSettings


def test_mnist_to_usps(graft_data, tmp_path):
    out = domain_adaptation.main(
        domain_adaptation.Config(
            data=str(adaptation_data.folder("mnist", tmp_path)),
            target=str(adaptation_data.folder("usps", tmp_path)),
            out=tmp_path / "run",
            backbone=str(adaptation_data.digits_net(tmp_path)),
            schedule="scratch",
            epochs=4,
            methods=("coral", "adabn"),
            target_labels=True,
            fit=FitSettings(batch_size=64, augment=("crop",)),
        )
    )
    rows = {row["method"]: row["accuracy"] for row in read_run(out)["adaptation"]["rows"]}
    assert max(rows["coral"], rows["adabn"]) >= max(0.93, rows["source_only"]), (
        "one of them helps, as with five seeds"
    )
    assert min(rows.values()) >= 0.85, "a method may do harm, not havoc"
