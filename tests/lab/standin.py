#!/usr/bin/python3
"""Answers as a vLLM server does, without a GPU or a model. Runs inside a host, with its python3 alone.

Called as vLLM is: `vllm serve MODEL --host H --port P [--served-model-name N] [--api-key K] …`.
The key comes from --api-key, else from VLLM_API_KEY; with neither everything is open.
Behaviour is set by /etc/vllm-standin.json (or the file of VLLM_STANDIN_SETTINGS), which is read at start and again for
each request:
  load_seconds      time from start to listening (0.3)
  token_ms          pause between two streamed pieces (5); VLLM_STANDIN_TOKEN_MS wins
  answer_seconds    time before any answer of the model (0): busy, not broken
  fail              "start" ends at once, "loading" ends while loading, "loopback" ends while loading if --host
                    is a loopback address; anything else: no failure
  extra_listeners   more sockets of the same process, ["0.0.0.0:29500"]: what torch.distributed opens
  chat              false: a model without a chat template (400 on chat)
  reasoning         true: the answer is reasoning text, its content null
  repeat            how often an answer says its sentence (1): long streams
  version           what /version says
"""

import argparse
import hashlib
import hmac
import ipaddress
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Asked = dict[str, Any]

SETTINGS = os.environ.get("VLLM_STANDIN_SETTINGS", "/etc/vllm-standin.json")
GUARDED = ("/v1", "/v2", "/inference", "/cohere")
WORDS = ("Bonjour", "!", " Comment", " allez", "-vous", " ?", " Je", " suis", " ravi", " de", " vous", " voir", ".")


def settings() -> dict[str, Any]:
    found = {"load_seconds": 0.3, "token_ms": 5, "answer_seconds": 0, "fail": "", "extra_listeners": []}
    found |= {"chat": True, "reasoning": False, "repeat": 1, "version": "0.32.0"}
    try:
        with open(SETTINGS, encoding="utf-8") as file:
            found |= json.load(file)
    except FileNotFoundError:
        pass
    if os.environ.get("VLLM_STANDIN_TOKEN_MS"):
        found["token_ms"] = float(os.environ["VLLM_STANDIN_TOKEN_MS"])
    return found


