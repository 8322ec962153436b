"""What the report says of comparisons: transfer and scratch, tasks together and alone, adaptation
and none.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from graft.recipes.report import headline, wording
from graft.recipes.report.drawing import figures

__all__ = ["adaptation_section", "counted_words_section", "sharing_rows", "verdict_section"]

Tree = Mapping[str, Any]


def verdict_section(verdict: Tree | None) -> Tree | None:
    """Transfer against training from scratch: the judgement and either side."""
    if not verdict:
        return None
    sides = [
        {
            "name": name,
            "accuracy": verdict[key]["accuracy"],
            "mean": float(np.mean(verdict[key]["accuracy"])),
            "seconds": float(np.mean(verdict[key]["seconds"])),
        }
        for key, name in (("transfer", "Transfer"), ("scratch", "From random weights"))
    ]
    said = wording.judgement(verdict, "Transfer")
    return {
        **said,
        "text": wording.verdict_text(verdict),
        "sides": sides,
        "seeds": len(verdict["gain_points"]),
    }


def counted_words_section(counted: Tree | None) -> Tree | None:
    """The model against counted words: the judgement and either side."""
    if not counted:
        return None
    headings = {
        "gained": "▲ Better than counted words",
        "lost": "▼ Counted words are better",
        "undecided": "◆ Counted words: cannot be told apart",
    }
    interval, text = counted.get("interval"), counted["text"]
    return {
        **counted,
        "heading": headings.get(counted["decision"], "Counted words"),
        "text": text[:1].upper() + text[1:],
        "sides": [("This model", counted["trained"]), (counted["model"], counted["value"])]
        if "value" in counted
        else [],
        "gain": counted.get("mean_points"),
        "interval": f"{wording.points(interval[0])} to {wording.points(interval[1])}"
        if interval
        else "",
    }


def sharing_rows(facts: Tree) -> list[Tree]:
    """A row a task: what it has beside the others and by itself, and whether sharing helped it."""
    names = {head["key"]: head["name"] for head in headline.heads_of(facts)}
    rows = []
    for shared in facts.get("sharing", ()):
        key = shared.get("key", "")
        sides = {
            side: {
                "by_seed": [wording.as_measured(value, key) for value in shared[side]],
                "mean": wording.as_measured(_mean(shared[side]), key),
            }
            for side in ("together", "alone")
        }
        said = wording.judgement(shared, "Sharing")
        rows.append({"task": shared["task"], "figure": names.get(key, "accuracy"), **said, **sides})
    return rows


def _mean(values: Sequence[float | None]) -> float | None:
    return None if None in values or not values else float(np.mean(values))


def adaptation_section(adaptation: Tree | None, places: Tree | None) -> Tree | None:
    """The methods with means and ranges over the seeds, and the features before and after."""
    from markupsafe import Markup

    if adaptation is None:
        return None
    keys = ("accuracy", "labelled", "information", "iwv", "seconds")
    kept, rows = adaptation["chosen"]["method"], []
    verdicts = {
        name: wording.judgement(said, name) for name, said in adaptation["verdicts"].items()
    }
    for method in dict.fromkeys(row["method"] for row in adaptation["rows"]):
        of = [row for row in adaptation["rows"] if row["method"] == method]
        values = {key: [row[key] for row in of] for key in keys if of[0][key] is not None}
        spans = {
            key: {"mean": float(np.mean(v)), "low": min(v), "high": max(v)}
            for key, v in values.items()
        }
        rows.append({"method": method, "seeds": len(of), "chosen": method == kept, **spans})
    maps = [
        (
            name,
            Markup(
                figures.feature_map(f"map-{name}", places[name], places["domain"], places["label"])
            ),
        )
        for name in (("before", "after") if places is not None else ())
    ]
    return {**adaptation, "verdicts": verdicts, "methods": rows, "maps": maps}
