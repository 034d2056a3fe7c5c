"""Requests of one address in a minute: where Caddy has a module for it that stays, and what is said where not."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from tests.servers import scenario
from tests.servers.scenario import Scenario
from tests.unit.altered import edited_command, exec_start, with_answers, with_files, with_unit
from wizard.caddy_build import as_caddy, check_own_build, find_build
from wizard.caddy_service import RESTART, loaded
from wizard.caddyfile import HEADING, render_caddyfile, render_site
from wizard.engine import Look
from wizard.existing import IMPORT
from wizard.harden import requests
from wizard.model import Finding, Level, Output, Run, Then, Write
from wizard.owned import Owned, OwnedFile, sha256
from wizard.parse.caddy_modules import modules
from wizard.paths import CADDYFILE, SITE_FILE
from wizard.rate_limit import DIRECTIVE, MODULE, PROBE, find_limiter
from wizard.reversal import Done, without_unreadable
from wizard.server import FileState
from wizard.steps import tls

RECORDED = Path(__file__).parents[1] / "recorded" / "caddy_modules"
PACKAGED, WITH_MODULE = ((RECORDED / f"caddy-{name}.txt").read_text() for name in ("2.11.7", "2.11.4-rate_limit"))
PROGRAM, OWN = "/usr/bin/caddy", "/usr/local/bin/caddy"
ASKED = "harden: {requests_per_minute: 120}"
KEY = "harden.requests_per_minute"
SILENT = Output(124, "", "timed out")


def server(
    name: str = "caddy-diverted",
    answers: str = ASKED,
    *,
    lists: Output | str = WITH_MODULE,
    program: str = PROGRAM,
    counts: bool = True,
    runs: str = PROGRAM,
) -> Scenario:
    """A described server whose Caddy lists these modules; by default a build of somebody's in the package's place."""
    about = with_answers(scenario.load(name), answers)
    if program != PROGRAM:
        about = with_unit(about, "caddy.service", ExecStart=exec_start(f"{program} run"))
    adapt = as_caddy(program, "adapt", "--adapter", "caddyfile", "--config", "-")
    said: Mapping[tuple[tuple[str, ...], str], Output] = {
        (as_caddy(program, "list-modules"), ""): Output(0, lists) if isinstance(lists, str) else lists,
        (as_caddy(program, "version"), ""): Output(0, "v2.11.4\n"),
        (adapt, PROBE): Output(0, "{}") if counts else Output(1, "", "unrecognized subdirective 'disable_metrics'"),
        (("readlink", "-f", PROGRAM), ""): Output(0, f"{PROGRAM}\n"),
    }
    pid = about.look_within().server.units("caddy.service")["caddy.service"].properties["MainPID"]
    files = {f"/proc/{pid}/exe": FileState("link", runs.encode())}
    known = about.description
    described = replace(known, commands={**known.commands, **said}, files={**known.files, **files})
    return replace(about, description=described)


def look_at(about: Scenario) -> Look:
    return about.look_within()


def caddyfile(look: Look) -> str:
    return render_caddyfile(look, "127.0.0.1:8000")


def written(about: Scenario) -> Scenario:
    """The same server with the Caddyfile that its answers ask for."""
    return with_files(about, {CADDYFILE: caddyfile(look_at(about))})


def configuration(look: Look) -> Finding:
    (found,) = tls.check_configuration(look)
    return found


def told(look: Look) -> dict[str, Finding]:
    return {one.key: one for one in requests.check(look)}


def test_modules_are_what_a_build_of_caddy_lists_and_not_their_count() -> None:
    with_module, packaged = modules(WITH_MODULE), modules(PACKAGED)
    assert (len(with_module), len(packaged)) == (132, 135), "as the lists themselves count them"
    assert MODULE in with_module and MODULE not in packaged
    assert "http.handlers.reverse_proxy" in packaged and "Standard" not in packaged
    assert modules("") == frozenset()


def test_who_does_not_ask_for_it_has_no_caddy_asked_and_the_caddyfile_of_before() -> None:
    about = with_answers(scenario.load("caddy-diverted"), "harden: {max_requests: 512}")
    assert "rate_limit" not in caddyfile(look_at(about)), "nothing of it was described: it was not asked"
    assert KEY not in told(look_at(about))


def test_limit_is_in_the_caddyfile_for_each_service_where_a_build_of_ones_own_has_the_module() -> None:
    more = "vllm: {more: [{unit: vllm-embed.service, path: embed}]}"
    about = server("several-services", f"{ASKED}\n{more}")
    about = edited_command(about, "dpkg-query", lambda said: f"{said}caddy\tii \t2.11.7\n")
    about = with_files(about, {"/var/lib/dpkg/diversions": "/usr/bin/caddy\n/usr/bin/caddy.default\n:\n"})
    site = render_site(look_at(about), "127.0.0.1:8000")
    assert re.findall(r"zone (\S+) \{", site) == ["vllm.service", "vllm-embed.service"], "a name of its own each"
    assert site.count("events 120") == site.count("window 1m") == site.count("disable_metrics") == 2
    assert site.count("key {http.request.remote.host/32,64}") == 2, "an address of IPv6 counts with its /64"


def test_this_server_and_whom_the_answers_name_are_not_limited() -> None:
    own = sorted(one.address for one in look_at(server()).server.addresses())
    look = look_at(server(answers=f"harden: {{requests_per_minute: 120, never_ban: [203.0.113.0/24, {own[0]}]}}"))
    assert f"@limited not remote_ip 127.0.0.0/8 ::1 {' '.join(own)} 203.0.113.0/24\n" in caddyfile(look), "each once"


def test_who_is_limited_is_no_line_of_the_journal_for_each_request() -> None:
    assert "\t\texclude http.log.access http.handlers.rate_limit\n" in caddyfile(look_at(server()))


@pytest.mark.parametrize("counts", [True, False], ids=["since May 2026", "before"])
def test_metrics_of_each_address_are_switched_off_where_the_module_has_them(counts: bool) -> None:
    text = caddyfile(look_at(server(counts=counts)))
    assert DIRECTIVE in text and ("disable_metrics" in text) is counts


def test_limit_in_force_is_told_beside_the_others() -> None:
    found = told(look_at(server()))
    assert "one address has 120 requests a minute" in found["harden.requests"].summary
    assert KEY not in found


@pytest.mark.parametrize(
    ("about", "why", "remedy"),
    [
        (server("finished", lists=PACKAGED), "has no module for it", "harden: {new_connections_per_minute: 120}"),
        (server(lists=PACKAGED), "has no module for it", "github.com/mholt/caddy-ratelimit in the package's place"),
        (server("finished"), "the next update of the package puts its own there", "--no-rename --add /usr/bin/caddy;"),
        (server(program=OWN), "Caddy's reload is done by /usr/bin/caddy", f"sudo install {OWN} /usr/bin/caddy;"),
        (server("exposed"), "has no module for it", "new_connections_per_minute"),
    ],
    ids=["packaged", "built without it", "over the package's file", "at another path", "no Caddy yet"],
)
def test_limit_that_caddy_has_not_or_would_lose_is_said_and_not_written(about: Scenario, why: str, remedy: str) -> None:
    """An update of the package restarts Caddy at once: one that names what it has not any more does not start."""
    look = look_at(about)
    found = told(look)[KEY]
    assert found.level is Level.WARN and not found.fix, "no Caddy is put in the place of another"
    assert why in found.summary and remedy in str(found.remedy)
    assert "a minute" not in getattr(told(look).get("harden.requests"), "summary", "")
    assert caddyfile(look) == caddyfile(look_at(with_answers(about, "")))


@pytest.mark.parametrize("name", ["caddy-diverted", "finished"], ids=["built without it", "the package's is back"])
def test_module_that_is_lost_is_noticed_and_its_limit_taken_out_before_caddy_fails_to_start(name: str) -> None:
    before = written(server())
    text = caddyfile(look_at(before))
    look = look_at(with_files(server(name, lists=PACKAGED), {CADDYFILE: text}))
    look = replace(look, owned=Owned({CADDYFILE: OwnedFile(sha256(text.encode()), None)}))
    found = configuration(look)
    assert found.level is Level.DRIFT
    assert "limits requests, which can't stay: /usr/bin/caddy has no module for it" in found.summary
    (write,) = found.fix
    assert isinstance(write, Write) and b"rate_limit" not in write.content
    assert told(look)[KEY].level is Level.WARN


@pytest.mark.parametrize("path", [CADDYFILE, SITE_FILE])
@pytest.mark.parametrize(
    ("before", "lists", "stays"),
    [
        (f"{HEADING}\n{DIRECTIVE}\n", PACKAGED, True),
        (f"{HEADING}\n{DIRECTIVE}\n", WITH_MODULE, False),
        (f"{HEADING}\n", PACKAGED, False),
        (f"{DIRECTIVE}\n", PACKAGED, False),
    ],
    ids=["a limit that Caddy can't read", "one that it can", "no limit", "a Caddyfile of others"],
)
def test_rollback_puts_no_limit_back_that_caddy_would_not_start_with(
    path: str, before: str, lists: str, stays: bool
) -> None:
    changes = [Done("tls", Write(path, b"", ""), FileState("file", text.encode())) for text in (before, "later")]
    reload = Done("tls", Run(("systemctl", "reload", "caddy.service"), ""), None)
    done, left = without_unreadable([*changes, reload], look_at(server(lists=lists)))
    assert left == ((path,) if stays else ())
    assert done == ([reload] if stays else [*changes, reload])


def test_site_in_a_caddyfile_of_others_loses_the_limit_in_the_same_words() -> None:
    site = f"{HEADING}\n{DIRECTIVE}\n"
    about = with_answers(scenario.load("caddyfile-of-others-kept"), f"caddy: {{existing_config: keep}}\n{ASKED}")
    listed = {(as_caddy(PROGRAM, "list-modules"), ""): Output(0, PACKAGED)}
    commands = {**about.description.commands, **listed}
    about = replace(about, description=replace(about.description, commands=commands))
    known = about.description.files[CADDYFILE]
    assert known is not None
    look = look_at(with_files(about, {SITE_FILE: site, CADDYFILE: f"{known.text}{IMPORT}\n"}))
    assert find_limiter(look).why_not.startswith(f"{PROGRAM} has no module")
    (found,) = tls.check_configuration(look)
    assert f"{SITE_FILE}, our site, limits requests, which can't stay" in found.summary


def test_caddy_that_does_not_answer_keeps_the_limit_that_it_has() -> None:
    """A busy server must not lose its limit by one look that came to nothing; what it never had it does not get."""
    silent = with_files(server(lists=SILENT), {CADDYFILE: caddyfile(look_at(server()))})
    assert caddyfile(look_at(silent)) == caddyfile(look_at(server()))
    assert DIRECTIVE not in caddyfile(look_at(server(lists=SILENT)))


@pytest.mark.parametrize("kept", [True, False], ids=["cut off after the file was written", "not written yet"])
def test_caddy_is_restarted_where_what_runs_is_not_what_stands_there(kept: bool) -> None:
    """The old program knows no such module: its reload would be refused."""
    about = server(runs=f"{PROGRAM} (deleted)")
    then = loaded(look_at(written(about) if kept else about))
    assert then.argv == RESTART and "not the one that is there now" in then.why
    assert isinstance(then.back, Then) and then.back.argv == RESTART
    same = loaded(look_at(written(server()) if kept else server()))
    assert same.argv == ("systemctl", "reload-or-restart", "caddy.service")


def test_way_back_to_the_packages_caddy_begins_with_the_limit() -> None:
    """Else the package's would be started with a Caddyfile that it can't read."""

    def way_back(about: Scenario) -> str:
        look = look_at(about)
        (found,) = check_own_build(look, find_build(look, look.server.packages("caddy")["caddy"]))
        return str(found.remedy)

    assert "take harden.requests_per_minute out of the answers, and apply; sudo mv /usr/bin/caddy" in way_back(server())
    assert "requests_per_minute" not in way_back(server(answers=""))