def log(place: str, text: str) -> None:
    stamp = time.strftime("%m-%d %H:%M:%S")
    print(f"(APIServer pid={os.getpid()}) INFO {stamp} [{place}] {text}", file=sys.stderr, flush=True)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body are two writes: the second would wait for a delayed ACK, 40 ms
    server: "Server"
    timeout = 5  # uvicorn closes an idle connection after five seconds

    def version_string(self) -> str:
        return "uvicorn"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        reason = HTTPStatus(int(code)).phrase
        client = f"{self.client_address[0]}:{self.client_address[1]}"
        print(f'INFO:     {client} - "{self.requestline}" {int(code)} {reason}', flush=True)

    def send_header(self, keyword: str, value: str) -> None:
        super().send_header(keyword.lower(), value)

    def do_GET(self) -> None:
        self.answer()

    do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = do_OPTIONS = do_GET

    def answer(self) -> None:
        self.path_only = self.path.partition("?")[0]
        body = self.body()
        if self.command != "OPTIONS" and not self.allowed():
            return self.json(401, {"error": "Unauthorized"})
        if self.path_only in OPENED and self.method("GET"):
            return OPENED[self.path_only](self)
        if self.path_only in POSTED and self.method("POST"):
            return self.act(POSTED[self.path_only], body)
        if self.path_only not in OPENED and self.path_only not in POSTED:
            return self.json(404, {"detail": "Not Found"})
        return None

    def method(self, wanted: str) -> bool:
        if self.command != wanted:
            self.json(405, {"detail": "Method Not Allowed"}, allow=wanted)
        return self.command == wanted

    def act(self, route: Callable[["Handler", Asked], None], body: bytes) -> None:
        try:
            asked = json.loads(body or b"null")
        except ValueError:
            asked = None
        if isinstance(asked, dict):
            return route(self, asked)
        wrong = {"type": "json_invalid", "loc": ["body", 0], "msg": "JSON decode error"}
        return self.json(400, {"detail": [wrong]})

    def body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            parts = []
            while size := int(self.rfile.readline().split(b";")[0].strip() or b"0", 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def allowed(self) -> bool:
        guarded = any(self.path_only == p or self.path_only.startswith(p + "/") for p in GUARDED)
        if not guarded or not self.server.keys:
            return True
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        given = hashlib.sha256(token.encode()).digest()
        return scheme.lower() == "bearer" and any(hmac.compare_digest(given, k) for k in self.server.keys)

    def reply(self, code: int, content: bytes, kind: str, **headers: str) -> None:
        self.send_response(code)
        self.send_header("content-length", str(len(content)))
        if kind:
            self.send_header("content-type", kind)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def json(self, code: int, value: object, **headers: str) -> None:
        self.reply(code, json.dumps(value, separators=(",", ":")).encode(), "application/json", **headers)

    def refuse(self, code: int, kind: str, message: str, param: str | None = None) -> None:
        self.json(code, {"error": {"message": message, "type": kind, "param": param, "code": code}})

    # the open routes
    def health(self) -> None:
        self.reply(200, b"", "")

    def load(self) -> None:
        self.json(200, {"server_load": 0})

    def metrics(self) -> None:
        text = "# HELP vllm:num_requests_running Requests in model execution.\n"
        text += f'vllm:num_requests_running{{model_name="{self.server.model}"}} 0.0\n'
        self.reply(200, text.encode(), "text/plain; version=1.0.0; charset=utf-8")

    def version(self) -> None:
        self.json(200, {"version": settings()["version"]})

    def docs(self) -> None:
        self.reply(200, b"<!DOCTYPE html><title>FastAPI - Swagger UI</title>", "text/html; charset=utf-8")

    def openapi(self) -> None:
        paths: Asked = {path: {"get" if path in OPENED else "post": {}} for path in (*OPENED, *POSTED)}
        self.json(200, {"openapi": "3.1.0", "info": {"title": "FastAPI", "version": "0.1.0"}, "paths": paths})

    def tokenize(self, asked: Asked) -> None:
        tokens = [ord(letter) for letter in str(asked.get("prompt", ""))]
        self.json(200, {"count": len(tokens), "max_model_len": 4096, "tokens": tokens})

    def detokenize(self, asked: Asked) -> None:
        self.json(200, {"prompt": "".join(map(chr, asked.get("tokens", [])))})

    # the model
    def models(self) -> None:
        model = {"id": self.server.model, "object": "model", "created": int(time.time()), "owned_by": "vllm"}
        model |= {"root": self.server.root, "parent": None, "max_model_len": 4096, "permission": []}
        self.json(200, {"object": "list", "data": [model]})

    def chat(self, asked: Asked) -> None:
        if not settings()["chat"]:
            return self.refuse(
                400,
                "BadRequestError",
                "default chat template is no longer allowed, so you must provide a chat template",
            )
        if not isinstance(asked.get("messages"), list) or not asked["messages"]:
            return self.refuse(400, "BadRequestError", "1 validation error: messages: Field required", "messages")
        return self.complete(asked, "chat.completion", "chatcmpl")

    def completion(self, asked: Asked) -> None:
        if "prompt" not in asked:
            return self.refuse(400, "BadRequestError", "1 validation error: prompt: Field required", "prompt")
        return self.complete(asked, "text_completion", "cmpl")

    def invocations(self, asked: Asked) -> None:
        return self.chat(asked) if "messages" in asked else self.completion(asked)

    def complete(self, asked: Asked, kind: str, prefix: str) -> None:
        if asked.get("model", self.server.model) != self.server.model:
            return self.refuse(404, "NotFoundError", f"The model `{asked['model']}` does not exist.", "model")
        now = settings()
        time.sleep(now["answer_seconds"])
        limit = asked.get("max_tokens") or asked.get("max_completion_tokens") or len(WORDS)
        pieces = list(WORDS[:limit]) * int(now["repeat"])
        usage = {"prompt_tokens": 7, "completion_tokens": len(pieces), "total_tokens": 7 + len(pieces)}
        head = {"id": f"{prefix}-{os.urandom(8).hex()}", "created": int(time.time()), "model": self.server.model}
        chat = kind == "chat.completion"
        if asked.get("stream"):
            return self.stream(asked, head, kind, pieces, usage, now)
        text = "".join(pieces)
        message: Asked = {
            "role": "assistant",
            "content": text,
            "refusal": None,
            "tool_calls": [],
            "reasoning_content": None,
        }
        if now["reasoning"]:
            message |= {"content": None, "reasoning_content": text}
        choice: Asked = {"index": 0, "logprobs": None, "finish_reason": "stop" if limit >= len(WORDS) else "length"}
        choice |= {"message": message} if chat else {"text": text}
        return self.json(200, head | {"object": kind, "choices": [choice], "usage": usage})

    def stream(self, asked: Asked, head: Asked, kind: str, pieces: list[str], usage: Asked, now: Asked) -> None:
        chat = kind == "chat.completion"
        head |= {"object": "chat.completion.chunk" if chat else kind}
        self.send_response(200)
        self.send_header("content-type", "text/event-stream; charset=utf-8")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        field = "reasoning_content" if now["reasoning"] else "content"
        if chat:
            self.event(
                head | {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]}
            )
        for number, piece in enumerate(pieces, 1):
            time.sleep(now["token_ms"] / 1000)
            choice: Asked = {"index": 0, "finish_reason": "stop" if number == len(pieces) else None}
            choice |= {"delta": {field: piece}} if chat else {"text": piece}
            self.event(head | {"choices": [choice]})
        if (asked.get("stream_options") or {}).get("include_usage"):
            self.event(head | {"choices": [], "usage": usage})
        self.event("[DONE]")
        self.wfile.write(b"0\r\n\r\n")

    def event(self, value: object) -> None:
        text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
        data = f"data: {text}\n\n".encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()


