"""labelpenet: instance masks from photos that only carry image-level tags."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("labelpenet")
except PackageNotFoundError:  # a checkout that was built in place and never installed
    __version__ = "0+unknown"

__all__ = ["__version__"]
