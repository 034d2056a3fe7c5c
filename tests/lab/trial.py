"""`./try`: a throw-away server with an exposed vLLM, set up over SSH as an operator would, and seen from outside."""

import argparse
import contextlib
import os
import shlex
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

from tests.lab import cache, vllm_cpu
from tests.lab.lab import Lab
from tests.lab.machine import CommandFailed, LabUnavailable
from tests.lab.program import ensure_program_layer
from tests.lab.server import Server
from tests.lab.spec import CANARY, ServerSpec

CHECKOUT = Path(__file__).resolve().parents[2]
PORTS = {22: "SSH", 80: "http", 443: "HTTPS", 8000: "vLLM"}
WORDS = {"open": "open", "refused": "closed", "filtered": "closed, no answer at all"}
DOMAIN = "llm.example.test"
ANSWERS = "/home/operator/answers.yaml"


class Ended(Exception):
    """SIGTERM: the same orderly end as Ctrl-C."""


def say(text: str = "") -> None:
    print(text, flush=True)


def kept() -> Path:
    """Where a server that --keep left up says who it is."""
    return cache.directory() / "kept"


def answers_for(lab: Lab, server: Server, options: argparse.Namespace) -> bytes:
    """The answers, with the fingerprint of the throw-away repository's key; and what their mode needs, made."""
    from wizard import answers

    make = {"internal": answers_internal, "acme": answers_acme, "custom": answers_custom}[options.mode]
    loaded = answers.load(Path(options.answers).read_bytes() if options.answers else make(lab, server))
    pinned = loaded.caddy.model_copy(update={"key_fingerprint": lab.key_fingerprint})
    return answers.dump(loaded.model_copy(update={"caddy": pinned})).encode()


def answers_internal(lab: Lab, server: Server) -> bytes:
    return b"version: 1\ntls: {mode: internal}\n"


def answers_acme(lab: Lab, server: Server) -> bytes:
    """A CA on the lab's internet, a name that leads to the server, and the CA's own root for the server."""
    ca = lab.acme()
    lab.gate.names.set(DOMAIN, f"A {server.address}")
    server.put("/etc/ssl/private-ca.pem", ca.ca_file)
    trusted(lab).write_bytes(ca.issuing_root)
    tls = f"{{mode: acme, domain: {DOMAIN}, email: ops@example.test, acme_directory: '{ca.directory}', "
    tls += f"acme_ca_file: /etc/ssl/private-ca.pem, public_addresses: [{server.address}]}}"
    return f"version: 1\ntls: {tls}\n".encode()


def answers_custom(lab: Lab, server: Server) -> bytes:
    """A certificate of a company's CA, which the server and the client trust."""
    leaf = lab.certificates.issue(DOMAIN)
    server.run(["mkdir", "-p", "/etc/ssl/llm"])
    server.put("/etc/ssl/llm/chain.pem", leaf.chain)
    server.put("/etc/ssl/llm/key.pem", leaf.key, 0o600)
    server.put("/usr/local/share/ca-certificates/company.crt", lab.certificates.root)
    server.run(["update-ca-certificates"])
    trusted(lab).write_bytes(lab.certificates.root)
    files = "certificate: /etc/ssl/llm/chain.pem, private_key: /etc/ssl/llm/key.pem"
    return f"version: 1\ntls: {{mode: custom, domain: {DOMAIN}, {files}}}\n".encode()


def trusted(lab: Lab) -> Path:
    """The root that the client outside checks the endpoint with."""
    return lab.outside.key.with_name("root.crt")


def look_from_outside(lab: Lab, server: Server) -> None:
    """What another machine meets: ports, and vLLM's own endpoint."""
    for port, name in PORTS.items():
        state = lab.outside.tcp(server.address, port, 1)
        say(f"    {port:>5}/tcp  {name:<6} {WORDS.get(state, state)}")
    url = f"http://{server.address}:8000/metrics"
    answer = ask(lab, "-o", "/dev/null", "-w", "%{http_code}", url)
    said = {"000": "no answer", "200": "200: anybody may read it, in clear"}.get(answer, answer)
    say(f"    GET {url}  {said}")


def ask(lab: Lab, *words: str) -> str:
    """curl, from the machine outside."""
    return lab.outside.run(["curl", "-s", "-m", "5", *words], check=False).stdout.strip()


def show_client(lab: Lab, server: Server, mode: str) -> bool:
    """What a client types, and what it gets; False where that is not as it should be."""
    base_url = f"https://{server.address if mode == 'internal' else DOMAIN}/v1"
    if mode == "internal":
        trusted(lab).write_bytes(server.get("/etc/vllm-https-setup/root.crt"))
    to = ("--connect-to", f"{DOMAIN}::{server.address}:")
    trust, code = ("--cacert", str(trusted(lab)), *to), ("-o", "/dev/null", "-w", "%{http_code}")
    header = lab.outside.key.with_name("header")
    header.write_text(f"Authorization: Bearer {CANARY}\n")
    header.chmod(0o600)
    without = ask(lab, *trust, *code, f"{base_url}/models")
    with_key = ask(lab, *trust, *code, "-H", f"@{header}", f"{base_url}/models")
    elsewhere = ask(lab, *trust, *code, f"{base_url.removesuffix('/v1')}/metrics")
    say(f"    GET {base_url}/models  {without} without the key, {with_key} with it")
    say(f"    GET {base_url.removesuffix('/v1')}/metrics    {elsewhere}")
    say()
    roots = {
        "internal": "root.crt is the server's /etc/vllm-https-setup/root.crt",
        "acme": "root.crt is this CA's root; Let's Encrypt needs none",
        "custom": "root.crt is your company's CA",
    }
    say(f"What a client types ({roots[mode]}):")
    say(f"    curl --cacert root.crt {base_url}/chat/completions \\")
    say('      -H "Authorization: Bearer $VLLM_API_KEY" -H "Content-Type: application/json" \\')
    say("""      -d '{"model": "phi-4-mini", "messages": [{"role": "user", "content": "Hello"}]}'""")
    return (without, with_key, elsewhere) == ("401", "200", "404")


