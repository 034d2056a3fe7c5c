"""api.unauthorized, api.models, api.chat and api.stream: why a request is answered otherwise than it should be."""

from __future__ import annotations

from .terms import (
    ANSWER_ANEW,
    ASK_VLLM,
    REPAIR,
    RESTART_VLLM,
    VLLM_LOG,
    Explanation,
    Seen,
    always,
    answers,
    both,
    has_words,
    keyed,
    late,
    neither,
    nothing_came,
    proxied,
    vllm_is,
)

KEYLESS, LISTS, CHAT, STREAM = ("api.unauthorized",), ("api.models",), ("api.chat",), ("api.stream",)
EARLY, MODEL = (*KEYLESS, *LISTS), (*CHAT, *STREAM)
API = (*EARLY, *MODEL)
ADDITIONS = "sudo grep -rn . /etc/caddy/vllm-https.d"


def broke_off(seen: Seen) -> bool:
    return seen.status == 0 and bool(seen.response.tls_version) and not late(seen)


def is_list(seen: Seen) -> bool:
    return '"data"' in seen.body


def is_encoded(seen: Seen) -> bool:
    return bool(seen.encoding)


def is_counted(seen: Seen) -> bool:
    return seen.response.header("Content-Length") is not None


def is_no_stream(seen: Seen) -> bool:
    return seen.kind != "text/event-stream"


def model_is_wrong(seen: Seen) -> bool:
    return seen.status == 200 and bool(seen.models)