OPENED: dict[str, Callable[[Handler], None]] = {
    "/health": Handler.health,
    "/ping": Handler.health,
    "/load": Handler.load,
    "/metrics": Handler.metrics,
    "/version": Handler.version,
    "/docs": Handler.docs,
    "/openapi.json": Handler.openapi,
    "/v1/models": Handler.models,
}
POSTED: dict[str, Callable[[Handler, Asked], None]] = {
    "/tokenize": Handler.tokenize,
    "/detokenize": Handler.detokenize,
    "/invocations": Handler.invocations,
    "/v1/chat/completions": Handler.chat,
    "/v1/completions": Handler.completion,
}


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 2048

    def __init__(self, host: str, port: int, model: str, root: str, keys: list[str]) -> None:
        self.model, self.root = model, root
        self.keys = [hashlib.sha256(key.encode()).digest() for key in keys if key]
        if ":" in host:
            self.address_family = socket.AF_INET6
        super().__init__((host, port), Handler)

    def server_bind(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="vllm")
    parser.add_argument("command", choices=["serve"])
    parser.add_argument("model")
    parser.add_argument("--host", default="0.0.0.0")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--served-model-name")
    parser.add_argument("--api-key", nargs="*", default=[])
    known, _ = parser.parse_known_args()
    return known


def loading(now: Asked, host: str) -> None:
    """The wait before listening, with the lines that a person sees in the journal meanwhile."""
    log("api_server.py:1896", f"vLLM API server version {now['version']}")
    if now["fail"] == "start":
        sys.exit("ValueError: Free memory on device is less than desired GPU memory utilization")
    shards = 3
    for shard in range(shards + 1):
        done = round(100 * shard / shards)
        print(
            f"Loading safetensors checkpoint shards: {done:3d}% Completed | {shard}/{shards}",
            file=sys.stderr,
            flush=True,
        )
        time.sleep(now["load_seconds"] / (shards + 1))
    loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    if now["fail"] == "loading" or (now["fail"] == "loopback" and loopback):
        sys.exit("RuntimeError: Engine core initialization failed. See root cause above.")


def main() -> None:
    known = arguments()
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    now = settings()
    loading(now, known.host)
    host = "127.0.0.1" if known.host == "localhost" else known.host
    keys = known.api_key or [os.environ.get("VLLM_API_KEY", "")]
    kept = []
    for place in now["extra_listeners"]:
        address, _, port = place.rpartition(":")
        kept.append(
            socket.create_server(
                (address.strip("[]"), int(port)), family=socket.AF_INET6 if ":" in address else socket.AF_INET
            )
        )
    server = Server(host, known.port, known.served_model_name or known.model, known.model, keys)
    log("api_server.py:1910", f"Starting vLLM API server 0 on http://{known.host}:{known.port}")
    print("INFO:     Application startup complete.", file=sys.stderr, flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    signal.pause()


if __name__ == "__main__":
    main()
