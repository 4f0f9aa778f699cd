"""Ground truth that is read from disk when it is asked for."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping

from labelpenet.types import GroundTruth

VOID = 255
MAX_CLASSES = 254  # what a semantic map of uint8 can number beside background and void


class LazyTruth(Mapping[str, GroundTruth]):
    """Ground truth by image name, read anew at every access: masks of all images are many GB."""

    def __init__(self, names: Iterable[str]) -> None:
        """The names of the images whose ground truth `read` gives."""
        self._names = dict.fromkeys(names)

    @abstractmethod
    def read(self, name: str) -> GroundTruth:
        """The ground truth of an image that is there."""

    def __getitem__(self, name: str) -> GroundTruth:
        if name not in self._names:
            raise KeyError(name)
        return self.read(name)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