TABLE = (
    Explanation(
        API,
        "no connection",
        nothing_came,
        "Nothing of HTTPS works yet: tls.handshake says why.",
    ),
    Explanation(
        EARLY,
        "no answer in time",
        late,
        "The request was taken, and nothing came: vLLM hangs, or is busier than it can bear. Does it answer itself?",
        ASK_VLLM,
    ),
    Explanation(
        MODEL,
        "no answer in time",
        late,
        "The model is busy, or slow: it had {seen.timeout} s. See what it does; to wait longer answer test.timeout.",
        "sudo journalctl -u {seen.unit} -f",
    ),
    Explanation(
        API,
        "the answer broke off",
        broke_off,
        "The answer broke off: vLLM has died meanwhile, or Caddy was restarted. vLLM's log says which.",
        VLLM_LOG,
    ),
    Explanation(
        API,
        "502; vLLM is stopped",
        both(answers(502), vllm_is("stopped")),
        "Caddy is well, and has nobody to ask: {seen.unit} is stopped.",
        "sudo systemctl start {seen.unit}",
    ),
    Explanation(
        API,
        "502; vLLM has failed",
        both(answers(502), vllm_is("failed")),
        "Caddy is well; {seen.unit} has failed: {seen.said}",
        VLLM_LOG,
    ),
    Explanation(
        API,
        "502; vLLM is loading",
        both(answers(502), vllm_is("loading")),
        "Caddy is well; vLLM is still loading its model: {seen.said}",
        "sudo journalctl -u {seen.unit} -f",
    ),
    Explanation(
        API,
        "502; vLLM listens elsewhere",
        both(answers(502), vllm_is("elsewhere")),
        "Caddy asks 127.0.0.1 port {seen.vllm_port}; vLLM listens on {seen.listening}.",
        REPAIR,
    ),
    Explanation(
        API,
        "502, though vLLM listens",
        answers(502),
        "vLLM listens on port {seen.vllm_port}, but breaks off; or Caddy asks another port. Ask vLLM itself:",
        ASK_VLLM,
    ),
    Explanation(
        API,
        "503 or 504 from vLLM",
        both(answers(503, 504), proxied),
        "It is vLLM itself that says so: overloaded, or on its way down. Its log says more.",
        VLLM_LOG,
    ),
    Explanation(
        API,
        "503 from Caddy",
        answers(503),
        "Caddy says so, not vLLM: health checks, a limit or a maintenance page in lines of yours.",
        ADDITIONS,
    ),
    Explanation(
        API,
        "504 from Caddy",
        answers(504),
        "vLLM took the request and said nothing for as long as Caddy waits (proxy.read_timeout, or lines of yours).",
        "sudo journalctl -u {seen.unit} -f",
    ),
    Explanation(
        API,
        "a redirect",
        answers(301, 302, 303, 307, 308),
        "A redirect to {seen.location} answers: the Caddyfile is not as it was made.",
        REPAIR,
    ),
    Explanation(
        API,
        "403 or 429",
        both(answers(403, 429), neither(proxied)),
        "Something before vLLM refuses: an access rule or a limit in lines of yours.",
        ADDITIONS,
    ),
    Explanation(
        KEYLESS,
        "200, and it is not vLLM's list",
        both(answers(200), neither(is_list)),
        "It is not vLLM that answers: Caddy serves another site, or has no answer for /v1.",
        REPAIR,
    ),
    Explanation(
        KEYLESS,
        "200 without a key; no key is set",
        both(answers(200), neither(keyed)),
        "Everybody can use the API: no VLLM_API_KEY is set. Write it into the unit's env file (openssl rand), then:",
        RESTART_VLLM,
    ),
    Explanation(
        KEYLESS,
        "200 without a key, though one is set",
        answers(200),
        "Everybody can use the API: vLLM was started before the key was in {seen.key_file}.",
        RESTART_VLLM,
    ),
    Explanation(
        LISTS,
        "401 with the key; vLLM itself takes it",
        both(answers(401), lambda seen: seen.direct == 200),
        "vLLM takes this key, but it is lost on the way: lines of yours change the Authorization header.",
        "sudo grep -rniE 'authorization|basic_?auth' /etc/caddy",
    ),
    Explanation(
        LISTS,
        "401; no key is set",
        both(answers(401), neither(keyed)),
        "No VLLM_API_KEY was found in the unit's env files, so none was sent. Where is it set?",
        "systemctl show {seen.unit} -p EnvironmentFiles",
    ),
    Explanation(
        LISTS,
        "401 with the key",
        answers(401),
        "vLLM runs with another key than {seen.key_file} has: it was changed since the start, or --api-key wins.",
        RESTART_VLLM,
    ),
    Explanation(
        EARLY,
        "404 from vLLM",
        both(answers(404), proxied),
        "What listens on port {seen.vllm_port} knows no /v1/models: is it another program, or has it a --root-path?",
        ASK_VLLM,
    ),
    Explanation(
        EARLY,
        "404 from Caddy",
        answers(404),
        "Caddy does not pass /v1/models on for {seen.host}: the Caddyfile is not as it was made.",
        REPAIR,
    ),
    Explanation(
        LISTS,
        "200; the model is not in the list",
        both(answers(200), model_is_wrong),
        "vLLM has no model {seen.wanted}; it has {seen.listed}. Answer one of these, or test.model: auto.",
        ANSWER_ANEW,
    ),
    Explanation(
        LISTS,
        "200, and no model in it",
        answers(200),
        "That is no list of vLLM's: another program answers there. Ask it itself:",
        ASK_VLLM,
    ),
    Explanation(EARLY, "any other answer", always, "vLLM's own log may say why.", VLLM_LOG),
    Explanation(
        MODEL,
        "401 with the key",
        answers(401),
        "The key is refused here, too: api.models says why.",
    ),
    Explanation(
        MODEL,
        "400: no chat template",
        both(answers(400), has_words("chat template")),
        "This model brings no chat template, and takes no plain completion. Add --chat-template FILE to vllm serve:",
        "sudoedit {seen.script}",
    ),
    Explanation(
        MODEL,
        "400: too long for the model",
        both(answers(400), has_words("context length", "max_tokens", "max_completion_tokens", "max_model_len")),
        "Prompt and answer do not fit the model: answer a smaller test.max_tokens, or a shorter test.prompt.",
        ANSWER_ANEW,
    ),
    Explanation(
        MODEL,
        "404: no such model",
        both(answers(404), has_words("does not exist", "not found the model")),
        "vLLM knows it by another name (--served-model-name). Answer test.model: auto, or as api.models has it.",
        ANSWER_ANEW,
    ),
    Explanation(
        MODEL,
        "404, 405 or 501: no such route",
        answers(404, 405, 501),
        "This model offers no chat, no completion, no embedding (one that ranks or classifies?). It can do:",
        "curl -s http://127.0.0.1:{seen.vllm_port}/openapi.json",
    ),
    Explanation(
        MODEL,
        "400 or 422",
        answers(400, 422),
        "vLLM does not take this request; its own words are above, and more of them in its log.",
        VLLM_LOG,
    ),
    Explanation(
        MODEL,
        "500",
        answers(500),
        "vLLM's engine failed at this request: out of memory, or dead. Its log has the reason; then restart it.",
        VLLM_LOG,
    ),
    Explanation(
        CHAT,
        "200 without any text",
        answers(200),
        "The model ended at once, without one token: another test.prompt may do better, or its template is wrong.",
        ANSWER_ANEW,
    ),
    Explanation(CHAT, "any other answer", always, "vLLM's own log may say why.", VLLM_LOG),
    Explanation(
        STREAM,
        "all at once: compressed",
        both(answers(200), is_encoded),
        "The stream came compressed ({seen.encoding}) and all at once: an encode of yours holds it back.",
        "sudo grep -rn encode /etc/caddy",
    ),
    Explanation(
        STREAM,
        "all at once: of known length",
        both(answers(200), is_counted),
        "The answer was collected before it was sent (it has a Content-Length): a handler of yours does that.",
        ADDITIONS,
    ),
    Explanation(
        STREAM,
        "all at once: no event stream",
        both(answers(200), is_no_stream),
        "What came is {seen.kind}, no event stream: it is not vLLM's own answer. Lines of yours change it:",
        ADDITIONS,
    ),
    Explanation(
        STREAM,
        "all pieces at the same moment",
        answers(200),
        "Lines of yours hold the stream back; or vLLM sends it so (--stream-interval in its launch script).",
        "sudo grep -rnE 'buffer|flush|encode' /etc/caddy",
    ),
    Explanation(STREAM, "any other answer", always, "It is not the streaming: api.chat says more.", VLLM_LOG),
)
