"""What the terminal says of exported files: a line a file, and why one did not pass."""

from collections.abc import Mapping

from graft.zoo.heads.table import in_percent

__all__ = ["file_lines", "undecided"]

SLOWER = 1.1
"""Times the latency of float32 from which a file is called slower."""


def file_lines(row: Mapping, split: str | None, explain: bool = False) -> list[str]:
    """What stdout says of a file: a line, one more for each task where there are several, and those
    that explain it.
    """
    name = row["path"] or f"{row['format']} {row['requested']}"
    if "skipped" in row:
        return [f"{name:<24} skip  {row['skipped']}"]
    if "accuracy" not in row:
        return [f"{name:<24} FAIL  {row['error']}"]
    parity, accuracy = row["parity"], row["accuracy"]
    latency = row["latency_ms"]["one_thread"]["median"] if "latency_ms" in row else float("nan")
    status = {"pass": "pass", "undecided": "undecided", "fail": "FAIL"}[row["status"]]
    parts = row.get("accuracy_of_outputs")
    differs = max(parity["max_abs_diff"], parity["batch_1_diff"] or 0.0)
    text = f"{name:<24} {status:<9}  {row['size_bytes'] / 1e6:7.2f} MB  {latency:7.2f} ms  "
    text += "" if parts else f"{_figure(accuracy, split)}  "
    text += f"max difference {differs:.1e}  agreement {100 * parity['agreement']:.1f} %"
    told = [text + _costs(row)]
    told += [f"  {output}: {_figure(figures, split)}" for output, figures in (parts or {}).items()]
    if row["status"] == "fail":
        told.append(f"  {_failure(row, split)}")
    if row["status"] == "undecided":
        told.append(f"  {undecided(accuracy, split, bool(parts))}")
    if row.get("reason"):
        told.append(f"  {row['reason']}")
    for entry in row.get("layer_errors", ()) if explain else ():
        told.append(f"  {entry['error']:.1e}  {entry['layer'].split(';')[0]}")
    return told


def undecided(accuracy: Mapping, split: str | None, named: bool = False) -> str:
    """Why the examples cannot tell, and how many might."""
    low, high = accuracy["drop_interval"]
    of = f"{accuracy['output']}: " if named else ""
    return (
        f"undecided: {of}{accuracy['drop_points']:.1f} points less "
        f"{accuracy['figure']}{_of_label(accuracy)} than Keras "
        f"(95 % interval {low:.1f} to {high:.1f}): {accuracy['examples']:,} {_called(split)} "
        "cannot tell, about "
        f"{accuracy['enough_examples']:,} would; give more with --data, or --accept-undecided"
    )


def _of_label(accuracy: Mapping) -> str:
    """ " of 'red'": which of several labels or values loses most; empty where there is one
    alone.
    """
    if accuracy.get("unit") is None:
        return ""
    return (
        f" of '{accuracy['label']}'"
        if accuracy.get("label")
        else f" of output {accuracy['unit'] + 1}"
    )


def _figure(accuracy: Mapping, split: str | None) -> str:
    """ "validation accuracy 91.2 % (-0.3; -1.1 to +0.5)": the figure, how it differs from Keras's,
    the interval of that.
    """
    low, high = accuracy["drop_interval"] or (accuracy["drop_points"],) * 2
    value = accuracy["value"]
    shown = f"{100 * value:.1f} %" if in_percent(accuracy["key"]) else f"{value:.3f}"
    change = f"{0.0 - accuracy['drop_points']:+.1f}; {0.0 - high:+.1f} to {0.0 - low:+.1f}"
    return f"{split + ' ' if split else ''}{accuracy['figure']} {shown} ({change})"


def _costs(row: Mapping) -> str:
    """What a smaller file is beside the float32 one; one that is worth less and slower too has to
    say so.
    """
    against = row.get("against_float32")
    if not against or against["latency"] is None:
        return ""
    text = f"  {against['size']:.2f} x size, {against['latency']:.2f} x time of float32"
    if against["latency"] > SLOWER and row["accuracy"]["drop_points"] > 0:
        text += ": SLOWER AND WORTH LESS"
    return text


def _called(split: str | None) -> str:
    return f"{split} examples" if split else "examples"


def _failure(row: Mapping, split: str | None) -> str:
    """Which check a file did not pass, with the numbers."""
    accuracy = row["accuracy"]
    if "error" in row:
        return row["error"]
    if not row["parity"]["passed"]:
        return f"its outputs differ from Keras's by more than a {row['precision']} file may"
    low, high = accuracy["drop_interval"] or (accuracy["drop_points"],) * 2
    of = _of_label(accuracy)  # Keras's own figure is that of all labels
    whole = (
        f"{accuracy['figure']}{of}"
        if of
        else f"{100 * accuracy['reference']:.1f} {accuracy['figure']}"
    )
    return (
        f"it loses {accuracy['drop_points']:.1f} points ({low:.1f} to {high:.1f}) of Keras's "
        f"{whole} on "
        f"{accuracy['examples']} {_called(split)}: more than --max-drop, and more than chance"
    )
