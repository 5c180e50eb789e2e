"""The help of each command."""

import shlex

import pytest
from run_command import run_command

from keras_mixers.commands.parser import COMMANDS, EPILOG, parse


def examples(text):
    """The command lines of a help text, as lists of words."""
    lines = [line.strip() for line in text.splitlines() if line.startswith("  keras-mixers ")]
    return [shlex.split(line.partition(" > ")[0])[1:] for line in lines]


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_examples_that_parse(name, tmp_path):
    code, text, _ = run_command(name, "--help", cwd=tmp_path)
    assert code == 0
    assert examples(text)
    for words in examples(text):
        args = parse(words)
        assert args.command == name == words[0]
        assert args.run is COMMANDS[name].run
    assert all(parse(words).run for words in examples(EPILOG))


def test_help_shows_a_default_of_0(tmp_path):
    _, text, _ = run_command("train", "--help", cwd=tmp_path)
    assert "seed of all random numbers (default: 0)" in " ".join(text.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: command"),
        (["trian"], "invalid choice: 'trian'"),
        (["train", "digits", "--epochs", "0"], "argument --epochs: must be 1 or more, not 0"),
        (["train", "digits", "--epochs", "two"], "--epochs: invalid int value: 'two'"),
        (["train", "digits", "--learning-rate", "nan"], "must be a finite number above 0, not nan"),
        (["train", "digits", "--resume", "--overwrite"], "not allowed with argument --resume"),
        (["predict", "a.keras", "b.png", "--json", "--csv"], "not allowed with argument --json"),
        (["export", "a.keras", "b.onnx", "--quant", "int8"], "unrecognized arguments: --quant"),
    ],
)
def test_wrong_usage_has_exit_code_2(arguments, message, tmp_path):
    code, output, errors = run_command(*arguments, cwd=tmp_path)
    assert (code, output) == (2, "")
    assert message in errors
