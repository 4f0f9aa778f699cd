"""Calling the command line in this process."""

from tiny_cascade import OVERRIDES
from typer.testing import CliRunner

from labelpenet import cli

SET = [word for override in OVERRIDES for word in ("--set", override)]


def run(*arguments: object):
    """The command in this process; what it raises is the test's to see."""
    words = [str(argument) for argument in arguments]
    return CliRunner().invoke(cli.app, words, catch_exceptions=False)
