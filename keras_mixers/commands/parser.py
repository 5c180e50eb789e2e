"""The parser of the command line, put together from the modules of the commands."""

import argparse

from keras_mixers.commands import evaluate, explore, export, models, predict, train
from keras_mixers.commands.exits import NAME, TRACEBACK
from keras_mixers.version import __version__

DESCRIPTION = "Train, evaluate, use, export and explore ViT, MLP-Mixer, ConvMixer and hybrids."
EPILOG = f"""\
A first tour, on images that need no download:
  {NAME} train digits
  {NAME} evaluate out/model.keras digits --report evaluation.html
  {NAME} export out/model.keras digits.onnx
  {NAME} models '*dinov2*'

Exit codes: 0 success, 1 error, 2 wrong usage, 130 interrupted by Ctrl-C, 143 ended by
SIGTERM (train). With {TRACEBACK}=1 in the environment, errors have tracebacks.
"""
COMMANDS = {
    "train": train,
    "evaluate": evaluate,
    "predict": predict,
    "export": export,
    "explore": explore,
    "models": models,
}


class Format(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    """Keeps the lines of descriptions and examples, and adds the default of each flag."""

    def _get_help_string(self, action):
        if action.default is None or action.default is False:  # and not if it is 0
            return action.help
        return super()._get_help_string(action)


def parse(arguments):
    """The flags of one command. `--help` and a wrong flag end the process, with code 0 and 2."""
    parser = argparse.ArgumentParser(
        NAME, description=DESCRIPTION, epilog=EPILOG, formatter_class=Format, allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"{NAME} {__version__}")
    commands = parser.add_subparsers(metavar="command", required=True)
    for name, command in COMMANDS.items():
        summary, _, text = command.__doc__.partition("\n\n")
        flags = commands.add_parser(
            name,
            help=summary[0].lower() + summary[1:].rstrip("."),
            description=summary,
            epilog=text,
            formatter_class=Format,
            allow_abbrev=False,
        )
        command.add_flags(flags)
        flags.set_defaults(run=command.run, command=name)
    return parser.parse_args(arguments)
