"""What has drifted is said as it is, put right by as little as possible, and never over an edit that is to stay."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.servers import scenario
from tests.unit.altered import exposed, findings, with_command, with_files, with_listeners, with_unit
from tests.unit.certificates import CHAIN, DOMAIN, LEAF, NOW
from wizard import custom, existing
from wizard.caddyfile import CERTIFICATE, KEY
from wizard.engine import Look, walk
from wizard.model import Finding, Level, Output, Write
from wizard.owned import Owned, OwnedFile, sha256
from wizard.parse.certificates import read_pair
from wizard.paths import CADDYFILE, SITE_FILE
from wizard.server import FileState, Listener
from wizard.steps import STEPS
from wizard.steps.tls import VALIDATE
from wizard.vllm import find_vllm

PAIR, _ = read_pair(CHAIN, LEAF.key_pem, DOMAIN, NOW)
RIGHT = {
    CERTIFICATE: FileState("file", PAIR.chain if PAIR else b"", 0o644),
    KEY: FileState("file", PAIR.key if PAIR else b"", 0o640, "root", "caddy"),
}
COPIES: dict[str, tuple[dict[str, FileState | None], list[str]]] = {
    "both right": ({}, []),
    "neither there": ({CERTIFICATE: None, KEY: None}, [CERTIFICATE, KEY]),
    "certificate cut off": ({CERTIFICATE: replace(RIGHT[CERTIFICATE], content=b"-----BEGIN")}, [CERTIFICATE]),
    "key that Caddy can't read": ({KEY: replace(RIGHT[KEY], group="root")}, [KEY]),
    "key that everybody can read": ({KEY: replace(RIGHT[KEY], mode=0o644)}, [KEY]),
    "key gone": ({KEY: None}, [KEY]),
}


@pytest.mark.parametrize("which", COPIES)
def test_only_the_copy_that_is_wrong_is_written_again(which: str) -> None:
    changed, written = COPIES[which]
    assert PAIR is not None
    server = with_files(scenario.load("finished"), {**RIGHT, **changed})
    look = server.look_within()
    found = custom.check_copies(look, PAIR)
    assert [action.path for action in found.fix if isinstance(action, Write)] == written
    assert found.level is (Level.DRIFT if written else Level.OK)


def imported(content: bytes | None = None, mode: int = 0o644, policy: str = "replace") -> Finding:
    """What is found of our site, imported into others' Caddyfile by an earlier run, and changed since."""
    look, overlay = scenario.load("caddyfile-of-others-kept").overlaid()
    walk(STEPS, look)
    written = overlay.read(SITE_FILE)
    assert written is not None
    owned = Owned({SITE_FILE: OwnedFile(sha256(written.content), None)})
    caddy = look.answers.caddy.model_copy(update={"edited_config": policy})
    now = written.content if content is None else written.content + content
    overlay.perform(Write(SITE_FILE, now, "an edit by hand", mode=mode))
    seen = Look(overlay, look.answers.model_copy(update={"caddy": caddy}), None, owned, look.mask)
    state = overlay.read(CADDYFILE)
    assert state is not None
    (found,) = existing.check(seen, state, find_vllm(seen).upstream, VALIDATE)
    return found


def test_imported_site_that_was_edited_is_said_to_be_and_is_replaced() -> None:
    assert imported().level is Level.OK
    found = imported(b"# mine\n")
    assert (found.level, "edited by hand" in found.summary) == (Level.DRIFT, True)
    (write,) = found.fix
    assert isinstance(write, Write) and (write.path, "kept in the run's backup" in write.why) == (SITE_FILE, True)


def test_imported_site_that_was_edited_stays_where_the_answers_say_stop() -> None:
    found = imported(b"# mine\n", policy="stop")
    assert (found.level, found.fix) == (Level.BLOCKED, ())
    assert found.remedy is not None and "/etc/caddy/vllm-https.d" in found.remedy
    assert imported(policy="stop").level is Level.OK


def test_imported_site_that_caddy_cannot_read_is_put_right() -> None:
    found = imported(mode=0o600)
    assert found.level is Level.DRIFT and "edited" not in found.summary
    assert [action.path for action in found.fix if isinstance(action, Write)] == [SITE_FILE]


@pytest.mark.parametrize(("mode", "owner"), [(0o600, "root"), (0o644, "vllm")])
def test_caddyfile_with_the_wrong_mode_or_owner_is_said_to_have_that(mode: int, owner: str) -> None:
    server = scenario.load("finished")
    right = server.description.files[CADDYFILE]
    assert right is not None
    wrong = with_files(server, {CADDYFILE: replace(right, mode=mode, owner=owner)})
    (found,) = (one for result in wrong.planned() for one in result.seen if one.key == "tls.caddyfile")
    assert found.level is Level.DRIFT and f"mode {mode:04o} and belongs to {owner}:root" in found.summary


@pytest.mark.parametrize("state", ["inactive", "failed"])
def test_vllm_whose_port_another_has_is_not_started_against_it(state: str) -> None:
    """The other one would answer the wait for vLLM in its place."""
    second = Listener("127.0.0.1", 8000, "python3", 4711, "second.service")
    stopped = with_unit(with_listeners(exposed(), second, without=[8000]), ActiveState=state, SubState="dead")
    found = findings(stopped)["vllm_unit"]
    assert (found.level, found.fix) == (Level.BLOCKED, ())
    assert "python3 (second.service) has port 8000" in found.summary
    assert found.remedy is not None and "sudo systemctl disable --now second.service" in found.remedy


def test_caddyfile_of_others_can_be_kept_before_caddy_is_installed() -> None:
    """In a plan the package is there already, and its program can't be asked yet: no fault of the Caddyfile's."""
    before = with_command(scenario.load("caddyfile-of-others-kept"), "caddy", Output(127, "", "command not found"))
    look, overlay = before.overlaid()
    look.server.units(*before.units)
    state = overlay.read(CADDYFILE)
    assert state is not None
    (found,) = existing.check(look, state, find_vllm(look).upstream, VALIDATE)
    assert found.level is Level.DRIFT
    assert [action.path for action in found.fix if isinstance(action, Write)] == [SITE_FILE, CADDYFILE]
