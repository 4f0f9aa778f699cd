"""Settings from TOML or YAML files, presets and overrides."""

from __future__ import annotations

import dataclasses
import difflib
import sys
import typing
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from labelpenet.config.settings import Config
from labelpenet.config.yaml12 import read_yaml

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


class ConfigError(ValueError):
    """A settings file or an override that cannot be used; says which key and why."""


def presets() -> list[str]:
    """Names that load_config takes in place of a file."""
    folder = resources.files("labelpenet") / "presets"
    return sorted(
        f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml")
    )


def load_config(source: str | Path | None = None, overrides: Sequence[str] = ()) -> Config:
    """Reads a settings file and applies `section.key=value` overrides.

    Args:
        source: A .toml, .yaml or .yml file, or the name of a preset; None for the defaults.
        overrides: Such as `train.rate=1e-4` or `train.steps=[10,10,10,10]` (values as in YAML).

    Raises:
        ConfigError: An unreadable file, an unknown key (the nearest one is named) or a bad value.

    Example:
        >>> load_config(None, ["calibration.nms_threshold=0.4"]).calibration.nms_threshold
        0.4
    """
    values = {} if source is None else _read(source)
    override(values, overrides)
    return config_from_dict(values, "defaults" if source is None else str(source))


def override(values: dict[str, Any], overrides: Sequence[str]) -> None:
    """Sets settings in the plain values of a Config, in place.

    Args:
        values: As Config.to_dict gives them; sections that are not there are made.
        overrides: As load_config takes them. Keys are not checked here, see config_from_dict.

    Raises:
        ConfigError: An override that is no `section.key=value`, or goes through a value.

    Example:
        >>> values = {"train": {"rate": 0.1}}
        >>> override(values, ["train.rate=1e-4", "seed=3"])
        >>> values
        {'train': {'rate': 0.0001}, 'seed': 3}
    """
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise ConfigError(f"override {text!r}: expected section.key=value")
        node = values
        *sections, last = key.strip().split(".")
        for section in sections:
            node = node.setdefault(section, {})
            if not isinstance(node, dict):
                raise ConfigError(f"override {text!r}: {section} is a value, not a section")
        node[last] = _parse(value, text)


def config_from_dict(values: Mapping[str, Any], origin: str = "config") -> Config:
    """Builds a Config from plain values; raises ConfigError naming `origin` and the key."""
    _refuse_unknown(values, Config, origin, ())
    try:
        return TypeAdapter(Config).validate_python(dict(values))
    except ValidationError as error:
        lines = [_told(tuple(e["loc"]), e["msg"], e["input"]) for e in error.errors()]
        raise ConfigError(f"{origin}: " + "; ".join(lines)) from None


def _told(where: tuple[int | str, ...], what: str, got: object) -> str:
    """One problem; a rule about several settings names them, and a whole section is not shown."""
    rule = what.removeprefix("Value error, ")
    if rule != what and isinstance(got, Mapping):
        return rule
    return f"{'.'.join(str(part) for part in where)}: {rule}, got {got!r}"


def _read(source: str | Path) -> dict[str, Any]:
    path = Path(source)
    try:
        if str(source) in presets():
            text = (resources.files("labelpenet") / "presets" / f"{source}.toml").read_text("utf-8")
            values: Any = tomllib.loads(text)
        elif path.suffix == ".toml":
            values = tomllib.loads(path.read_text("utf-8"))
        elif path.suffix in (".yaml", ".yml"):
            values = read_yaml(path.read_text("utf-8")) or {}
        else:
            names = ", ".join(presets())
            raise ConfigError(
                f"{source}: expected a .toml, .yaml or .yml file or a preset ({names})"
            )
    except OSError as error:
        raise ConfigError(f"{source}: {error.strerror}") from None
    except ConfigError:
        raise
    except (yaml.YAMLError, ValueError) as error:  # TOML's and Unicode's are ValueErrors
        raise ConfigError(f"{source}: {error}") from None
    except RecursionError:
        raise ConfigError(f"{source}: nested too deeply") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{source}: expected sections of keys, got {type(values).__name__}")
    return values


def _parse(text: str, override: str) -> Any:
    try:
        return read_yaml(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        raise ConfigError(f"override {override!r:.200}: cannot read the value") from None


def _refuse_unknown(values: Any, cls: type, origin: str, where: tuple[str, ...]) -> None:
    if not isinstance(values, Mapping):
        raise ConfigError(f"{origin}: {'.'.join(where)}: expected a section, got {values!r}")
    hints = typing.get_type_hints(cls)
    known = {f.name: hints[f.name] for f in dataclasses.fields(cls)}
    for key, value in values.items():
        name = ".".join((*where, str(key)))
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"; did you mean {'.'.join((*where, near[0]))}?" if near else ""
            raise ConfigError(f"{origin}: unknown key {name}{hint}")
        kind = known[key]
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            _refuse_unknown(value, kind, origin, (*where, str(key)))
