"""The words for one finding."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Meaning:
    """`means` is what was seen, `todo` what a person does about it where it is not in order ("" for nothing).

    `levels` are named where the source allows more of them than there are.
    """

    means: str
    todo: str = ""
    levels: tuple[str, ...] = ()
