"""The firewall's undo, and the proof that keeps it from coming."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.servers import scenario
from wizard import paths
from wizard.model import Write
from wizard.overlay import Overlay
from wizard.render import render
from wizard.safety import Proof


@pytest.fixture
def proving() -> tuple[Proof, Overlay]:
    """A wait for the proof, on a server into which packets get; nobody logs in, or types that all is well."""
    described = scenario.load("exposed")
    about = described.description
    files = {**about.files, paths.CONFIRMED: None}
    look = replace(described, description=replace(about, connections={(22,): ()}, files=files)).look()
    return Proof(look, (22,)), Overlay(look.server)


def test_packet_that_gets_in_is_the_proof_while_the_countdown_goes_on(proving: tuple[Proof, Overlay]) -> None:
    proof, server = proving
    server.perform(Write(paths.UNCONFIRMED, b"", "not yet proved"))
    assert proof(server).done is True


def test_packet_that_gets_in_when_all_was_put_back_is_no_proof(proving: tuple[Proof, Overlay]) -> None:
    """On a busy machine a look can outlast the countdown, and sees then the firewall of before."""
    proof, server = proving
    found = proof(server)
    assert found.done is False and "as it was before" in found.detail


def revert(*, was_active: bool) -> list[str]:
    text = render("revert.service.j2", was_active=was_active, directory="/kept", marker="/kept/unconfirmed")
    return [line.partition("=")[2] for line in text.splitlines() if line.startswith("ExecStart=")]


@pytest.mark.parametrize("was_active", [False, True])
def test_undo_needs_the_copies_before_it_touches_anything_and_takes_the_mark_away_last(was_active: bool) -> None:
    """Proved at the last moment, the copies may be gone in its middle: it then ends before ufw is switched off."""
    commands = revert(was_active=was_active)
    assert commands[0].startswith("/usr/bin/install ") and "/kept/user.rules" in commands[0]
    assert commands[-1] == "/usr/bin/rm -f /kept/unconfirmed"
    assert commands[-2] == "/usr/sbin/ufw reload" if was_active else "-/usr/sbin/ufw --force disable" in commands
