"""Drop-ins of ours: a file beside a unit of others, which systemd reads with it (systemd.unit(5))."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from dataclasses import dataclass, replace

from .engine import Look
from .model import Action, DropInRead, Impact, Remove, Run, Then, Write
from .paths import UNITS


@dataclass(frozen=True)
class DropIn:
    """`step`: whose it is, where another step may write it on the way."""

    unit: str
    name: str
    step: str = ""

    @property
    def directory(self) -> str:
        return f"{UNITS}/{self.unit}.d"

    @property
    def path(self) -> str:
        return f"{self.directory}/{self.name}"

    def is_read(self, look: Look) -> bool:
        """True if systemd goes by it, be it as it was before an edit."""
        return self.path in look.server.units(self.unit)[self.unit].properties.get("DropInPaths", "").split()

    def is_known(self, look: Look) -> bool:
        """True if it is there, or a run that was killed may have put it there. Asks nothing of the machine."""
        return self.path in look.owned.files or self.is_read(look)

    def is_written(self, look: Look, content: str) -> bool:
        """True if the file is there with this content."""
        state = look.server.read(self.path)
        return state is not None and (state.content, state.mode) == (content.encode(), 0o644)

    def is_up_to_date(self, look: Look) -> bool:
        """True if systemd goes by the file as it is now."""
        properties = look.server.units(self.unit)[self.unit].properties
        return self.is_read(look) and properties.get("NeedDaemonReload", "no") != "yes"

    def reread(self, *, present: bool = True) -> Then:
        told = Then(
            ("systemctl", "daemon-reload"),
            f"systemd reads the files of {self.unit} again",
            Impact.NONE,
            makes=(DropInRead(self.unit, self.path, present),),
        )
        return replace(told, back=replace(told, makes=(DropInRead(self.unit, self.path, not present),)))

    def read_now(self, *, present: bool = True, then: tuple[Then, ...] = ()) -> Run:
        told = self.reread(present=present)
        return Run(told.argv, told.why, makes=told.makes, then=then)

    def place(
        self, content: str, why: str, then: tuple[Then, ...] = (), otherwise: tuple[Action, ...] = ()
    ) -> tuple[Action, ...]:
        told = (self.reread(), *then)
        return (Write(self.path, content.encode(), why, then=told, otherwise=otherwise, step=self.step),)

    def take_away(self, why: str, then: tuple[Then, ...] = ()) -> tuple[Action, ...]:
        told = (self.reread(present=False), *then)
        return Remove(self.path, why, then=told, step=self.step), without_directory(self.directory)


def without_directory(path: str) -> Run:
    """Nobody misses an empty one."""
    return Run(("find", path, "-maxdepth", "0", "-empty", "-delete"), "the directory, where nothing else is in it")


def emptied_by(removed: Iterable[str]) -> tuple[str, ...]:
    """The directories of drop-ins that these paths were in."""
    found = (posixpath.dirname(path) for path in removed if path.startswith(f"{UNITS}/"))
    return tuple(dict.fromkeys(one for one in found if one.endswith(".d")))
