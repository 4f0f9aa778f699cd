"""XML files of strangers: no document types, hence no entities to expand or to fetch."""

from __future__ import annotations

from typing import NoReturn
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from labelpenet.data.entries import DatasetError
from labelpenet.data.locations import AnyPath


def parse_xml(path: AnyPath) -> Element:
    """Parses a file, refusing any <!DOCTYPE>, which is the only place to declare entities.

    Args:
        path: The file.

    Returns:
        The root element.

    Raises:
        DatasetError: It is unreadable, not well formed, or has a document type.
    """

    def refuse(*_: object) -> NoReturn:
        raise DatasetError(f"{path}:{parser.CurrentLineNumber}: a document type is not allowed")

    builder = TreeBuilder()
    parser = expat.ParserCreate()
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(path.read_bytes(), True)
    except expat.ExpatError as error:
        raise DatasetError(f"{path}:{error.lineno}: broken XML: {error}") from error
    except DatasetError:
        raise
    except (OSError, LookupError, ValueError) as error:  # the latter two: an unknown encoding
        raise DatasetError(f"{path}: cannot be read: {error}") from error
    return builder.close()


def child_text(element: Element, tag: str, where: str) -> str:
    """The text of a direct child.

    Raises:
        DatasetError: There is no such child.
    """
    text = element.findtext(tag)
    if text is None:
        raise DatasetError(f"{where}: expected <{tag}> in <{element.tag}>")
    return text
