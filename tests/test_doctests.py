"""Runs the examples in the docstrings of the installed package."""

import doctest
import importlib
import pkgutil
import tempfile

import pytest

import labelpenet

MODULES = sorted(
    m.name
    for m in pkgutil.walk_packages(labelpenet.__path__, "labelpenet.")
    if not m.name.rpartition(".")[2].startswith("_C")
    # which have no examples, and import peers that need not be there
    and not m.name.startswith("labelpenet.benchmarks")
)


@pytest.mark.parametrize("name", MODULES)
def test_examples(name, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # where examples leave their files
    module = importlib.import_module(name)
    result = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0
