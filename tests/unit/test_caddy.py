"""The caddy step where apt, the package or the unit is not as the instructions leave it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.servers import scenario
from tests.servers.scenario import Scenario
from tests.unit.altered import with_files
from wizard.caddy_source import KEYRING, LIST, SOURCES
from wizard.caddy_version import numbers
from wizard.engine import StepResult, walk
from wizard.model import Finding, Impact, Level, Output, Run, Write
from wizard.server import FileState, Response
from wizard.steps import caddy

KEYS = Path(__file__).parents[1] / "recorded" / "keyring"
DPKG = (("dpkg-query", "-W", "-f", r"${Package}\t${db:Status-Abbrev}\t${Version}\n"), "")
REPOSITORY = "https://dl.cloudsmith.io/public/caddy/stable"
LISTS = "/var/lib/apt/lists"
INDEX = f"{LISTS}/dl.cloudsmith.io_public_caddy_stable_deb_debian_dists_any-version_main_binary-amd64_Packages"
MIRROR = "https://mirror.example.com/caddy/deb/debian"


def key(name: str) -> bytes:
    return (KEYS / f"gpg-2.2-{name}").read_bytes()


def server(
    name: str = "finished",
    *,
    package: str | None = None,
    files: Mapping[str, bytes | None] | None = None,
    unit: Mapping[str, str] | None = None,
    offered: tuple[str, ...] | None = None,
    fetched: Response | None = None,
    answers: str = "",
    day: datetime | None = None,
) -> Scenario:
    """A described server, and what is otherwise there: dpkg's line of caddy, files, lines of caddy.service."""
    base = scenario.load(name)
    about = base.description
    commands = dict(about.commands)
    if package is not None:
        lines = [line for line in commands[DPKG].out.splitlines() if not line.startswith("caddy\t")]
        commands[DPKG] = Output(0, "\n".join([*lines, f"caddy\t{package}", ""]))
    for question, output in about.commands.items() if unit else ():
        if question[0][:2] == ("systemctl", "show") and "caddy.service" in question[0]:
            blocks = output.out.split("\n\n")
            blocks = [changed(block, unit or {}) if "Id=caddy.service" in block else block for block in blocks]
            commands[question] = Output(0, "\n\n".join(blocks))
    files = {LIST: current(base, LIST), **(files or {})}
    more = {path: None if text is None else FileState("file", text) for path, text in (files or {}).items()}
    if offered is not None:
        index = "".join(f"Package: caddy\nVersion: {version}\n\n" for version in offered)
        more[INDEX] = FileState("file", index.encode())
    lists = tuple(sorted(path.rpartition("/")[2] for path in more if path.startswith(f"{SOURCES}/") and more[path]))
    directories = {**about.directories, SOURCES: lists}
    if offered is not None:
        directories[LISTS] = (INDEX.rpartition("/")[2],)
    return replace(
        base,
        description=replace(
            about,
            commands=commands,
            files={**about.files, **more},
            directories=directories,
            fetches={f"{REPOSITORY}/gpg.key": fetched} if fetched else about.fetches,
            answers=answers.encode() if answers else about.answers,
            now=day.timestamp() if day else about.now,
        ),
    )


def current(server: Scenario, path: str) -> bytes | None:
    state = server.description.files.get(path)
    return state.content if state else None


def changed(block: str, lines: Mapping[str, str]) -> str:
    for name, value in lines.items():
        block = re.sub(rf"^{name}=.*$", f"{name}={value}", block, flags=re.MULTILINE)
        block = block if f"{name}=" in block else f"{block.rstrip()}\n{name}={value}\n"
    return block


def inspect(server: Scenario) -> dict[str, Finding]:
    look = server.look()
    look.server.units(*server.units)
    return {finding.key: finding for finding in caddy.inspect(look)}


def applied(server: Scenario) -> StepResult:
    look, _ = server.overlaid()
    look.server.units(*server.units)
    (result,) = walk((caddy.STEP,), look)
    return result


def pinned(fingerprint: str, more: str = "") -> str:
    return f"version: 1\ntls: {{mode: internal}}\ncaddy: {{key_fingerprint: {fingerprint}{more}}}\n"


# ── the key ──

SUBKEY = pinned("6C5390B0D35981027095ABFFAF74B16B8B93BE45")
LATER = datetime(2026, 6, 1, tzinfo=UTC)


