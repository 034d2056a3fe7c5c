"""What preflight says of vLLM's unit, of what it starts, and of its API key."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Sequence

from .engine import Look
from .model import Finding, Level, ListensOn, Run, UnitIs, VllmAnswers, Wait
from .models import further, models, units
from .parse.units import parse_exec_start
from .server import Listener
from .vllm import Readiness, Vllm, answers_in_shell, find_vllm, last_words
from .vllm_answers import check_answers
from .vllm_candidates import check_missing, check_others
from .vllm_environment import KEY_NAME

MANY_RESTARTS = 3
LEAST_KEY = 16
LEAST_DIFFERENT = 8
# Of guides and examples; nothing that a generator makes has one of these words in it.
KNOWN_KEYS = re.compile(
    r"token-abc123|changeme|change-me|your[-_]|secret|password|passw0rd|example|1234567|^empty$", re.I
)
NEW_KEY = "sudo vllm-https-setup key new"
MAKE_KEY = f"have one made: {NEW_KEY}"
# What opens more of vLLM than its API, and what that is.
SWITCHES = {
    "VLLM_SERVER_DEV_MODE": "vLLM's developers' routes (/collective_rpc, /sleep, /reset_prefix_cache)",
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "/v1/load_lora_adapter, by which a client makes vLLM load files",
}


def check_vllm(look: Look) -> Iterator[Finding]:
    """Each service that is served; and those that run beside them."""
    known = units(look.answers)
    for model in models(look):
        yield from model.findings(check_service(model.look, known))
    if look.answers.vllm.more:
        yield from check_ports(look)
    if find_vllm(look).unit.exists:
        yield from check_others(look, known)


def check_ports(look: Look) -> Iterator[Finding]:
    """Two services can't have one port: the second would fail, and the first answer for both."""
    found = {look.answers.vllm.unit: find_vllm(look).port}
    for model in further(look):
        port = find_vllm(model.look).port
        other = next((unit for unit, known in found.items() if known == port), None)
        if other is not None:
            yield Finding(
                "preflight.vllm_port",
                Level.BLOCKED,
                f"{model.unit} has the same port as {other}, {port}",
                remedy="give it another one (--port 8001) where it is launched, then "
                f"sudo systemctl restart {model.unit}",
                evidence={"units": [other, model.unit], "port": port},
            )
        found.setdefault(model.unit, port)


def check_service(look: Look, known: Sequence[str]) -> Iterator[Finding]:
    """The service that the answers are for; `known` are the units of all that are served."""
    vllm = find_vllm(look)
    if not vllm.unit.exists:
        yield check_missing(look, vllm, known)
        return
    yield from check_unit(look, vllm)
    yield check_start(vllm)
    yield from check_key(vllm)
    yield from check_switches(vllm)
    if vllm.key is not None and vllm.unit.is_active:
        yield from check_answers(look, vllm, loading(look, vllm))


def check_unit(look: Look, vllm: Vllm) -> Iterator[Finding]:
    name, unit = vllm.unit.name, vllm.unit
    restarts = int(unit.properties.get("NRestarts", "0") or 0)
    key = "preflight.vllm_unit"
    if unit.load not in ("loaded", "masked"):
        yield Finding(
            key,
            Level.BLOCKED,
            f"systemd can't load {name} ({unit.load}): there is an error in its file",
            remedy=f"systemd-analyze verify {name} says which; then sudo systemctl daemon-reload",
            evidence={"load": unit.load, "path": unit.properties.get("FragmentPath", "")},
        )
    elif not unit.is_enabled:
        masked = unit.enabled.startswith("masked")
        unmask = f"sudo systemctl unmask {name}; then " if masked else ""
        yield Finding(
            key,
            Level.BLOCKED,
            f"{name} is {unit.enabled or 'not enabled'}: after a reboot there would be no API",
            remedy=f"{unmask}sudo systemctl enable {name}",
        )
    elif not unit.is_active and (holder := holder_of_port(look, vllm)) is not None:
        where = holder.unit or f"process {holder.pid}"
        stop = f"sudo systemctl disable --now {holder.unit}" if holder.unit else f"sudo kill {holder.pid or 'PID'}"
        yield Finding(
            key,
            Level.BLOCKED,
            f"{name} does not run, and could not: {holder.program or 'another program'} ({where}) has port {vllm.port}",
            remedy=f"stop that one: {stop}; or give {name} another port in its launch command",
            evidence={"active": unit.active, "listener": str(holder)},
        )
    elif unit.active == "failed" or unit.sub == "auto-restart":
        result = unit.properties.get("Result", "")
        # systemd.unit(5), StartLimitIntervalSec=: until that is over, or reset, it refuses every start, a good one too.
        limited = result == "start-limit-hit"
        again = f" and systemd has started it {restarts} times again" if restarts else ""
        ends = "; systemd starts it no more for now, it has failed too often" if limited else ""
        reset = f"; then sudo systemctl reset-failed {name} && sudo systemctl start {name}" if limited else ""
        yield Finding(
            key,
            Level.BLOCKED,
            f"{name} has failed{again}: {last_words(look.server, name)}{ends}",
            remedy=f"put it right first; its log: journalctl -u {name} -n 50{reset}",
            evidence={"active": unit.active, "result": result, "restarts": restarts},
        )
    elif unit.active == "inactive":
        yield Finding(key, Level.DRIFT, f"{name} is enabled but stopped", fix=start(look, vllm))
    else:
        how = "active" if unit.is_active else unit.active
        yield Finding(key, Level.OK, f"{name} is enabled and {how}, as user {vllm.user}")
        if restarts >= MANY_RESTARTS:
            yield Finding(
                "preflight.vllm_restarts",
                Level.WARN,
                f"systemd has had to start {name} again {restarts} times: it fails now and then",
                remedy=f"see why: journalctl -u {name} -p warning -n 50",
                evidence={"restarts": restarts},
            )
    if unit.properties.get("NeedDaemonReload") == "yes":
        yield Finding(
            "preflight.daemon_reload",
            Level.WARN,
            f"the file of {name} was changed, and systemd still goes by the old one: this is what was looked at",
            remedy="sudo systemctl daemon-reload; then check again",
        )


