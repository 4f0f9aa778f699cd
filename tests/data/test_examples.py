"""The examples in the docstrings run."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import labelpenet.data

NAMES = [module.name for module in pkgutil.iter_modules(labelpenet.data.__path__)]


@pytest.mark.parametrize("name", NAMES)
def test_examples(name):
    module = importlib.import_module(f"labelpenet.data.{name}")
    assert doctest.testmod(module).failed == 0
