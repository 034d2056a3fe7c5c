"""The way through: Enter, Esc, answers, and what stands in the way. Driven by keys, on simulated servers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from screens.fields import Choices, Line
from screens.step import StepPage
from screens.way import RAIL
from tests.servers import scenario
from tests.servers.gateway import DescribedGateway
from wizard import answers, paths
from wizard.caddyfile import CERTIFICATE, KEY
from wizard.demo import DemoGateway
from wizard.draft import Draft
from wizard.existing import NOT_FOUND
from wizard.model import Output
from wizard.questions import Kind

from .driving import STEPS, Driver, played


def described(name: str, repaired: str = "") -> DescribedGateway:
    return DescribedGateway(scenario.load(name), repaired=scenario.load(repaired) if repaired else None)


async def to_end(driver: Driver, *words: str) -> None:
    """From the review, which has these words: starts, and reads the result to its end."""
    await driver.on("Review")
    assert driver.shows(*words)
    await driver.press("enter")
    await driver.until(lambda: driver.app.report is not None, "All is as it should be.")
    await driver.on("Your API is at")


@played()
async def test_enter_alone_sets_up_mode_internal(driver: Driver) -> None:
    await driver.walk(*STEPS)
    await to_end(driver)
    assert driver.shows("https://203.0.113.7/v1", "phi-4-mini", "port 8000 closed, proved by packets")
    await driver.press("enter")
    assert driver.app.return_value == 0


@played()
async def test_enter_is_never_too_early(driver: Driver) -> None:
    """Pressed while checks run, it goes on when they are over."""
    for _ in range(7):
        await driver.press("enter")
    await driver.until(lambda: driver.app.page is not None and driver.app.page.at in (*STEPS, "review", "preflight"))
    await driver.until("Preflight")


@played()
async def test_lets_encrypt_needs_a_domain_and_a_mail_address(driver: Driver) -> None:
    await driver.jump("TLS")
    await driver.press("down")
    await driver.until("Domain", "E-mail")
    await driver.settled()
    await driver.press("enter")
    await driver.until("mode acme needs this key")
    assert isinstance(driver.app.focused, Line)
    await driver.write("llm.example.com")
    await driver.settled()
    assert driver.shows("llm.example.com leads to this server: 203.0.113.7")
    await driver.press("enter")
    await driver.until("mode acme needs this key")
    await driver.write("ops@example.com")
    await driver.walk("Harden")
    await to_end(driver)
    assert driver.shows("https://llm.example.com/v1")
    assert driver.app.draft.answers().tls.mode == "acme"


@played()
async def test_own_files_are_checked_as_soon_as_both_are_named(driver: Driver) -> None:
    await driver.jump("TLS")
    await driver.choose_custom()
    for text in ("llm.example.com", "/etc/ssl/old/chain.pem", "/etc/ssl/old/key.pem"):
        await driver.press("tab")
        await driver.write(text)
    await driver.settled()
    assert driver.shows("expired")
    await driver.press("enter")
    await driver.until("This stands in the way")
    for text in ("/etc/ssl/llm/chain.pem", "/etc/ssl/llm/key.pem"):
        await driver.press("shift+tab" if text.endswith("chain.pem") else "tab", "ctrl+u")
        await driver.write(text)
    await driver.settled()
    assert driver.shows("issued by Example Corp")
    await driver.walk("Harden")
    await to_end(driver)


@played()
async def test_file_can_be_picked(driver: Driver) -> None:
    await driver.jump("TLS")
    await driver.choose_custom()
    await driver.press("tab", "tab", "f2")
    await driver.until("/etc/ssl", "llm/")
    await driver.press("enter")
    await driver.until("chain.pem")
    await driver.press("enter")
    await driver.until(lambda: driver.app.draft.given("tls.certificate") == "/etc/ssl/llm/chain.pem")


@played()
async def test_back_and_forth_loses_no_answer(driver: Driver) -> None:
    await driver.jump("Firewall")
    await driver.press("space")
    await driver.settled()
    assert driver.shows("[x] 3000/tcp grafana-server")
    await driver.walk("Bind", "Caddy", "TLS")
    await driver.choose_acme()
    await driver.press("tab")
    await driver.write("llm.example.com")
    for page in ("Caddy", "Bind", "Firewall"):
        await driver.on(page, "escape")
    assert driver.shows("[x] 3000/tcp grafana-server")
    await driver.walk("Bind", "Caddy", "TLS")
    assert driver.shows("(•) Let's Encrypt", "llm.example.com")
    for page in ("Caddy", "Bind", "Firewall", "Preflight"):
        await driver.on(page, "escape")
    await driver.on("From an open vLLM port to a proven HTTPS endpoint", "escape")
    rule = {"port": 3000, "comment": "grafana-server"}
    assert driver.app.draft.data["firewall"] == {"allow": [rule]}


@played()
async def test_server_that_is_to_be_hardened_is_told_what_that_interrupts(driver: Driver) -> None:
    await driver.jump("Harden")
    await driver.press("down")
    await driver.until("fail2ban is not installed")
    await driver.settled()
    await to_end(driver, "vLLM restarts once")
    assert driver.app.draft.data["harden"] == {"recommended": True}
    assert driver.app.report is not None and driver.app.report["steps"][5]["id"] == "harden"


@played("blocked")
async def test_blocked_check_stops_there_and_is_looked_at_again(driver: Driver) -> None:
    await driver.jump("Preflight")
    assert driver.shows("✗ no VLLM_API_KEY", "sudo systemctl restart vllm.service")
    await driver.press("enter")
    await driver.until("This stands in the way")
    assert driver.app.page is not None and driver.app.page.at == "preflight" and driver.app.code == 3
    await driver.press("r")
    await driver.until("✓ an API key is set")
    await driver.walk(*STEPS[1:])
    await to_end(driver)


@pytest.mark.parametrize(
    ("domain", "words"),
    [
        ("elsewhere.example.com", "which is not this server"),
        ("ipv6.example.com", "the CA tries IPv6 first"),
        ("unknown.example.com", "DNS does not know"),
        ("caa.example.com", "CAA"),
    ],
)
def test_wrong_domain_stands_in_the_way(domain: str, words: str) -> None:
    @played()
    async def play(driver: Driver) -> None:
        await driver.jump("TLS")
        await driver.choose_acme()
        await driver.press("tab")
        await driver.write(domain)
        await driver.press("tab")
        await driver.write("ops@example.com")
        await driver.settled()
        await driver.press("enter")
        await driver.pilot.pause()
        assert driver.app.page is not None and driver.app.page.at == "tls"
        assert driver.shows("✗", words)

    play()


BLOCKED = {
    "no-key": ("preflight", "no VLLM_API_KEY"),
    "vllm-failed": ("preflight", "has failed"),
    "vllm-disabled": ("preflight", "vllm.service is disabled"),
    "port-80-taken": ("preflight", "port 80"),
    "key-refused": ("caddy", "is refused"),
    "ufw-denies-443": ("firewall", "a rule of yours denies"),
    "ufw-denies-ssh": ("firewall", "a rule of yours denies"),
}


@pytest.mark.parametrize("name", BLOCKED)
def test_every_kind_of_blocked_check_says_so_where_it_stands(name: str) -> None:
    at, words = BLOCKED[name]

    @played(gateway=lambda: described(name))
    async def play(driver: Driver) -> None:
        await driver.jump(dict(RAIL)[at])
        assert driver.shows("✗", words)
        await driver.press("enter")
        await driver.until("This stands in the way")
        await driver.press("escape")
        await driver.pilot.pause()
        assert driver.app.page is not None and driver.app.page.at != at

    play()


def without_gpu() -> DescribedGateway:
    """The exposed server, but for its GPU."""
    exposed = scenario.load("exposed")
    silent = {**exposed.description.commands, (("nvidia-smi", "-L"), ""): Output(127, "", "command not found")}
    described = replace(exposed, description=replace(exposed.description, commands=silent))
    return DescribedGateway(described.without("/dev/kfd"))


@played(gateway=without_gpu)
async def test_what_may_be_let_pass_is_let_pass_by_space(driver: Driver) -> None:
    await driver.jump("Preflight")
    assert driver.shows("✗ no GPU answers", "Let pass", "[ ] go on without a GPU")
    await driver.press("space")
    await driver.settled()
    assert driver.app.draft.given("preflight.accept") == ["preflight.gpu"]
    assert driver.shows("! no GPU answers: there is no nvidia-smi", "(accepted by")
    await driver.on("Firewall")


class WithoutCaddy(dict[tuple[tuple[str, ...], str], Output]):
    """Commands of a server on which Caddy can't be asked what it makes of a Caddyfile."""

    def __missing__(self, key: tuple[tuple[str, ...], str]) -> Output:
        if key[0][:2] == ("caddy", "adapt"):
            return Output(NOT_FOUND, "", "caddy: not found")
        raise KeyError(key)


