"""`graft`: dispatches to one module a verb, and turns Graft's own errors into one line and an exit
code.

Only the module of the verb that was asked for is imported, so that `graft --help` and `graft zoo`
stay quick.

Exit codes: 0 done; 1 it ran and a check failed; 2 the request or the data is wrong; 130 interrupted
    (Ctrl-C), 143 and 129
asked to end by SIGTERM and by a terminal that closes (SIGHUP).
"""

import contextlib
import importlib
import signal
import sys
from collections.abc import Sequence

from graft.zoo.shown import one_line, shown
from graft.zoo.terminal import settle_terminal

__all__ = ["VERBS", "main"]

VERBS = {
    "demo": "the main job on what is built in: offline, no download",
    "zoo": "list the backbones",
    "train": "train a recipe on your data",
    "export": "write a run as SavedModel, TFLite and ONNX, smaller if asked, and measure each file",
    "predict": "label images with a run or any exported file",
    "evaluate": "measure a run or any exported file on labelled data",
    "suggest": "rank backbones for your data before anything is trained",
    "bench": (
        "train a grid of backbones and schedules: accuracy against training time, latency and size"
    ),
    "convert": "images with boxes as COCO, YOLO or Pascal VOC",
    "measure": "size, latency, memory and accuracy of any files, in one table",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `graft` with `arguments` (default: those of the process); always ends in SystemExit."""
    settle_terminal()
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_usage())
        sys.exit(0 if arguments else 2)
    if arguments[0] == "--version":
        from importlib.metadata import version

        print(version("graft-zoo"))
        sys.exit(0)
    sys.exit(_run(arguments[0], arguments[1:]))


def _run(verb: str, arguments: list[str]) -> int:
    from graft.zoo.errors import GraftError, UnknownName
    from graft.zoo.processes import Ended, ended_by_signals, with_parent

    name = shown(verb)
    try:
        if verb not in VERBS:
            raise UnknownName("command", verb, VERBS, see="`graft --help` lists them all.")
        with ended_by_signals(), with_parent():
            return importlib.import_module(f"graft.recipes.commands.{verb}").command(arguments) or 0
    except GraftError as error:
        print(f"graft {name}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt as error:
        number = error.signal if isinstance(error, Ended) else signal.SIGINT
        told = "interrupted" if number == signal.SIGINT else f"ended by {number.name}"
        with contextlib.suppress(OSError):  # the terminal may have gone
            print(
                ": ".join([f"graft {name}", told, *map(shown, getattr(error, "__notes__", ()))]),
                file=sys.stderr,
            )
        return 128 + number
    except BrokenPipeError:
        # `graft zoo | head`: the reader has gone; say nothing, and keep Python from complaining at
        # exit.
        sys.stdout = None
        return 0
    except OSError as error:
        told = f"'{error.filename}': {error.strerror}" if error.filename else str(error)
        print(f"graft {name}: {one_line(told)}", file=sys.stderr)
        return 2


def _usage() -> str:
    width = max(map(len, VERBS))
    lines = [f"  graft {verb:<{width}}  {text}" for verb, text in VERBS.items()]
    return "\n".join(
        [
            "usage: graft COMMAND [OPTIONS]",
            "",
            "Transfer learning whose results leave Python as files.",
            "",
            *lines,
            "",
            "`graft COMMAND --help` explains the options of a command.",
        ]
    )


if __name__ == "__main__":
    main()
