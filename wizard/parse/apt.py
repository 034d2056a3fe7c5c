"""What dpkg and apt say: packages and their state, who holds a lock, where a version comes from, sources."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

# An extended regular expression too, as grep -E reads one.
LOCK_WORDS = (
    "Could not get lock|Unable to lock|Unable to acquire the dpkg frontend lock|"
    # dpkg's own, where it is called without apt
    "lock (was|is) locked by another process"
)
_LOCK = re.compile(LOCK_WORDS)
_HOLDER = re.compile(r"(?:held by process|locked by another process with pid) (\d{1,10})(?: \(([^)\n]*)\))?")
_VERSION_ROW = re.compile(r"^ (?P<mark>\*\*\*|   ) (?P<version>\S+)(?: (?P<priority>-?\d+))?$")
_SOURCE_ROW = re.compile(r"^ {6,}(?P<priority>-?\d+) (?P<place>\S+)")
_OPTIONS = re.compile(r"^(deb(?:-src)?)\s+\[([^\]]*)\]\s*(.*)$")

_OFF = frozenset({"no", "false", "0", "off", "without", "disable"})
# dpkg-query(1), db:Status-Abbrev: the second letter. These stop at half of an installation.
_HALF_DONE = frozenset("UFHW")


@dataclass(frozen=True)
class Package:
    """A row of dpkg-query; `status` is db:Status-Abbrev without spaces, such as `ii`, `hi`, `iF`, `rc`."""

    name: str
    status: str
    version: str

    @property
    def installed(self) -> bool:
        """True if the package is unpacked and configured."""
        return self.status[1:2] in ("i", "t") and not self.broken

    @property
    def held(self) -> bool:
        """True if apt was told to leave the package as it is."""
        return self.status[:1] == "h"

    @property
    def half_configured(self) -> bool:
        """True if dpkg stopped between unpacking and configuring (`dpkg --configure -a` goes on)."""
        return self.broken or self.status[1:2] in _HALF_DONE

    @property
    def broken(self) -> bool:
        """True if dpkg asks for the package to be installed again."""
        return "R" in self.status[2:]


@dataclass(frozen=True)
class Policy:
    """`apt-cache policy` of one package; versions are None where apt says (none)."""

    installed: str | None
    candidate: str | None
    origins: tuple[str, ...]


@dataclass(frozen=True)
class Source:
    """One entry of apt's sources. `signed_by` is a path or a key block, None where the entry has none."""

    types: tuple[str, ...]
    uris: tuple[str, ...]
    suites: tuple[str, ...]
    components: tuple[str, ...]
    signed_by: str | None = None
    enabled: bool = True


def parse_simulation(text: str) -> tuple[str, ...]:
    """The packages that `apt-get -s` would remove or purge, without their architecture."""
    rows = (line.split() for line in text.splitlines() if line.startswith(("Remv ", "Purg ")))
    return tuple(row[1].partition(":")[0] for row in rows if len(row) > 1)


def parse_packages(text: str) -> tuple[Package, ...]:
    """Packages of `dpkg-query -W -f '${Package}\\t${db:Status-Abbrev}\\t${Version}\\n'`.

    More columns are ignored.
    """
    packages = []
    for line in text.split("\n"):
        fields = line.rstrip("\r").split("\t")
        if len(fields) >= 3 and fields[0].strip() and fields[1].strip():
            packages.append(Package(fields[0].strip(), fields[1].strip(), fields[2].strip()))
    return tuple(packages)


def parse_lock_holder(text: str) -> tuple[int | None, str | None]:
    """Process id and name of who holds apt's lock, as far as apt's message says."""
    found = _HOLDER.search(text)
    return (int(found[1]), found[2] or None) if found else (None, None)


def is_locked(text: str) -> bool:
    """True if apt or dpkg stopped because another process holds one of their locks."""
    return _LOCK.search(text) is not None


def parse_policy(text: str) -> Policy:
    """Installed and candidate version of a package, and the URLs that the installed version comes from."""
    versions: dict[str, str | None] = {}
    origins: list[str] = []
    in_installed = False
    for line in text.split("\n"):
        label, colon, value = line.strip().partition(": ")
        if colon and label in ("Installed", "Candidate"):
            versions.setdefault(label, None if value == "(none)" else value)
        elif row := _VERSION_ROW.match(line.rstrip()):
            in_installed = row["mark"] == "***"
        elif in_installed and (row := _SOURCE_ROW.match(line)) and "://" in row["place"]:
            origins.append(row["place"])
    return Policy(versions.get("Installed"), versions.get("Candidate"), tuple(dict.fromkeys(origins)))


