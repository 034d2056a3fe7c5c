"""Drifts of vLLM: its unit, launch script and env file."""

from tests.lab.drifts.drift import BLOCKED, ENV, SCRIPT, UNIT, WRITE_CADDYFILE, Drift, put_back, until_vllm, with_copy

RESTART = f"systemctl restart vllm; sleep 0.1; {until_vllm()}"
DROP_IN = "/etc/systemd/system/vllm.service.d/own.conf"
COMMAND = "/opt/vllm/venv/bin/vllm serve m --served-model-name phi-4-mini --port 8000 --host 0.0.0.0"
EXPOSE = f"sed -i 's/--host 127.0.0.1/--host 0.0.0.0/' {SCRIPT}"
VLLM_BACK = ("run systemctl restart vllm.service", "wait vLLM answers on 127.0.0.1:8000")
MOVE_PORT = "sed -i 's/--port {0}/--port {1}/' " + SCRIPT + "; systemctl restart vllm; "


def drop_in(*lines: str) -> str:
    """The command that puts these lines into a drop-in of vLLM's unit and restarts vLLM."""
    text = "\\n".join(("[Service]", *lines))
    write = f"mkdir -p {DROP_IN.rpartition('/')[0]}; printf '{text}\\n' >{DROP_IN}"
    return f"{write}; systemctl daemon-reload; {RESTART}"


WITHOUT_DROP_IN = f"rm -r {DROP_IN.rpartition('/')[0]}; systemctl daemon-reload; {RESTART}"
# Another program in vLLM's place, which answers as vLLM does.
SECOND = f"systemd-run -q --unit=second-vllm -p EnvironmentFile={ENV} {COMMAND.replace('0.0.0.0', '127.0.0.1')}"

VLLM = (
    Drift("the launch script was edited", EXPOSE, "bind.launch_script", (f"write {SCRIPT}",), kept="--host 0.0.0.0"),
    Drift(
        "the launch script was edited and vLLM restarted",
        f"{EXPOSE}; {RESTART}",
        "bind.listener",
        (f"write {SCRIPT}", *VLLM_BACK),
        kept="--host 0.0.0.0",
    ),
    Drift(
        "a drop-in starts vLLM on every interface",
        drop_in("ExecStart=", f"ExecStart={COMMAND}"),
        "bind.listener",
        (f"write {DROP_IN}", "run systemctl daemon-reload", *VLLM_BACK),
        kept="--host 0.0.0.0",
        cleanup=WITHOUT_DROP_IN,
    ),
    Drift(
        "a drop-in takes the key away",
        drop_in("UnsetEnvironment=VLLM_API_KEY"),
        "preflight.vllm_answers",
        level=BLOCKED,
        stops=("vLLM answers /v1/models without a key", "sudo systemctl restart vllm.service"),
        by_hand=WITHOUT_DROP_IN,
    ),
    Drift(
        "the launch script is gone",
        f"mv {SCRIPT} /root/kept",
        "preflight.launch_script",
        level=BLOCKED,
        stops=(f"the launch script was not found ({SCRIPT})", "name it in the answers"),
        by_hand=put_back(SCRIPT),
    ),
    Drift(
        "vLLM's unit is gone",
        f"mv {UNIT} /root/kept; systemctl daemon-reload",
        "preflight.vllm_unit",
        level=BLOCKED,
        stops=("there is no vllm.service",),
        by_hand=f"{put_back(UNIT)}; systemctl daemon-reload",
    ),
    Drift(
        "vLLM's unit has an error",
        with_copy(UNIT, f"sed -i '/^ExecStart/d' {UNIT}; systemctl daemon-reload"),
        "preflight.vllm_unit",
        level=BLOCKED,
        stops=("systemd can't load vllm.service", "systemd-analyze verify vllm.service"),
        by_hand=f"{put_back(UNIT)}; systemctl daemon-reload",
    ),
    Drift(
        "vLLM is disabled",
        "systemctl disable -q vllm",
        "preflight.vllm_unit",
        level=BLOCKED,
        stops=("after a reboot there would be no API", "sudo systemctl enable vllm.service"),
        by_hand="systemctl enable -q vllm",
    ),
    Drift(
        "vLLM is stopped",
        "systemctl stop vllm",
        "preflight.vllm_unit",
        ("run systemctl start vllm.service", "wait vLLM answers"),
    ),
    Drift(
        "the key was taken out of the env file",
        with_copy(ENV, f"sed -i /VLLM_API_KEY/d {ENV}"),
        "preflight.api_key",
        level=BLOCKED,
        stops=(f"no VLLM_API_KEY in {ENV}", "then sudo systemctl restart vllm.service"),
        by_hand=put_back(ENV),
    ),
    Drift(
        "the env file is gone",
        f"mv {ENV} /root/kept",
        "preflight.env_file",
        level=BLOCKED,
        stops=(f"the env file {ENV} is missing", "VLLM_API_KEY=…, mode 0600"),
        by_hand=put_back(ENV),
    ),
    Drift(
        "the key was changed and vLLM not restarted",
        with_copy(ENV, f"sed -i 's/^VLLM_API_KEY=.*/VLLM_API_KEY=sk-another-0123456789abcdef/' {ENV}"),
        "preflight.vllm_answers",
        level=BLOCKED,
        stops=(f"vLLM answers 401 to a request with the key of {ENV}", "sudo systemctl restart vllm.service"),
        by_hand=put_back(ENV),
    ),
    Drift(
        "vLLM moved to another port",
        MOVE_PORT.format(8000, 8001) + until_vllm(8001),
        "tls.caddyfile",
        WRITE_CADDYFILE,
        cleanup=MOVE_PORT.format(8001, 8000) + until_vllm() + "; vllm-https-setup repair >/dev/null",
    ),
    Drift(
        "a second vLLM has its port",
        f"systemctl stop vllm; {SECOND}; {until_vllm()}",
        "preflight.vllm_unit",
        ("run systemctl start vllm.service", "wait vLLM answers"),
        level=BLOCKED,
        stops=("(second-vllm.service) has port 8000", "sudo systemctl disable --now second-vllm.service"),
        by_hand="systemctl stop second-vllm",
    ),
    Drift(
        "the GPU's driver was upgraded and not loaded",
        "mv /usr/bin/nvidia-smi /usr/bin/away; printf '#!/bin/sh\\necho Driver/library version mismatch\\nexit 18\\n' "
        ">/usr/bin/nvidia-smi; chmod 755 /usr/bin/nvidia-smi",
        "preflight.gpu",
        level=BLOCKED,
        stops=("the kernel still runs the old one: vLLM would not start again", "sudo reboot"),
        by_hand="mv /usr/bin/away /usr/bin/nvidia-smi",
    ),
)
