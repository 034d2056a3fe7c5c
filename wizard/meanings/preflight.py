"""What preflight finds."""

from .meaning import Meaning

RESTART = "`sudo systemctl restart vllm.service`"
MEANINGS = {
    "preflight.os": Meaning(
        "Which system this is, from /etc/os-release. Made and tested for Ubuntu 24.04: another one has other packages, "
        "paths and defaults.",
        "Use a server with Ubuntu 24.04; or, where you know better, answer `preflight: {accept: [preflight.os]}`.",
    ),
    "preflight.systemd": Meaning(
        "Whether systemd runs this server. In a container it mostly does not, and no firewall or unit can be set up.",
        "Run this on the server itself.",
    ),
    "preflight.gpu": Meaning(
        "Whether a GPU answers: `nvidia-smi -L`, or AMD's /dev/kfd. A driver that does not match the kernel looks like "
        "no GPU at all.",
        "See what `nvidia-smi` says; after a kernel update a reboot often helps. For vLLM on a CPU answer "
        "`preflight: {accept: [preflight.gpu]}`.",
    ),
    "preflight.vllm_unit": Meaning(
        "Whether vLLM's unit is there, enabled (else a reboot ends the API) and running. Stopped though enabled is "
        "put right: it is started. Failed, disabled or missing is yours to decide.",
        "Enable it (`sudo systemctl enable vllm.service`); where it has failed, its log says why: "
        "`journalctl -u vllm.service -n 50`. Another name: `vllm: {unit: …}` in the answers.",
    ),
    "preflight.launch_script": Meaning(
        "The script that the unit starts, and the port that it gives to vLLM. The bind step edits one line of it.",
        "Name it in the answers: `vllm: {launch_script: /path/to/start-vllm.sh}`.",
    ),
    "preflight.env_file": Meaning(
        "The unit names an env file that is not there.",
        "Write it (`VLLM_API_KEY=…`, mode 0600, owner root), or name another: `vllm: {env_file: …}`.",
    ),
    "preflight.api_key": Meaning(
        "Whether VLLM_API_KEY is set in an env file of the unit. Without a key vLLM answers everybody.",
        f"Add `VLLM_API_KEY=…` to the env file (a long one: `openssl rand -hex 32`), then {RESTART}.",
    ),
    "preflight.vllm_answers": Meaning(
        "vLLM's own answers, before anything is changed: 401 without the key and 200 with it. Not yet answering is "
        "loading, and waited for (`vllm.ready_timeout`).",
        f"Where it answers without a key, or refuses its own, the env file was changed since the start: {RESTART}.",
    ),
    "preflight.ssh": Meaning(
        "The ports by which this server is administered over SSH, and how that is known: what listens, what sshd and "
        "ssh.socket are told, and this very connection. They are allowed before anything is closed.",
        "Name them: `firewall: {ssh_ports: [22]}`; `[]` on a server that is not administered over SSH.",
    ),
    "preflight.ssh_not_listening": Meaning(
        "sshd is told to use a port that nobody listens on yet. It will be allowed, too.",
        "After a change of sshd's port: `sudo systemctl daemon-reload`, then `sudo systemctl restart ssh.socket`.",
    ),
    "preflight.web_ports": Meaning(
        "Whether ports 80 and 443 are free, or Caddy's. Another web server there would be in Caddy's way.",
        "Stop the program that is named (`sudo systemctl disable --now nginx`), or use another server.",
    ),
    "preflight.packages": Meaning(
        "Whether dpkg has packages that are only half installed. Any installation would try to finish them first, "
        "with whatever that restarts. Our own (caddy, ufw) are finished by the run.",
        "`sudo dpkg --configure -a`, then `sudo apt-get install -f`.",
    ),
}