def with_sites() -> DescribedGateway:
    """A server whose Caddyfile is another's, and which knows nothing of us."""
    units = (f"{paths.UNITS}/{name}" for name in (paths.CERTIFICATE_PATH_UNIT, paths.CERTIFICATE_SERVICE))
    unknown = (paths.CADDY_ROOT, paths.ROOT_CERTIFICATE, CERTIFICATE, KEY, *units)
    server = scenario.load("caddyfile-of-others").without(*unknown)
    commands = WithoutCaddy(server.description.commands)
    return DescribedGateway(replace(server, description=replace(server.description, commands=commands)))


@played(gateway=with_sites)
async def test_caddyfile_of_others_is_asked_about(driver: Driver) -> None:
    await driver.jump("TLS")
    assert driver.shows("has sites of others", "Keep it")
    page = driver.app.page
    assert isinstance(page, StepPage)
    field = next(one for one in page.fields if one.question.key == "caddy.existing_config")
    assert isinstance(field, Choices) and field.question.kind is Kind.ONE
    field.focus()
    await driver.press("down")
    await driver.settled()
    assert driver.app.draft.given("caddy.existing_config") == "keep"


@played("drifted")
async def test_drifted_server_is_repaired_by_one_key(driver: Driver) -> None:
    await driver.settled()
    assert driver.shows("ufw is off", "the Caddyfile was edited by hand since", "Enter Repair")
    await driver.press("enter")
    await driver.until(lambda: driver.app.report is not None, "All is as it should be.")
    assert driver.app.code == 0


