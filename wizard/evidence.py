"""What an explanation of a failed row goes by: the state of Caddy, vLLM and the firewall beside what came back."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from .endpoint import endpoint_host, own_address
from .engine import Look
from .parse.netfilter import Packet, evaluate
from .paths import ROOT_CERTIFICATE
from .server import NOTHING, Response
from .vllm import Vllm, last_words

if TYPE_CHECKING:
    from .explanations.terms import Seen

CADDY = "caddy.service"
DOWN = (502, 503, 504)


@dataclass(frozen=True)
class Witness:
    """Looks around where a row has failed; where all is well nothing of this is asked."""

    look: Look
    vllm: Vllm

    def remedy(self, row: str, response: Response = NOTHING, **more: Any) -> str:
        """The row's explanation. `more` is what only the row knows."""
        from .explanations import explain

        return explain(row, replace(self.seen(response, more.get("port", 443)), **more))

    def seen(self, response: Response, port: int) -> Seen:
        from .explanations.terms import Seen

        answers, vllm = self.look.answers, self.vllm
        state = vllm_state(vllm)
        # Its log is asked where it has something to say.
        said = last_words(self.look.server, vllm.unit.name) if response.status in DOWN and state != "runs" else ""
        return Seen(
            response,
            mode=answers.tls.mode,
            host=endpoint_host(self.look),
            address=own_address(self.look),
            ca_file=ROOT_CERTIFICATE,
            port=port,
            caddy=caddy_state(self.look),
            holder=holder(self.look, port),
            vllm=state,
            unit=vllm.unit.name,
            vllm_port=vllm.port,
            listening=", ".join(str(one) for one in vllm.own_listeners),
            script=vllm.script_path,
            said=said,
            key_file=vllm.key_file,
            wanted=answers.test.model,
            timeout=answers.test.timeout,
        )

    def asks_itself(self) -> int:
        """What vLLM itself answers to the key that its env file has."""
        return self.look.server.vllm_ready(self.vllm.request("/v1/models", with_key=True)).status

    def refuses(self, port: int, family: int) -> tuple[str, str]:
        """What the loaded rules come to for anybody's packet to this port, and the rule that refuses it."""
        firewall = self.look.server.firewall()
        kernel = firewall.kernel6 if family == 6 else firewall.kernel4
        if kernel is None:
            return "unsure", ""
        verdict = evaluate(kernel, Packet("tcp", port, family=family))
        return verdict.result, (verdict.rule or "") if verdict.result in ("drop", "reject") else ""

    def firewall_is_on(self) -> bool:
        firewall = self.look.server.firewall()
        return firewall.enabled and firewall.loaded is not False


def caddy_state(look: Look) -> str:
    if any(one.unit == CADDY for one in look.server.listeners()):
        return "runs"
    return "stopped" if look.server.packages("caddy")["caddy"].installed else "missing"


def vllm_state(vllm: Vllm) -> str:
    if vllm.unit.active == "failed" or vllm.unit.sub == "auto-restart":
        return "failed"
    if not vllm.unit.is_active:
        return "stopped"
    if not vllm.own_listeners:
        return "loading"
    met = any(one.is_loopback or one.is_wildcard for one in vllm.own_listeners)
    return "runs" if met else "elsewhere"


def holder(look: Look, port: int) -> str:
    """Another program than Caddy that has the port, as a person finds it again."""
    others = [one for one in look.server.listeners() if one.port == port and one.unit != CADDY and not one.is_loopback]
    return next((f"{one.program or 'another program'} ({one.unit or 'no unit'})" for one in others), "")
