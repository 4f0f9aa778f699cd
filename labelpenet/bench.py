"""Where `labelpenet bench` finds the benchmarks: in the package, or beside a checkout's."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import labelpenet


def suite() -> ModuleType:
    """`command` of the folder benchmarks/, which a wheel holds as `labelpenet.benchmarks`.

    Raises:
        FileNotFoundError: It is in neither place.
    """
    home = Path(labelpenet.__file__).resolve().parent
    for name, folder in (("labelpenet.benchmarks", home), ("benchmarks", home.parent)):
        if (folder / "benchmarks" / "command.py").is_file():
            found = importlib.import_module(f"{name}.command")
            if Path(str(found.__file__)).resolve().parents[1] == folder:
                return found
    raise FileNotFoundError(
        f"no benchmarks in {home} or beside it; install labelpenet with pip, or run "
        "`python -m benchmarks` at the root of a checkout"
    )
