"""A Caddyfile of others on booted servers, as people write them: left alone, kept with ours imported, or replaced."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.lab import Acme, Lab, ServerSpec
from tests.lab.operator import ANSWERS, Operator, findings, troubles
from tests.lab.site import DOMAIN, Site, proof
from tests.lab.unchanged import assert_blocked

pytestmark = pytest.mark.lab

CADDYFILE = "/etc/caddy/Caddyfile"
GLOBALS = """\
{{
	email ops@example.test
	default_sni {address}
	fallback_sni {address}
}}
"""
# Several sites, snippets with arguments, named matchers, and global options, as people have them.
THEIRS = {
    "global options and two sites": GLOBALS
    + """\

http://blog.lan:8081 {{
	root * /srv
	file_server
	encode zstd gzip
}}

http://wiki.lan:8082 {{
	@internal remote_ip private_ranges
	respond @internal "wiki"
	respond 403
}}
""",
    "snippets": GLOBALS
    + """\

(headers) {{
	header {{
		X-Frame-Options {{args[0]}}
		-Server
	}}
}}

(logging) {{
	log {{
		output stderr
	}}
}}

http://shop.lan:8083 {{
	import headers DENY
	import logging
	respond "shop"
}}
""",
    "one proxy with a comment at the end": GLOBALS
    + """\
http://app.lan:8084 {{
	reverse_proxy 127.0.0.1:3000
}}
# the end""",
}
BRACELESS = 'http://plain.lan:8085\nrespond "plain"\n'


@pytest.fixture(scope="module")
def proxied(lab: Lab, program: Path) -> Iterator[Operator]:
    """The operator of a host that somebody set Caddy up on, from its repository, before us."""
    server = lab.boot(ServerSpec(guide_packages=True, layers=(program,)))
    operator = Operator(lab, server)
    assert operator.apply()["exit_code"] == 0
    yield operator
    server.discard()


@pytest.fixture
def theirs(proxied: Operator) -> Callable[[str], Operator]:
    """Puts a Caddyfile of theirs there, as if we had never been."""

    def put(text: str) -> Operator:
        server = proxied.server
        state = "/var/lib/vllm-https-setup /etc/vllm-https-setup /etc/caddy/vllm-https.caddy"
        server.run(["sh", "-c", f"rm -rf {state}"])
        server.put(CADDYFILE, text.encode())
        server.run(["systemctl", "reload-or-restart", "caddy.service"])
        return proxied

    return put


@pytest.mark.parametrize("which", THEIRS)
def test_sites_of_others_stay_and_ours_is_imported(
    which: str, proxied: Operator, theirs: Callable[[str], Operator]
) -> None:
    text = THEIRS[which].format(address=proxied.server.address)
    operator = theirs(text)
    operator.answer()
    stopped = operator.apply()
    assert stopped["exit_code"] == 3 and "tls.caddyfile" in findings(stopped, "blocked")
    assert operator.server.get(CADDYFILE).decode() == text, "the default leaves it alone"
    operator.answer(caddy={"existing_config": "keep"})
    document = operator.apply()
    assert document["exit_code"] == 0, document
    now = operator.server.get(CADDYFILE).decode()
    assert now.startswith(text.rstrip())
    assert now.removeprefix(text.rstrip()).split() == ["import", "/etc/caddy/vllm-https.caddy"]
    again = operator.apply()
    assert (again["exit_code"], again["changed"]) == (0, False)


def test_caddyfile_without_braces_blocks_with_the_lines_to_change(theirs: Callable[[str], Operator]) -> None:
    operator = theirs(BRACELESS)
    operator.answer(caddy={"existing_config": "keep"})
    assert_blocked(operator, "tls.existing_config", ("put your site into braces", "`example.com {`"))


def test_missing_global_options_block_with_the_lines_to_add(theirs: Callable[[str], Operator]) -> None:
    operator = theirs('http://blog.lan:8081 {\n\trespond "blog"\n}\n')
    operator.answer(caddy={"existing_config": "keep"})
    address = operator.server.address
    assert_blocked(operator, "tls.existing_sni", (f"default_sni {address}", f"fallback_sni {address}"))


def test_replaced_caddyfile_is_kept_in_the_backup_and_additions_survive(theirs: Callable[[str], Operator]) -> None:
    operator = theirs('http://blog.lan:8081 {\n\trespond "blog"\n}\n')
    server = operator.server
    server.run(["mkdir", "-p", "/etc/caddy/vllm-https.d"])
    addition = b'handle /hello {\n\trespond "hello"\n}\n'
    server.put("/etc/caddy/vllm-https.d/hello.caddy", addition)
    operator.answer(caddy={"existing_config": "replace"})
    document = operator.apply()
    assert document["exit_code"] == 0, document
    backups = server.run(["sh", "-c", f"cat /var/lib/vllm-https-setup/runs/{document['run']}/backup/*"]).stdout
    assert "blog.lan" in backups
    assert server.get("/etc/caddy/vllm-https.d/hello.caddy") == addition
    hello = operator.lab.outside.run(["curl", "-sk", f"https://{server.address}/hello"]).stdout
    assert hello == "hello"


def test_refused_certificate_takes_our_site_out_and_leaves_theirs(
    lab: Lab, acme: Acme, theirs: Callable[[str], Operator]
) -> None:
    """Caddy would ask the CA again and again for a site that stays, and each attempt counts."""
    text = 'http://blog.lan:8081 {\n\trespond "blog"\n}\n'
    site = Site(lab, acme, theirs(text))
    server = site.server
    site.name()
    site.answer_acme()
    answers = json.loads(server.get(ANSWERS))
    site.operator.answer(tls=answers["tls"], caddy={"existing_config": "keep"})
    acme.reject("rateLimited")
    document = site.operator.apply()
    assert document["exit_code"] == 1
    assert "the CA's limit is reached" in json.dumps(document)
    assert server.get(CADDYFILE).decode() == text
    running = server.run(["curl", "-sS", "http://localhost:2019/config/"]).stdout
    assert (DOMAIN in running, "blog.lan" in running) == (False, True)
    acme.accept()
    document = site.operator.apply()
    assert document["exit_code"] == 0, troubles(document)
    assert "import /etc/caddy/vllm-https.caddy" in server.get(CADDYFILE).decode()
    assert site.seen_from_outside("acme") == proof("acme")
