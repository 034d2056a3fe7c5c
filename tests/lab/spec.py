"""What a host is like before its first boot: the guide's own state by default, exposed to the network."""

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.lab.base import VLLM_ID
from tests.lab.cache import HERE
from tests.lab.space import GATE, GATE6

# A key that every quoting mistake would damage, and that no program writes by chance.
CANARY = "sk-lab/7Q+canary/xY2=zz+Lk9vT0=="
GUIDE_PACKAGES = ("apt-transport-https", "debian-archive-keyring", "debian-keyring")


@dataclass(frozen=True)
class File:
    """A file to be put on a host."""

    content: bytes
    mode: int = 0o644
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True)
class ServerSpec:
    """A host. The defaults are the guide's exact starting point: vLLM on all interfaces, ufw there but inactive."""

    name: str = ""  # the host's name; empty: h1, h2, …
    # vLLM
    vllm_host: str = "0.0.0.0"
    vllm_port: int = 8000
    vllm_enabled: bool = True
    model: str = "microsoft/Phi-4-mini-instruct"
    served_model_name: str = "phi-4-mini"
    api_key: str | None = CANARY  # None: an env file without a key
    load_seconds: float = 0.3
    vllm_arguments: str = "--gpu-memory-utilization 0.90"  # more words of the launch command
    vllm_environment: Mapping[str, str] = field(default_factory=dict)  # more of the env file
    vllm_standin: bool = True  # False: a layer brings vLLM itself, see vllm_cpu.py
    standin: Mapping[str, object] = field(default_factory=dict)  # more settings, see standin.py
    # the server
    ssh_port: int = 22
    ssh_socket: bool = False  # socket activation: systemd holds the listener
    by_ipv6: bool = False  # the operator logs in by IPv6
    ufw_installed: bool = True
    ufw_rules: tuple[str, ...] = ()  # as typed after `ufw`: "allow 22/tcp"
    ufw_enabled: bool = False
    guide_packages: bool = False  # debian-keyring and its like are there already
    packages: tuple[str, ...] = ()  # more Debian packages that the lab's archive has
    layers: tuple[Path, ...] = ()  # more overlay layers, bottom first: the program
    files: Mapping[str, File] = field(default_factory=dict)
    extra_addresses: tuple[str, ...] = ()  # with prefix length: "10.91.0.77/24", "fd91::77/64"

    @property
    def debian_packages(self) -> tuple[str, ...]:
        """All packages on top of the base."""
        guide = GUIDE_PACKAGES if self.guide_packages else ()
        return (*(("ufw",) if self.ufw_installed else ()), *guide, *self.packages)


VLLM_SERVICE = """\
[Unit]
Description=vLLM OpenAI-compatible server
After=network-online.target
Wants=network-online.target

[Service]
Type=simple
User=vllm
Group=vllm
WorkingDirectory=/opt/vllm
EnvironmentFile=/etc/vllm/vllm.env
ExecStart=/opt/vllm/start-vllm.sh
Restart=on-failure
RestartSec=5
LimitNOFILE=65535

[Install]
WantedBy=multi-user.target
"""

START_VLLM = """\
#!/bin/bash
set -euo pipefail

source /opt/vllm/venv/bin/activate

exec vllm serve {spec.model} \\
  --host {spec.vllm_host} \\
  --port {spec.vllm_port} \\
  --served-model-name {spec.served_model_name} \\
  {spec.vllm_arguments}
"""

VLLM_ENV = """\
# Secrets of the vLLM service; readable by root alone.
{key}HF_HOME=/opt/vllm/huggingface
{more}"""

ACTIVATE = 'VIRTUAL_ENV=/opt/vllm/venv\nPATH="$VIRTUAL_ENV/bin:$PATH"\nexport VIRTUAL_ENV PATH\n'

# The clock is the machine's, and a host can't set it: this says what a host of its own would.
TIMEDATECTL = "#!/bin/sh\necho NTPSynchronized=yes\n"

