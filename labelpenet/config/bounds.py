"""Kinds of numbers that settings are made of; pydantic checks them."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, ConfigDict, Field

STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)


def _number(value: object) -> object:
    """Refuses what pydantic would take for a number: `true` for 1, text for what it spells."""
    if isinstance(value, (bool, str)):
        raise ValueError("expected a number")
    return value


NUMBER = BeforeValidator(_number)
Number = Annotated[float, NUMBER]
Count = Annotated[int, Field(ge=1), NUMBER]
# of a layer; what is far wider fits no memory
Width = Annotated[int, Field(ge=1, le=16_384), NUMBER]
Fraction = Annotated[float, Field(ge=0, le=1), NUMBER]
Positive = Annotated[float, Field(gt=0), NUMBER]
NonNegative = Annotated[float, Field(ge=0), NUMBER]
