"""Drop-ins of ours: a file beside a unit of others, which systemd reads with it (systemd.unit(5))."""

from __future__ import annotations

from dataclasses import dataclass, replace

from .engine import Look
from .model import Action, DropInRead, FileIs, Impact, Remove, Run, Then, Write
from .paths import UNITS


@dataclass(frozen=True)
class DropIn:
    unit: str
    name: str

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

    def read_now(self) -> Run:
        told = self.reread()
        return Run(told.argv, told.why, makes=told.makes)

    def place(
        self,
        look: Look,
        content: str,
        why: str,
        then: tuple[Then, ...] = (),
        otherwise: tuple[Action, ...] = (),
        impact: Impact = Impact.NONE,
    ) -> tuple[Action, ...]:
        """Puts it there. Its directory is one of others where it is there already."""
        write = Write(self.path, content.encode(), why, impact=impact, then=(self.reread(), *then), otherwise=otherwise)
        if look.server.read(self.directory) is not None:
            return (write,)
        make = Run(
            ("install", "-d", "-m", "0755", self.directory),
            f"where systemd looks for drop-ins of {self.unit}",
            makes=(FileIs(self.directory, b"", 0o755),),
            undo=(self._without_directory(),),
        )
        return make, write

    def take_away(self, why: str, then: tuple[Then, ...] = ()) -> tuple[Action, ...]:
        return Remove(self.path, why, then=(self.reread(present=False), *then)), self._without_directory()

    def _without_directory(self) -> Run:
        argv = ("find", self.directory, "-maxdepth", "0", "-empty", "-delete")
        return Run(argv, "the directory of the drop-in, where nothing else is in it")
