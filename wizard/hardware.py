"""What preflight says of the machine itself: its GPU, its clock, and whose cloud it stands in."""

from __future__ import annotations

import re
from collections.abc import Iterator

from .engine import Look
from .model import Finding, Level, Output
from .parse.host import parse_synchronized
from .queries import GPUS, SYNCHRONIZED

DMI = "/sys/class/dmi/id"
# What a provider's machines say of themselves (vendor, product, asset tag), and how it calls its firewall.
CLOUDS = (
    ("Amazon EC2", "Amazon EC2", "security group"),
    ("Google", "Google Cloud", "VPC firewall rule"),
    ("7783-7084-3265-9085-8269-3286-77", "Microsoft Azure", "network security group"),
    ("OracleCloud", "Oracle Cloud", "security list"),
    ("DigitalOcean", "DigitalOcean", "cloud firewall"),
    ("Hetzner", "Hetzner", "cloud firewall"),
    ("Vultr", "Vultr", "firewall group"),
    ("Linode", "Akamai (Linode)", "cloud firewall"),
    ("Akamai", "Akamai (Linode)", "cloud firewall"),
    ("Scaleway", "Scaleway", "security group"),
    ("Alibaba Cloud", "Alibaba Cloud", "security group"),
    ("Tencent Cloud", "Tencent Cloud", "security group"),
    ("Exoscale", "Exoscale", "security group"),
    ("UpCloud", "UpCloud", "firewall"),
    ("OpenStack", "OpenStack", "security group"),
)
# nvidia-smi's own words, and what to do about each.
NVIDIA_TROUBLES = (
    (
        "Driver/library version mismatch",
        "the NVIDIA driver was upgraded, and the kernel still runs the old one: vLLM would not start again",
        "sudo reboot",
    ),
    (
        "couldn't communicate with the NVIDIA driver",
        "the NVIDIA driver is not loaded",
        "install it again (sudo ubuntu-drivers install), then sudo reboot; with Secure Boot: mokutil --sb-state",
    ),
    (
        "No devices were found",
        "the NVIDIA driver finds no GPU",
        "see what the kernel says: sudo dmesg | grep -iE 'nvrm|xid'; is the GPU given to this machine?",
    ),
    (
        "GPU is lost",
        "an NVIDIA GPU has dropped off the bus",
        "sudo reboot; if it comes back, look for Xid 79: sudo journalctl -k | grep Xid",
    ),
)


def check_gpu(look: Look) -> Finding:
    output = look.server.query(GPUS, timeout_s=20)
    cards = re.findall(r"^GPU \d+: (.*?)(?: \(UUID.*)?$", output.out, re.M)
    if output.ok and cards:
        return Finding("preflight.gpu", Level.OK, ", ".join(cards), evidence={"gpus": cards})
    if look.server.read("/dev/kfd") is not None:
        return Finding("preflight.gpu", Level.OK, "an AMD GPU (/dev/kfd)")
    what, remedy = _trouble(output)
    return Finding(
        "preflight.gpu",
        Level.BLOCKED,
        f"no GPU answers: {what}",
        remedy=f"{remedy}; for vLLM on a CPU or another accelerator answer preflight: {{accept: [preflight.gpu]}}",
        evidence={"nvidia-smi": output.last_words, "code": output.code},
    )


def _trouble(output: Output) -> tuple[str, str]:
    said = output.out + output.err
    for words, what, remedy in NVIDIA_TROUBLES:
        if words in said:
            return what, remedy
    if output.code == 127:
        return (
            "there is no nvidia-smi, and no /dev/kfd of an AMD driver",
            "install the driver (sudo ubuntu-drivers install --gpgpu), then sudo reboot",
        )
    return f"nvidia-smi fails ({output.last_words or 'without a word'})", "run it by hand: nvidia-smi"


def check_clock(look: Look) -> Iterator[Finding]:
    """Certificates hold from a minute to a minute: a clock that drifts makes good ones bad."""
    if parse_synchronized(look.server.query(SYNCHRONIZED, timeout_s=10).out) is False:
        yield Finding(
            "preflight.clock",
            Level.WARN,
            "the clock is not synchronised: certificates and signatures are judged by it",
            remedy="sudo timedatectl set-ntp true; behind a firewall without NTP name a server of your own in "
            "/etc/systemd/timesyncd.conf",
        )


def check_cloud(look: Look) -> Iterator[Finding]:
    names = ("sys_vendor", "product_name", "chassis_asset_tag")
    said = [state.text.strip() for name in names if (state := look.server.read(f"{DMI}/{name}")) is not None]
    for mark, provider, firewall in CLOUDS:
        if any(mark in one for one in said):
            yield Finding(
                "preflight.cloud",
                Level.INFO,
                f"this is a machine of {provider}: its {firewall} must let 443 in too, and this program can't see it",
                evidence={"provider": provider, "dmi": said},
            )
            return
