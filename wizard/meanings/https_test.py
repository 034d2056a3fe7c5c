"""What the final test finds: a row that failed. Its causes are in wizard/explanations."""

from .meaning import Meaning

MEANINGS = {
    "https_test.tls.handshake": Meaning(
        "TLS 1.2 or newer is agreed on, and the certificate's names, dates and chain are right for the endpoint.",
    ),
    "https_test.tls.trusted": Meaning("A client that has the right root, and nothing else, accepts the certificate."),
    "https_test.api.unauthorized": Meaning("A request without a key is refused with 401."),
    "https_test.api.models": Meaning("With the key `/v1/models` answers 200, and lists the model."),
    "https_test.api.chat": Meaning("With the key the model answers: a chat, or a completion, or an embedding."),
    "https_test.api.stream": Meaning(
        "The first piece of a streamed answer arrives before the last one is sent: nothing holds the stream back.",
    ),
    "https_test.api.blocked": Meaning(
        "Everything but `/v1/*` is 404 from Caddy, and so is every name that is not this server's.",
    ),
    "https_test.http.redirect": Meaning("`http://` leads to `https://` for good (modes acme and custom)."),
    "https_test.net.closed": Meaning("No socket of vLLM's can be reached from another machine."),
    "https_test.net.open": Meaning("SSH and 443 (and 80 where it is planned) answer other machines."),
}
