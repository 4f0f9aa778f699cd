"""YAML as its version 1.2 reads plain values: PyYAML's 1.1 takes 1e-4 for text and 010 for 8."""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Any

import yaml

# By type: what a value looks like, and the characters it may start with (YAML 1.2.2, 10.3.2).
_PLAIN = (
    ("null", r"null|Null|NULL|~|", [*"nN~", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", [*"tTfF"]),
    ("int", r"[-+]?[0-9]+", [*"-+0123456789"]),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", [*"-+.0123456789"]),
    ("float", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", [*"-+."]),
)


class _Loader(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"found the key {key.value!r} twice", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {}  # none of 1.1's
for _kind, _pattern, _first in _PLAIN:
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_kind}", re.compile(f"^(?:{_pattern})$"), _first
    )
_Loader.add_constructor("tag:yaml.org,2002:int", lambda _, node: int(node.value))


def read_yaml(text: str) -> Any:
    """Plain values of a document; a key that stands twice in a section is an error.

    Raises:
        yaml.YAMLError: No YAML.
        ValueError: A number of too many digits.
        RecursionError: Nested too deeply.

    Example:
        >>> read_yaml("[1e-4, 010, 1:30, yes, '1e5', 2020-13-45, ~]")
        [0.0001, 10, '1:30', 'yes', '1e5', '2020-13-45', None]
    """
    return yaml.load(text, Loader=_Loader)
