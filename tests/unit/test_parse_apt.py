"""What dpkg 1.21 and apt 2.6 printed, and the two forms of apt's sources."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wizard.parse.apt import (
    Policy,
    Source,
    is_locked,
    parse_deb822,
    parse_lock_holder,
    parse_packages,
    parse_policy,
    parse_sources_list,
)

RECORDED = Path(__file__).parents[1] / "recorded" / "apt"
CADDY_LIST = """\
# Source: Caddy
deb [signed-by=/usr/share/keyrings/caddy-stable-archive-keyring.gpg] https://dl.cloudsmith.io/public/caddy/stable/deb/debian any-version main

#deb-src [signed-by=/x.gpg] https://dl.cloudsmith.io/public/caddy/stable/deb/debian any-version main
"""  # noqa: E501 - the line as the repository publishes it
UBUNTU_SOURCES = """\
Types: deb deb-src
URIs: http://archive.ubuntu.com/ubuntu/
Suites: noble noble-updates
# a comment
Components: main
 universe
Signed-By: /usr/share/keyrings/ubuntu-archive-keyring.gpg

Enabled: no
Types: deb
URIs: https://example.com/
Suites: ./
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 abc
"""


def recorded(name: str) -> str:
    return (RECORDED / name).read_text()


@pytest.mark.parametrize(
    ("name", "installed", "half_configured", "held"),
    [
        ("caddy", True, False, False),
        ("fine", True, False, False),
        ("held", True, False, True),
        ("broken", False, True, False),
        ("unpacked", False, True, False),
        ("removed", False, False, False),
    ],
)
def test_state_of_a_package_is_told_apart(name: str, installed: bool, half_configured: bool, held: bool) -> None:
    packages = {package.name: package for package in parse_packages(recorded("dpkg-1.21.22-packages.txt"))}
    package = packages[name]
    assert (package.installed, package.half_configured, package.held) == (installed, half_configured, held)


def test_package_to_be_reinstalled_is_half_configured() -> None:
    (package,) = parse_packages("caddy\tiiR\t2.11.7\n")
    assert package.half_configured
    assert not package.installed


def test_more_columns_and_odd_lines_do_no_harm() -> None:
    text = "a\tii \t1\tmore\nno packages found matching b\n\nc\t\t\n"
    assert [package.name for package in parse_packages(text)] == ["a"]


def test_lock_holder_is_named() -> None:
    text = recorded("apt-2.6.2-lock.txt")
    assert is_locked(text)
    assert parse_lock_holder(text) == (24068, "python3")


def test_lock_holder_without_a_name_or_none_at_all() -> None:
    assert parse_lock_holder("E: Could not get lock /x. It is held by process 7\n") == (7, None)
    assert parse_lock_holder("E: Could not get lock /x - open (11: Resource temporarily unavailable)") == (None, None)
    assert not is_locked("E: Unable to locate package caddy")


@pytest.mark.parametrize("said", ["dpkg frontend lock was locked", "dpkg frontend lock is locked"])
def test_lock_that_dpkg_itself_tells_of_is_one_and_its_holder_named(said: str) -> None:
    """It is called without apt where an installation was cut off."""
    text = f"dpkg: error: {said} by another process with pid 135\nNote: removing the lock file is always wrong\n"
    assert is_locked(text) and parse_lock_holder(text) == (135, None)


@pytest.mark.parametrize(
    ("name", "policy"),
    [
        ("installed", Policy("2.11.7", "2.11.7", ("http://127.0.0.1:18473/repo",))),
        ("local", Policy("1.0", "1.0", ())),
        ("not-installed", Policy(None, "0.36.2-1", ())),
        ("upgradable", Policy("5.2.15-2+b8", "5.2.15-2+b13", ())),
    ],
)
def test_origin_is_that_of_the_installed_version(name: str, policy: Policy) -> None:
    assert parse_policy(recorded(f"apt-2.6.2-policy-{name}.txt")) == policy


def test_package_that_apt_does_not_know_has_no_policy() -> None:
    assert parse_policy("N: Unable to locate package caddy\n") == Policy(None, None, ())


def test_one_line_source_is_read_with_its_key() -> None:
    (source,) = parse_sources_list(CADDY_LIST)
    assert source == Source(
        types=("deb",),
        uris=("https://dl.cloudsmith.io/public/caddy/stable/deb/debian",),
        suites=("any-version",),
        components=("main",),
        signed_by="/usr/share/keyrings/caddy-stable-archive-keyring.gpg",
    )


def test_one_line_source_with_several_options_and_none() -> None:
    text = "deb [ arch=amd64 signed-by=/k.gpg ] https://a.example x y\ndeb https://b.example ./\nrpm https://c x\n"
    first, second = parse_sources_list(text)
    assert (first.signed_by, first.components) == ("/k.gpg", ("y",))
    assert (second.signed_by, second.suites, second.components) == (None, ("./",), ())


def test_deb822_sources_are_read_with_disabled_ones() -> None:
    first, second = parse_deb822(UBUNTU_SOURCES)
    assert first.types == ("deb", "deb-src")
    assert first.components == ("main", "universe")
    assert first.enabled
    assert not second.enabled
    assert second.signed_by == "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nabc"


@given(st.text())
def test_any_text_is_read_without_an_error(text: str) -> None:
    parse_packages(text)
    parse_lock_holder(text)
    parse_policy(text)
    parse_sources_list("deb " + text)
    parse_deb822("URIs: x\n" + text)
    assert len(parse_deb822(text)) <= text.count("\n") + 1
