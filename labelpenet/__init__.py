"""labelpenet: instance masks from photos that only carry image-level tags."""

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from labelpenet.labeler import Labeler

try:
    __version__ = version("labelpenet")
except PackageNotFoundError:  # a checkout that was built in place and never installed
    __version__ = "0+unknown"

__all__ = ["Labeler", "__version__"]


def __getattr__(name: str) -> object:
    """Imports `Labeler` when it is asked for: the command starts without torch."""
    if name == "Labeler":
        from labelpenet.labeler import Labeler

        return Labeler
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
