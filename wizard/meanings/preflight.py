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
    "preflight.vllm_port": Meaning(
        "Two services that are to be served have the same port. Only one of them can listen there, and would answer "
        "for both.",
        "Give one of them another `--port` where it is launched, and restart it.",
    ),
    "preflight.other_vllm": Meaning(
        "A service that runs vLLM and that the answers do not name. It is neither bound to loopback nor served here; "
        "the firewall closes its port like any other.",
        "Add it to `vllm.more`, with a path or a name of its own, as the text says; or leave it.",
    ),
    "preflight.launch_script": Meaning(
        "The script that the unit starts, and the port that it gives to vLLM. The bind step edits one line of it.",
        "Name it in the answers: `vllm: {launch_script: /path/to/start-vllm.sh}`. Where it can't be executed: "
        "`sudo chmod +x` it.",
    ),
    "preflight.env_file": Meaning(
        "The unit names an env file that is not there.",
        "Write it (`VLLM_API_KEY=…`, mode 0600, owner root), or name another: `vllm: {env_file: …}`.",
    ),
    "preflight.api_key": Meaning(
        "Whether VLLM_API_KEY is set in an env file of the unit. Without a key vLLM answers everybody.",
        "Have one made: `sudo vllm-https-setup key new`. Or add `VLLM_API_KEY=…` to the env file (a long one: "
        f"`openssl rand -hex 32`), then {RESTART}.",
    ),
    "preflight.key_new": Meaning(
        "`key new`: vLLM gets an API key that is made here, in its env file, and is restarted; then the new one opens "
        "/v1, and the old one does not. Where vLLM fails with it, the file is put back.",
    ),
    "preflight.key_kept": Meaning(
        "`key new`: another service of the answers, whose key stands in another file, keeps it. `--unit` names the one "
        "whose key is to be replaced; those that take theirs from the same file get the new one together.",
    ),
    "preflight.key_place": Meaning(
        "`key new`: the key comes from a place where this program does not replace it: the unit's `Environment=`, the "
        "launch script, an option of the command line; or vLLM does not run, so that nothing could be proved.",
        "Take the key out where the text says, and let the unit name an env file (`EnvironmentFile=`, mode 0600): "
        "`sudo vllm-https-setup key new` then writes one into it.",
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
        "Whether ports 80 and 443 are free, or Caddy's. Another web server there would be in the way; so would a "
        "container that publishes one of them.",
        "Stop what is named (`sudo systemctl disable --now nginx`, `sudo docker stop NAME`), or use another server.",
    ),
    "preflight.packages": Meaning(
        "Whether dpkg has packages that are only half installed. Any installation would try to finish them first, "
        "with whatever that restarts. Our own (caddy, ufw) are finished by the run. Where dpkg is at work on them now, "
        "that is said, and its end is waited for.",
        "`sudo dpkg --configure -a`, then `sudo apt-get install -f`.",
    ),
    "preflight.vllm_restarts": Meaning(
        "systemd has had to start vLLM again several times since the unit was last started by hand.",
        "See why: `journalctl -u vllm.service -p warning -n 50`. Out of memory is the most frequent reason.",
    ),
    "preflight.daemon_reload": Meaning(
        "The unit's file was changed, and systemd still goes by what it read before.",
        "`sudo systemctl daemon-reload`, then check again.",
    ),
    "preflight.env_file_form": Meaning(
        "A line of the env file with the key in it that systemd reads otherwise than a shell would: `export` "
        "before it, "
        "a comment after it, the key twice.",
        f"Put the line right; then {RESTART}.",
    ),
    "preflight.key_on_command_line": Meaning(
        "vLLM is given its key as an argument (`--api-key`), and every user of a server can list all arguments.",
        f"Set VLLM_API_KEY in an env file (mode 0600), take the option out, make a new key; then {RESTART}.",
    ),
    "preflight.key_readable": Meaning(
        "The key stands in a file that every user of this server can read; a unit's own `Environment=` is shown to "
        "all.",
        "`sudo chmod o-rwx` the file, or move the key into an `EnvironmentFile=`; and make a new key.",
    ),
    "preflight.key_weak": Meaning(
        "The key is short, repeats itself, or is one of guides: soon it can be tried from everywhere.",
        f"Have one made: `sudo vllm-https-setup key new`. Or write one into the env file, then {RESTART}.",
    ),
    "preflight.key_with_comma": Meaning(
        "The key has a comma. vLLM takes what VLLM_API_KEY says for one key, commas and all.",
    ),
    "preflight.vllm_switch": Meaning(
        "A setting that opens more of vLLM than its API: VLLM_SERVER_DEV_MODE, VLLM_ALLOW_RUNTIME_LORA_UPDATING.",
        f"Take the line out, unless you need it and trust every holder of the key; then {RESTART}.",
    ),
    "preflight.vllm_version": Meaning(
        "This version of vLLM has published holes that matter behind a proxy, too.",
        f"Install the version that is named, or a newer one, into vLLM's environment; then {RESTART}.",
    ),
    "preflight.clock": Meaning(
        "The clock is not synchronised. Certificates hold from a minute to a minute: a clock that drifts makes "
        "good ones "
        "bad, and a CA refuses to issue.",
        "`sudo timedatectl set-ntp true`; see `timedatectl timesync-status`.",
    ),
    "preflight.cloud": Meaning(
        "The machine says whose cloud it stands in. That provider's own firewall is in front, and can't be seen "
        "from here.",
    ),
    "preflight.ssh_ipv6": Meaning(
        "sshd listens on IPv6 alone, and ufw with IPV6=no drops all of it: nobody could log in again.",
        "`IPV6=yes` in /etc/default/ufw; then check again.",
    ),
    "preflight.held": Meaning(
        "A package that is needed is on hold. apt refuses to install one that is; one that is there stays as it is.",
        "`sudo apt-mark unhold` and its name.",
    ),
    "preflight.apt_lock": Meaning(
        "Another program holds apt's locks now, often the nightly upgrade.",
    ),
    "preflight.apt_sources": Meaning(
        "A file below /etc/apt has a line that apt can't read, and then it does nothing at all. (A repository that "
        "does "
        "not answer is no matter.)",
        "Put the line right, or move the file away; `sudo apt-get update` then ends without an error.",
    ),
    "preflight.apt_configuration": Meaning(
        "apt's own configuration can't be read.",
        "Put right what it names, below /etc/apt/apt.conf.d.",
    ),
    "preflight.apt_proxy": Meaning(
        "apt goes out by a proxy that is set for it alone. Caddy's key is fetched, and a CA is asked, without it.",
    ),
    "preflight.space": Meaning(
        "A file system is nearly full: an installation that runs out of room leaves packages half-way.",
        "`sudo apt-get clean`, `sudo journalctl --vacuum-size=200M`; see what is large: `sudo du -xh / | sort -h | "
        "tail`.",
    ),
    "preflight.firewalld": Meaning(
        "firewalld rules the firewall here. It and ufw each undo what the other sets.",
        "Disable it, or keep it: open 443 in it and answer `firewall: {manage: false}`.",
    ),
    "preflight.netfilter_persistent": Meaning(
        "Packages that load rules of yours at each boot. Where ufw is not installed yet, installing it removes them.",
        "Remove them where no rule is needed any more; or keep them: answer `firewall: {manage: false}`.",
    ),
    "preflight.own_rules": Meaning(
        "Rules of iptables that come before ufw's. What they refuse stays closed (443 too: then nothing is begun), "
        "what "
        "they accept stays open. Those of fail2ban, Docker, Kubernetes and the like are left out.",
        "`sudo iptables -S INPUT`; delete those that nobody needs, also where they are loaded from at boot.",
    ),
    "preflight.nftables": Meaning(
        "A table of nftables that ufw knows nothing of has a say in incoming packets: a packet must pass both. "
        "Where it is certain that the table refuses 443 to everybody, nothing is begun.",
        "Let 443 in there, too; or take the table away, often from /etc/nftables.conf.",
    ),
    "preflight.forwarding": Meaning(
        "The server passes packets on for others (a VPN, Kubernetes, virtual machines). ufw drops those by "
        "default, from "
        "the moment when it is on.",
        "`sudo ufw default allow routed`, or a `sudo ufw route allow …` for each.",
    ),
    "preflight.cuts_off_udp": Meaning(
        "A service waits for UDP packets of others, and ufw will no longer let them in.",
        "Keep it: `firewall: {allow: [{port: 51820, protocol: udp}]}`.",
    ),
    "preflight.published_ports": Meaning(
        "Ports that containers publish. Docker and its like translate those before ufw is asked: they stay open to "
        "everybody. (Those of rootless containers are programs like any other: ufw closes them.)",
        "Publish on loopback alone (`-p 127.0.0.1:…`), or set a rule in the chain DOCKER-USER, as the finding has it.",
    ),
}