def test_key_that_has_expired_is_fetched_again_and_the_extended_one_taken() -> None:
    files = {KEYRING: key("signing-subkey.asc")}
    fresh = Response(200, key("signing-subkey-extended.asc"))
    found = inspect(server(files=files, fetched=fresh, answers=SUBKEY, day=LATER))["caddy.keyring"]
    assert found.level is Level.DRIFT and "it has expired" in found.summary
    (write,) = found.fix
    assert isinstance(write, Write) and write.path == KEYRING


def test_key_that_has_expired_at_the_repository_too_is_refused() -> None:
    files = {KEYRING: key("signing-subkey.asc")}
    old = Response(200, key("signing-subkey.asc"))
    found = inspect(server(files=files, fetched=old, answers=SUBKEY, day=LATER))
    assert found["caddy.keyring"].level is Level.BLOCKED and "expired" in found["caddy.keyring"].summary
    assert list(found) == ["caddy.keyring"], "nothing else is offered"


@pytest.mark.parametrize(("name", "words"), [("two.gpg", "and not the pinned"), ("revoked.gpg", "and not the pinned")])
def test_other_key_is_refused_and_both_fingerprints_told(name: str, words: str) -> None:
    about = server("exposed", fetched=Response(200, key(name)), answers=SUBKEY)
    found = inspect(about)["caddy.keyring"]
    assert found.level is Level.BLOCKED and words in found.summary
    assert found.evidence["found"] and found.evidence["pinned"] == "6C5390B0D35981027095ABFFAF74B16B8B93BE45"


def test_no_way_to_the_repository_blocks_the_first_installation() -> None:
    found = inspect(server("exposed", fetched=Response(0, error="no route to host")))["caddy.keyring"]
    assert found.level is Level.BLOCKED and "no route to host" in found.summary
    assert f"curl -v {REPOSITORY}/gpg.key" in str(found.remedy)


def test_no_way_to_the_repository_is_only_a_warning_where_caddy_runs() -> None:
    about = server(files={KEYRING: key("signing-subkey.asc")}, fetched=Response(0, error="timed out"), day=LATER)
    found = inspect(replace(about, description=replace(about.description, answers=SUBKEY.encode())))
    assert found["caddy.keyring"].level is Level.WARN
    assert found["caddy.package"].level is Level.OK, "and the rest is looked at"


# ── apt's entry ──

DEB822 = f"""\
Types: deb deb-src
URIs: {REPOSITORY}/deb/debian/
Suites: any-version
Components: main
Signed-By: {KEYRING}
"""
ENTRIES = {
    "other-options": (LIST, f"deb [arch=amd64 signed-by={KEYRING}] {REPOSITORY}/deb/debian any-version main # mine\n"),
    "no-deb-src": (LIST, f"deb [signed-by={KEYRING}] {REPOSITORY}/deb/debian any-version main\n"),
    "other-name": (f"{SOURCES}/web.list", f"deb [signed-by={KEYRING}] {REPOSITORY}/deb/debian any-version main\n"),
    "deb822": (f"{SOURCES}/caddy-stable.sources", DEB822),
    "other-keyring": (f"{SOURCES}/caddy.sources", DEB822.replace(KEYRING, "/etc/apt/keyrings/caddy.gpg")),
    "mirror": (LIST, f"deb [signed-by={KEYRING}] {MIRROR} any-version main\n"),
    "mirror-deb822": (f"{SOURCES}/caddy.sources", DEB822.replace(f"{REPOSITORY}/deb/debian/", MIRROR)),
}