HOST0 = """\
[Match]
Name=host0

[Network]
{addresses}Gateway={gate}
Gateway={gate6}
IPv6AcceptRA=no
LinkLocalAddressing=ipv6
IPv6DuplicateAddressDetection=0
"""


def more_vllm(name: str, port: int, key: str) -> dict[str, File]:
    """The files of another service, vllm-NAME.service: its unit, launch script and env file. It is not enabled."""
    spec = ServerSpec(vllm_port=port, served_model_name=name, model=f"org/{name}")
    unit = VLLM_SERVICE.replace("start-vllm.sh", f"start-{name}.sh").replace("vllm.env", f"{name}.env")
    return {
        f"/etc/systemd/system/vllm-{name}.service": File(unit.encode()),
        f"/opt/vllm/start-{name}.sh": File(START_VLLM.format(spec=spec).encode(), 0o755),
        f"/etc/vllm/{name}.env": File(f"VLLM_API_KEY={key}\n".encode(), 0o600),
    }


def initial_files(spec: ServerSpec, name: str, addresses: tuple[str, ...], public_key: str) -> dict[str, File]:
    """All files that make a base root into this host."""
    key = "" if spec.api_key is None else f"VLLM_API_KEY={spec.api_key}\n"
    more = "".join(f"{name}={value}\n" for name, value in spec.vllm_environment.items())
    lines = "".join(f"Address={address}\n" for address in (*addresses, *spec.extra_addresses))
    standin = {"load_seconds": spec.load_seconds, **spec.standin}
    machine_id = hashlib.md5(f"{name}{public_key}".encode(), usedforsecurity=False).hexdigest()
    vllm = {"uid": VLLM_ID, "gid": VLLM_ID}
    files = {
        "/etc/hostname": File(f"{name}\n".encode()),
        "/etc/hosts": File(f"127.0.0.1 localhost\n127.0.1.1 {name}\n::1 localhost ip6-localhost\n".encode()),
        "/etc/machine-id": File(f"{machine_id}\n".encode(), 0o444),
        "/etc/systemd/network/10-host0.network": File(HOST0.format(addresses=lines, gate=GATE, gate6=GATE6).encode()),
        "/home/operator/.ssh/authorized_keys": File(public_key.encode(), 0o600, 1000, 37),
        "/etc/systemd/system/vllm.service": File(VLLM_SERVICE.encode()),
        "/etc/vllm/vllm.env": File(VLLM_ENV.format(key=key, more=more).encode(), 0o600),
        "/usr/local/bin/timedatectl": File(TIMEDATECTL.encode(), 0o755),
        "/opt/vllm/start-vllm.sh": File(START_VLLM.format(spec=spec).encode(), 0o755, **vllm),
    }
    if spec.vllm_standin:
        files["/opt/vllm/venv/bin/activate"] = File(ACTIVATE.encode(), 0o644, **vllm)
        files["/opt/vllm/venv/bin/vllm"] = File((HERE / "standin.py").read_bytes(), 0o755, **vllm)
        files["/etc/vllm-standin.json"] = File(json.dumps(standin).encode())
    if spec.ssh_port != 22 and not spec.ssh_socket:
        files["/etc/ssh/sshd_config.d/lab.conf"] = File(f"Port {spec.ssh_port}\n".encode())
    if spec.ssh_socket:
        listen = f"[Socket]\nListenStream=\nListenStream={spec.ssh_port}\n"
        files["/etc/systemd/system/ssh.socket.d/lab.conf"] = File(listen.encode())
    return files | dict(spec.files)


def archive(files: Mapping[str, File], links: Mapping[str, str]) -> bytes:
    """The files and symbolic links as a tar archive, with their directories, owned as said."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path, file in files.items():
            info = tarfile.TarInfo(path.lstrip("/"))
            info.size, info.mode, info.uid, info.gid = len(file.content), file.mode, file.uid, file.gid
            tar.addfile(info, io.BytesIO(file.content))
        for path, target in links.items():
            info = tarfile.TarInfo(path.lstrip("/"))
            info.type, info.linkname, info.mode = tarfile.SYMTYPE, target, 0o777
            tar.addfile(info)
    return buffer.getvalue()