def boot(lab: Lab, *, real: bool) -> Server:
    """An exposed server that has the program; returns when its vLLM answers."""
    spec = ServerSpec(name="gpu-01", layers=(ensure_program_layer(CHECKOUT),))
    if not real:
        say("Booting a server: Ubuntu's name, a real systemd, ufw, sshd and apt; vLLM is a stand-in.")
        return lab.boot(spec)
    spec = vllm_cpu.real(spec, lab.base)
    say(f"Booting a server: Ubuntu's name, a real systemd, ufw, sshd and apt, and vLLM {vllm_cpu.VERSION} on its CPU.")
    server = lab.boot(spec, wait=False)
    server.wait_until_up(vllm=False)
    say("vLLM loads a tiny model of random weights: this takes a minute or two.")
    say(f"It answers after {vllm_cpu.wait_until_loaded(server):.0f} s.")
    return server


def try_once(lab: Lab, options: argparse.Namespace) -> int:
    """The whole trial on one server. Returns apply's exit code, or 1 where the client's view is not right."""
    server = boot(lab, real=options.vllm == "real")
    server.put(ANSWERS, answers_for(lab, server, options), 0o600, "operator:operator")
    say()
    say("Before, from another machine:")
    look_from_outside(lab, server)
    say()
    command = f"sudo vllm-https-setup apply --answers {shlex.quote(ANSWERS)}"
    say(f"operator@gpu-01:~$ {command}")
    with server.ssh_popen(command) as process:
        assert process.stdout is not None
        for line in process.stdout:
            say(line.decode(errors="replace").rstrip("\n"))
        code = process.wait()
    say()
    if code not in (0, 5):
        say(f"apply ended with exit code {code}.")
        return code
    say("After, from another machine:")
    look_from_outside(lab, server)
    right = show_client(lab, server, options.mode)
    return code or (0 if right else 1)


def enter(command: Sequence[str]) -> int:
    """SSH into the server that --keep left up."""
    try:
        words = (kept() / "ssh").read_text().split("\0")
    except FileNotFoundError:
        say("no server is up; ./try --keep leaves one up")
        return 1
    return os.execvp(words[0], [*words, *command])


def end() -> int:
    """Ends the server that --keep left up, and waits until nothing is left of it."""
    try:
        pid = int((kept() / "pid").read_text())
    except (FileNotFoundError, ValueError):
        say("no server is up")
        return 0
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    until = time.monotonic() + 30
    while (kept() / "pid").exists() and Path(f"/proc/{pid}").exists() and time.monotonic() < until:
        time.sleep(0.1)
    for name in ("pid", "ssh"):
        (kept() / name).unlink(missing_ok=True)
    say("ended")
    return 0


def stay(lab: Lab, server: Server, tell: int, code: int) -> None:
    """Keeps the lab up, without a terminal, until --end."""
    kept().mkdir(parents=True, exist_ok=True)
    (kept() / "ssh").write_text("\0".join(server.ssh_argv(tty=True)))
    (kept() / "pid").write_text(str(os.getpid()))
    say()
    say("The server stays up.")
    say("    enter it:  sudo ./try --enter     (as operator, over SSH; sudo asks for no password)")
    say("    end it:    sudo ./try --end")
    os.write(tell, bytes([code]))
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    os.close(tell)
    while True:
        signal.pause()


def keep(options: argparse.Namespace) -> int:
    """The trial in a process of its own, which stays; this one ends with the trial's exit code."""
    if (kept() / "pid").exists():
        end()
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        os.setsid()
        os.close(told)
        with orderly(), Lab() as lab:
            code = try_once(lab, options)
            stay(lab, lab.servers[0], tell, code)
    os.close(tell)
    with ended_with(child):
        answer = os.read(told, 1)
    if answer:
        return answer[0]
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@contextlib.contextmanager
def ended_with(child: int) -> Iterator[None]:
    """Ctrl-C here ends the process that holds the lab, and waits for its end."""
    try:
        yield
    except BaseException:
        os.kill(child, signal.SIGTERM)
        os.waitpid(child, 0)
        raise


@contextlib.contextmanager
def orderly() -> Iterator[None]:
    """SIGTERM and SIGHUP unwind like Ctrl-C, so that the lab takes itself down."""

    def unwind(number: int, frame: FrameType | None) -> None:
        raise Ended

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, unwind)
    try:
        yield
    except Ended:
        sys.exit(143)


def main() -> int:
    parser = argparse.ArgumentParser(prog="./try")
    parser.add_argument("--mode", choices=("internal", "acme", "custom"), default="internal")
    parser.add_argument("--vllm", choices=("standin", "real"), default="standin")
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--answers", metavar="F")
    parser.add_argument("--end", action="store_true")
    parser.add_argument("--enter", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    if options.end:
        return end()
    if options.enter is not None:
        return enter(options.enter)
    try:
        if options.keep:
            return keep(options)
        with orderly(), Lab() as lab:
            return try_once(lab, options)
    except LabUnavailable as error:
        say(f"{error} Without it: ./test fast runs the program on described servers.")
        return 2
    except CommandFailed as error:
        say(f"the lab could not be made: {error}")
        return 1
    except KeyboardInterrupt:
        say("\nended; nothing is left")
        return 130