def with_entry(path: str, text: str, **more: str) -> Scenario:
    own = scenario.load("finished").description.files[KEYRING]
    assert own is not None
    files = {LIST: None, path: text.encode(), "/etc/apt/keyrings/caddy.gpg": own.content}
    return server(files=files, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("case", ENTRIES)
def test_entry_as_good_as_ours_is_left_as_it_is(case: str) -> None:
    found = inspect(with_entry(*ENTRIES[case]))
    assert [finding.key for finding in found.values() if finding.fix] == []
    assert found["caddy.list"].evidence["path"] == ENTRIES[case][0]
    assert ("a mirror" in found["caddy.list"].summary) is case.startswith("mirror")


def test_key_in_the_entry_itself_is_judged_too() -> None:
    block = "".join(f" {line or '.'}\n" for line in key("signing-subkey-extended.asc").decode().splitlines())
    text = DEB822.replace(f"Signed-By: {KEYRING}\n", f"Signed-By:\n{block}")
    found = inspect(with_entry(f"{SOURCES}/caddy.sources", text, answers=SUBKEY))
    assert found["caddy.list"].level is Level.OK


NOT_AS_GOOD = {
    "no-key": DEB822.replace(f"Signed-By: {KEYRING}\n", ""),
    "no-such-keyring": DEB822.replace(KEYRING, "/etc/apt/keyrings/gone.gpg"),
}


@pytest.mark.parametrize("case", NOT_AS_GOOD)
def test_entry_that_trusts_something_else_blocks_and_ours_is_not_put_beside_it(case: str) -> None:
    """Two entries of one repository with different keys: apt then refuses every command."""
    path = f"{SOURCES}/caddy.sources"
    text = NOT_AS_GOOD[case]
    about = server(files={LIST: None, path: text.encode(), "/etc/apt/keyrings/gone.gpg": None})
    found = inspect(about)["caddy.list"]
    assert found.level is Level.BLOCKED
    assert f"sudo mv {path} /root/" in str(found.remedy)


DISABLED = {
    "disabled": DEB822 + "Enabled: no\n",
    "other-suite": DEB822.replace("any-version", "bookworm"),
    "other-repository": DEB822.replace(f"{REPOSITORY}/deb", "https://apt.example.com/deb"),
    "source-only": DEB822.replace("deb deb-src", "deb-src"),
}


@pytest.mark.parametrize("case", DISABLED)
def test_entry_that_apt_does_not_install_caddy_from_is_not_counted(case: str) -> None:
    found = inspect(with_entry(f"{SOURCES}/web.sources", DISABLED[case]))
    assert found["caddy.list"].level is Level.DRIFT


def test_mirror_in_the_list_gives_way_where_the_answers_name_a_repository() -> None:
    own = re.search(r"key_fingerprint: (\w+)", scenario.load("finished").description.answers.decode())
    assert own is not None
    about = with_entry(LIST, ENTRIES["mirror"][1], answers=pinned(own[1], f", repository: {REPOSITORY}"))
    assert inspect(about)["caddy.list"].level is Level.DRIFT


def test_index_is_fetched_by_the_entry_that_is_there() -> None:
    path, text = ENTRIES["deb822"]
    own = scenario.load("finished").description.files[KEYRING]
    assert own is not None
    about = server(package="ii \t2.6.2-6", files={LIST: None, path: text.encode(), KEYRING: own.content})
    (first, _) = applied(about).actions
    assert isinstance(first, Run) and f"Dir::Etc::sourcelist={path}" in first.argv
    assert first.otherwise == ()


# ── the package ──


def test_old_caddy_of_the_distribution_is_upgraded_and_it_is_said_why() -> None:
    about = server(package="ii \t2.6.2-6ubuntu0.24.04.2", offered=("2.8.4", "2.11.7"))
    result = applied(about)
    (found,) = [one for one in result.seen if one.key == "caddy.package"]
    assert found.level is Level.DRIFT and found.evidence["needed"] == "2.9.0"
    assert "it lacks keys taken out of addresses and logs" in found.summary
    assert [one.key for one in result.after if one.fix] == []
    (upgrade,) = [one for one in result.actions if isinstance(one, Run) and "install" in one.argv]
    assert upgrade.argv[-1] == "caddy" and upgrade.impact is Impact.RESTART_CADDY
    assert upgrade.undo == (), "a rollback does not take Caddy away"


def test_caddy_that_is_new_enough_is_not_upgraded() -> None:
    found = inspect(server(package="ii \t2.10.2", offered=("2.8.4", "2.10.2", "2.9.1", "2.11.7")))
    assert [one.key for one in found.values() if one.fix] == []
    assert found["caddy.newer"].level is Level.INFO
    assert found["caddy.newer"].evidence == {"version": "2.10.2", "newest": "2.11.7"}


def test_less_is_needed_where_less_is_used() -> None:
    """Without an access log 2.8 will do; with an account made beforehand, the newest will."""
    own = scenario.load("finished").description.answers.decode()
    plain = server(package="ii \t2.8.4", offered=("2.8.4",), answers=f"{own}proxy: {{access_log: false}}\n")
    assert inspect(plain)["caddy.package"].level is Level.OK
    acme = "{mode: acme, domain: llm.example.com, email: a@example.com, eab_file: /root/eab}"
    account = re.sub(r"tls:\n  mode: internal", f"tls: {acme}", own)
    assert "eab_file" in account
    about = server(package="ii \t2.11.2", offered=("2.11.7",), answers=account)
    assert inspect(about)["caddy.package"].evidence["needed"] == "2.11.3"


def test_mirror_without_any_caddy_that_is_new_enough_blocks() -> None:
    found = inspect(server(package="ii \t2.6.2", offered=("2.6.2", "2.7.6")))["caddy.too_old"]
    assert found.level is Level.BLOCKED and "has 2.7.6 at most" in found.summary


def test_hold_is_said_and_an_old_caddy_on_hold_blocks() -> None:
    found = inspect(server(package="hi \t2.11.7"))
    assert found["caddy.held"].level is Level.WARN and "apt-mark unhold caddy" in str(found["caddy.held"].remedy)
    assert found["caddy.package"].level is Level.OK
    assert inspect(server(package="hi \t2.6.2"))["caddy.held"].level is Level.BLOCKED


@pytest.mark.parametrize(
    ("version", "expected"),
    [("2.6.2-6ubuntu0.24.04.2", (2, 6, 2)), ("1:2.10.0", (2, 10, 0)), ("v2.9", (2, 9, 0)), ("odd", (0, 0, 0))],
)
def test_version_is_compared_by_its_numbers(version: str, expected: tuple[int, int, int]) -> None:
    assert numbers(version) == expected


# ── the unit ──

CUSTOM = {
    "LoadState": "loaded",
    "ActiveState": "active",
    "FragmentPath": "/etc/systemd/system/caddy.service",
    "ExecStart": "{ path=/usr/local/bin/caddy ; argv[]=/usr/local/bin/caddy run ; ignore_errors=no }",
}


def test_caddy_that_no_package_brought_blocks_and_is_named() -> None:
    found = inspect(server("exposed", unit=CUSTOM))["caddy.custom_build"]
    assert found.level is Level.BLOCKED
    assert found.evidence == {"unit": CUSTOM["FragmentPath"], "program": "/usr/local/bin/caddy"}
    assert "sudo systemctl disable --now caddy.service" in str(found.remedy)


def test_package_whose_unit_runs_another_program_warns() -> None:
    found = inspect(server(unit={"ExecStart": CUSTOM["ExecStart"]}))
    assert found["caddy.custom_build"].level is Level.WARN
    assert found["caddy.service"].level is Level.OK


def test_entry_of_another_list_is_used_for_the_first_installation_too() -> None:
    path, text = ENTRIES["deb822"]
    own = scenario.load("finished").description
    files = {path: text.encode(), KEYRING: current(replace(scenario.load("finished")), KEYRING)}
    found = inspect(server("exposed", files=files, answers=own.answers.decode()))
    assert found["caddy.list"].evidence["path"] == path
    refresh = found["caddy.package"].fix[0]
    assert isinstance(refresh, Run) and f"Dir::Etc::sourcelist={path}" in refresh.argv


@pytest.mark.parametrize("name", ["exposed", "finished"])
def test_masked_unit_blocks_also_before_the_package_is_there(name: str) -> None:
    about = server(name, unit={"LoadState": "masked", "UnitFileState": "masked", "ExecStart": ""})
    found = inspect(about.without(caddy.MASKED_BY_DPKG))["caddy.service"]
    assert found.level is Level.BLOCKED and "systemctl unmask" in str(found.remedy)


def test_mask_of_dpkg_itself_is_nobodys_no() -> None:
    """A package that was removed, and not purged, leaves one; its next installation takes it away."""
    masked = server("exposed", unit={"LoadState": "masked", "UnitFileState": "masked", "ExecStart": ""})
    found = inspect(with_files(masked, {caddy.MASKED_BY_DPKG: ""}))
    assert "caddy.service" not in found and found["caddy.package"].level is Level.DRIFT


def test_disabled_unit_is_enabled() -> None:
    result = applied(server(unit={"UnitFileState": "disabled"}))
    assert [one.argv for one in result.actions if isinstance(one, Run)] == [("systemctl", "enable", "caddy.service")]