def holder_of_port(look: Look, vllm: Vllm) -> Listener | None:
    """Who else listens on vLLM's port; it would fail at its start, and the other's answers be taken for its own."""
    return next((one for one in look.server.listeners() if one.port == vllm.port and one.unit != vllm.unit.name), None)


def start(look: Look, vllm: Vllm) -> tuple[Run, Wait]:
    name = vllm.unit.name
    gone = (UnitIs(name, active=False), ListensOn(name, ()))
    return (
        Run(
            ("systemctl", "start", name),
            "start vLLM, as its unit says it should run",
            undo=(Run(("systemctl", "stop", name), "", makes=gone),),
            makes=(UnitIs(name, active=True),),
        ),
        loading(look, vllm),
    )


def loading(look: Look, vllm: Vllm) -> Wait:
    return Wait(
        "vLLM answers",
        "the model is still loading",
        look.answers.vllm.ready_timeout,
        Readiness(look),
        makes=(VllmAnswers(vllm.port), *listening(vllm)),
        late=f"It goes on loading. Its log: journalctl -u {vllm.unit.name} -f; then run this again",
        shell=answers_in_shell(vllm),
    )


def listening(vllm: Vllm) -> tuple[ListensOn, ...]:
    """Where it will listen when it has loaded, as its launch command says; what listens already is known."""
    if vllm.listeners:
        return ()
    host = vllm.command.host if vllm.command and vllm.command.host else "0.0.0.0"
    return (ListensOn(vllm.unit.name, ((host, vllm.port),)),)


def check_start(vllm: Vllm) -> Finding:
    key, name = "preflight.launch_script", vllm.unit.name
    evidence = {"path": vllm.script_path, "port": vllm.port}
    in_script = vllm.launch.refusal is not None and "container" in vllm.launch.refusal
    if vllm.start.kind == "container" or in_script:
        program = vllm.start.program or "a container"
        return Finding(
            key,
            Level.BLOCKED,
            f"{name} runs vLLM in a container ({vllm.script_path if in_script else program}). That is not supported: "
            "its ports are opened past ufw, and are not the unit's own",
            remedy="let the unit run vLLM itself, by a script with exec vllm serve …; until then publish the port on "
            f"loopback alone: -p 127.0.0.1:{vllm.port}:{vllm.port}",
            evidence=evidence,
        )
    if vllm.start.kind == "command" and vllm.launching.in_unit:
        program = posixpath.basename(vllm.start.script)
        return Finding(key, Level.OK, f"launched by {name} itself ({program}), port {vllm.port}", evidence=evidence)
    if vllm.script is not None and vllm.script.kind == "file":
        started = parse_exec_start(vllm.unit.properties.get("ExecStart", ""))[:1] == (vllm.script_path,)
        if started and not vllm.script.mode & 0o111:
            summary = f"{vllm.script_path} is not executable: {name} would fail at its next start"
            return Finding(key, Level.BLOCKED, summary, f"sudo chmod +x {vllm.script_path}", evidence)
        return Finding(key, Level.OK, f"launched by {vllm.script_path}, port {vllm.port}", evidence=evidence)
    if vllm.script is not None and vllm.script.kind == "link":
        said = f"{vllm.script_path} is a link to {vllm.script.text}; no link is followed where a file is to be edited"
    else:
        said = f"the launch script was not found ({vllm.script_path or 'the unit names no script'})"
    remedy = "name it in the answers: vllm: {launch_script: /path/to/start-vllm.sh}"
    return Finding(key, Level.BLOCKED, said, remedy, evidence)