def parse_sources_list(text: str) -> tuple[Source, ...]:
    """Entries of a one-line-style .list file, sources.list(5); commented ones are left out."""
    entries = (_parse_source_line(line.partition("#")[0].strip()) for line in text.split("\n"))
    return tuple(entry for entry in entries if entry is not None)


def parse_deb822(text: str) -> tuple[Source, ...]:
    """Entries of a deb822-style .sources file, disabled ones included."""
    entries = []
    for stanza in _stanzas(text):
        if not stanza.get("uris"):
            continue
        entries.append(
            Source(
                types=tuple(stanza.get("types", "").split()),
                uris=tuple(stanza["uris"].split()),
                suites=tuple(stanza.get("suites", "").split()),
                components=tuple(stanza.get("components", "").split()),
                signed_by=stanza.get("signed-by", "").strip() or None,
                enabled=stanza.get("enabled", "yes").lower() not in _OFF,
            )
        )
    return tuple(entries)


def faults_of_sources(name: str, text: str) -> tuple[tuple[int, str], ...]:
    """Line and words of what apt refuses a file of its sources for, and with that all that it is asked to do."""
    if name.endswith(".sources"):
        return tuple(_faults_of_stanzas(text))
    found = ((number, _fault_of_line(line.partition("#")[0].strip())) for number, line in enumerate(_lines(text), 1))
    return tuple((number, fault) for number, fault in found if fault)


def _lines(text: str) -> list[str]:
    return text.replace("\r\n", "\n").split("\n")


def _fault_of_line(line: str) -> str:
    kind, _, rest = line.partition(" ") if "\t" not in line else line.replace("\t", " ").partition(" ")
    rest = rest.strip()
    if not line:
        return ""
    if kind not in ("deb", "deb-src"):
        return f"it begins with {kind!r}, and not with deb"
    if rest.startswith("["):
        options, bracket, rest = rest[1:].partition("]")
        if not bracket:
            return "its [ is never closed"
        if any("=" not in option for option in options.split()):
            return "an option in its [ ] has no ="
    fields = rest.split()
    if len(fields) < 2:
        return "it needs an address and a suite"
    if len(fields) == 2 and not fields[1].endswith("/"):
        return "it names no component, such as main"
    return ""


def _faults_of_stanzas(text: str) -> Iterator[tuple[int, str]]:
    fields: dict[str, str] = {}
    begun = 0
    for number, line in enumerate([*_lines(text), ""], 1):
        if line.startswith("#"):
            continue
        if line.strip():
            begun = begun or number
            if line[0] not in " \t":
                name, _, value = line.partition(":")
                fields[name.strip().lower()] = value.strip()
        elif begun:
            # An entry that is switched off is not looked at beyond its type.
            off = fields.get("enabled", "yes").lower() in _OFF
            wanted = ("Types",) if off else ("Types", "URIs", "Suites")
            if missing := [name for name in wanted if name.lower() not in fields]:
                yield begun, f"its entry has no {' and no '.join(missing)}"
            fields, begun = {}, 0


def _parse_source_line(line: str) -> Source | None:
    options: dict[str, str] = {}
    if found := _OPTIONS.match(line):
        line = f"{found[1]} {found[3]}"
        options = {name.lower(): value for name, _, value in (item.partition("=") for item in found[2].split())}
    try:
        fields = shlex.split(line)
    except ValueError:
        fields = line.split()
    if len(fields) < 3 or fields[0] not in ("deb", "deb-src"):
        return None
    return Source(
        types=(fields[0],),
        uris=(fields[1],),
        suites=(fields[2],),
        components=tuple(fields[3:]),
        signed_by=options.get("signed-by") or None,
    )


def _stanzas(text: str) -> list[dict[str, str]]:
    stanzas: list[dict[str, str]] = [{}]
    name = ""
    for line in text.replace("\r\n", "\n").split("\n"):
        if line.startswith("#"):
            continue
        if not line.strip():
            stanzas.append({})
            name = ""
        elif line[0] in " \t" and name:
            # A line with only a dot stands for an empty one (deb822(5)).
            rest = line.strip()
            stanzas[-1][name] += "\n" + ("" if rest == "." else rest)
        else:
            label, colon, value = line.partition(":")
            name = label.strip().lower() if colon else ""
            if name:
                stanzas[-1][name] = value.strip()
    return stanzas