@played(gateway=lambda: was_set_up("finished"))
async def test_healthy_server_says_so(driver: Driver) -> None:
    await driver.until("Healthy")
    await driver.on("Your API is at")
    await driver.press("q")
    assert driver.app.return_value == 0


def was_set_up(name: str, cut_off: str | None = None) -> DescribedGateway:
    opening = replace(described(name).open(), was_set_up=True, cut_off=cut_off)
    return DescribedGateway(scenario.load(name), opening=opening)


@played(gateway=lambda: was_set_up("half-done", cut_off="20261124T1"))
async def test_run_that_was_cut_off_is_completed_by_one_key(driver: Driver) -> None:
    await driver.settled()
    assert driver.shows("A run was cut off", "20261124T1", "Enter Complete it")
    await driver.press("enter")
    await driver.until(lambda: driver.app.report is not None)
    assert driver.app.code == 0


@played(gateway=lambda: DescribedGateway(scenario.load("finished")))
async def test_nothing_to_do_leads_to_the_test(driver: Driver) -> None:
    await driver.walk(*STEPS, "Review")
    assert driver.shows("Nothing to do", "Enter Test")
    await driver.on("Test")
    await driver.until("All is as it should be.")
    gateway = driver.app.gateway
    assert isinstance(gateway, DescribedGateway) and gateway.settled == [driver.app.draft] and gateway.started == []


@played()
async def test_answers_of_the_wizard_give_the_plan_that_it_showed(driver: Driver) -> None:
    await driver.jump("Firewall")
    await driver.press("space")
    await driver.settled()
    await driver.walk(*STEPS[2:], "Review")
    await driver.settled()
    shown = driver.app.seen
    assert shown is not None
    given = answers.load(driver.app.draft.dump())
    again = DemoGateway("fresh", pace=0)
    draft = driver.app.draft.read(answers.dump(given).encode())
    planned = again.look(draft, lambda seen: None)
    assert [one.report["changes"] for one in planned.steps] == [one.report["changes"] for one in shown.steps]


@played()
async def test_answers_are_kept_as_they_are_given(driver: Driver) -> None:
    kept: list[Draft] = []
    driver.app.gateway.keep = kept.append  # type: ignore[assignment, method-assign]
    await driver.jump("Firewall")
    await driver.press("space")
    await driver.settled()
    assert [draft.given("firewall.allow") for draft in kept] == [[{"port": 3000, "comment": "grafana-server"}]]


@played()
async def test_letters_do_something_only_where_none_is_typed(driver: Driver) -> None:
    await driver.jump("TLS")
    await driver.choose_acme()
    await driver.press("tab")
    await driver.press("d", "r", "w")
    await driver.press("f1")
    await driver.until("The connection is encrypted")
    await driver.press("escape")
    await driver.pilot.pause()
    assert driver.app.draft.given("tls.domain") == "drw"