def check_key(vllm: Vllm) -> Iterator[Finding]:
    found, restart = vllm.environment, f"sudo systemctl restart {vllm.unit.name}"
    key = "preflight.api_key"
    flaw = next(((path, flaw) for path, flaw in found.flaws if flaw.name == KEY_NAME), None)
    if found.missing:
        yield Finding(
            "preflight.env_file",
            Level.BLOCKED,
            f"the env file {found.missing[0]} is missing",
            remedy="write it (VLLM_API_KEY=…, mode 0600), or name another: vllm: {env_file: …}",
        )
    elif vllm.key is not None:
        summary, evidence = f"an API key is set in {vllm.key_file}", {"env_file": vllm.key_file}
        yield Finding(key, Level.OK, summary, evidence=evidence)
        yield from check_care(vllm)
        if flaw is not None:
            yield Finding(
                "preflight.env_file_form",
                Level.WARN,
                f"{flaw[0]}, line {flaw[1].line}: {flaw[1].text}",
                remedy=f"put the line right, with {KEY_NAME} once and alone; then {restart}",
            )
    elif found.key_unknown:
        yield Finding(
            key,
            Level.BLOCKED,
            f"{vllm.key_file} makes the API key up as it starts vLLM, so that nobody else can know it",
            remedy=f"write it into an env file (mode 0600) that the unit names as EnvironmentFile=; then {restart}",
        )
    elif found.key_empty:
        yield Finding(
            key,
            Level.BLOCKED,
            f"{KEY_NAME} in {vllm.key_file} is empty, so that vLLM asks nobody for a key",
            remedy=f"{MAKE_KEY}; or write one there, then {restart}",
        )
    elif flaw is not None:
        yield Finding(
            key,
            Level.BLOCKED,
            f"systemd does not take {KEY_NAME} from {flaw[0]}, line {flaw[1].line}: {flaw[1].text}",
            remedy=f"write it as {KEY_NAME}=… on a line of its own; then {restart}",
            evidence={"path": flaw[0], "line": flaw[1].line},
        )
    else:
        yield Finding(
            key,
            Level.BLOCKED,
            f"no {KEY_NAME} in {', '.join(found.files) or 'any env file of the unit'}",
            remedy=f"{MAKE_KEY}; or add {KEY_NAME}=… to the unit's env file, then {restart}",
        )


def check_care(vllm: Vllm) -> Iterator[Finding]:
    """A key that others on this server can read, or that can be guessed."""
    found, name = vllm.environment, vllm.unit.name
    value = vllm.key.reveal() if vllm.key is not None else ""
    if found.shown:
        yield Finding(
            "preflight.key_on_command_line",
            Level.WARN,
            "the API key is an argument of vLLM: every user of this server sees it in the list of processes (ps)",
            remedy=f"set {KEY_NAME} in an env file of {name} (mode 0600), take the option --api-key out, and make a "
            "new key, for this one has been seen",
            evidence={"where": vllm.key_file},
        )
    elif found.readable:
        in_unit = vllm.key_file.endswith((".service", ".conf"))
        how = f"and systemctl cat {name} shows it" if in_unit else "the file's mode lets them"
        move = f"set it in an EnvironmentFile of {name} instead (mode 0600)" if in_unit else ""
        yield Finding(
            "preflight.key_readable",
            Level.WARN,
            f"every user of this server can read the API key in {vllm.key_file}: {how}",
            remedy=move or f"sudo chmod o-rwx {vllm.key_file}; and make a new key, for this one may have been read",
            evidence={"where": vllm.key_file},
        )
    weak = (
        f"has {len(value)} characters"
        if len(value) < LEAST_KEY
        else "is one of guides and examples"
        if KNOWN_KEYS.search(value)
        else "repeats a few characters"
        if len(set(value)) < LEAST_DIFFERENT
        else ""
    )
    if weak:
        yield Finding(
            "preflight.key_weak",
            Level.WARN,
            f"the API key can be guessed: it {weak}, and soon everybody can try",
            remedy=f"{MAKE_KEY}; or write one into {vllm.key_file}, then sudo systemctl restart {name}",
        )
    if "," in value:
        yield Finding(
            "preflight.key_with_comma",
            Level.INFO,
            "the API key has a comma in it: vLLM takes the whole for one key, not for several",
        )


def check_switches(vllm: Vllm) -> Iterator[Finding]:
    for name, what in SWITCHES.items():
        setting = vllm.environment.variables.get(name)
        if setting is None or (setting.value or "").strip().lower() not in ("1", "true", "yes", "on"):
            continue
        yield Finding(
            "preflight.vllm_switch",
            Level.WARN,
            f"{setting.path} sets {name}: it adds {what}",
            remedy=f"take the line out; then sudo systemctl restart {vllm.unit.name}",
            evidence={"name": name, "path": setting.path},
        )
