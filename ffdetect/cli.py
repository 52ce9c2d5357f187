"""The command `ffdetect`: `ffdetect --help` lists what it does.

A command is a module with `make_parser(prog)` and `main(argv, prog)`, and a line in `MODULES`: its
options are declared there alone, and it is imported when it is called.

Exit status of all: 0; 1 if nothing succeeded, or a result could not be written in the end; 2 for
wrong arguments, also an output that is seen before the work to be unwritable; 130 when stopped.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import typer
from typer.core import TyperCommand

from preprocess.arguments import check_folder, finish, status_of

# Name: module, what it does.
MODULES = {
    "crop": ("preprocess.crop", "Find the faces of pictures and clips, write a cache."),
    "sound": ("preprocess.sound", "Cut sound into windows, write a cache."),
    "gallery": ("preprocess.gallery", "Draw faces of a cache beside their maps."),
    "check": ("preprocess.check", "Verify a cache, or repair it."),
    "predict": ("ffdetect.scoring.predict", "Score pictures, clips and sound."),
    "evaluate": ("ffdetect.evaluate", "AUC and TPR, by generator and by real source."),
    "explain": ("ffdetect.scoring.explain", "Draw where in a face the evidence lies."),
    "plot": ("ffdetect.scoring.plot_video", "Draw the scores of a clip over time."),
    "audit": ("ffdetect.audit.audit", "Does anything but the forgery give the label away?"),
    "provenance": ("ffdetect.provenance.command", "What does a file say of itself?"),
    "train": ("ffdetect.training.train", "Train a network by descent."),
    "regenerate": ("ffdetect.fakes.regenerate", "Make aligned fakes of the faces of a cache."),
    "calibrate": ("ffdetect.training.calibrate", "Measure what the scores of weights mean."),
    "export": ("ffdetect.scoring.onnx.export", "Write a detector for ONNX Runtime."),
    "statistics": ("ffdetect.solving.statistics", "Read what linear heads are solved from."),
    "solve": ("ffdetect.solving.solve", "Solve a network of linear heads."),
    "serve": ("ffdetect.serve.server", "Answer over HTTP, with a web page."),
}

app = typer.Typer(
    name="ffdetect",
    help="Finds faces, and scores how likely each is to be a deepfake.",
    epilog="Example: ffdetect predict pictures/ --out prediction.txt",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


class ModuleCommand(TyperCommand):
    """Hands its arguments to the module, whose parser reads them and has the help."""

    module = ""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.args = list(args)
        return ctx.args

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """The module's options; without any, shells complete the names of files."""
        if not incomplete.startswith("-"):
            return []
        parser: argparse.ArgumentParser = import_module(self.module).make_parser()
        return [
            SimpleNamespace(type="plain", value=option, help=action.help)
            for action in parser._actions
            for option in action.option_strings
            if option.startswith(incomplete)
        ]


def _add(name: str, module: str, about: str) -> None:
    def run(context: typer.Context) -> None:
        prog = f"ffdetect {name}"
        raise typer.Exit(status_of(lambda: import_module(module).main(context.args, prog=prog)))

    command = type("Command", (ModuleCommand,), {"module": module})
    app.command(name, help=about, cls=command)(run)


for _name, (_module, _about) in MODULES.items():
    _add(_name, _module, _about)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs a command and exits with its status."""
    check_folder("ffdetect")
    arguments = list(sys.argv[1:] if argv is None else argv)

    def run() -> int:
        try:
            app(arguments, prog_name="ffdetect")
        except SystemExit as ended:  # it always ends so
            return int(ended.code or 0)
        return 0

    finish(run)


if __name__ == "__main__":
    main()
