"""A stand-in for an OpenAI-compatible server that fails in all the ways that real ones do, on a socket of this machine."""

import asyncio
import hashlib
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any

EVERY_FAULT = [
    *("429", "429-seconds", "429-date", "500", "503", "reset", "truncated", "malformed", "drip", "hang"),
    *("empty", "null", "blank", "no-text", "duplicated", "error-in-200"),
]


def said(messages: list[dict[str, str]], seed: int | None, model: str, index: int = 0) -> tuple[str, str]:
    """What the model says, and how it ends: a function of the request, mostly the same for one prompt."""
    asked = "\n".join(message["content"] for message in messages)
    usual = random.Random(hashlib.sha256(asked.encode()).digest())
    answer, steadiness = usual.choice(["yes", "no"]), usual.random()
    chance = 0.0 if seed is None else random.Random(f"{seed}:{index}:{model}:{asked}").random()
    if chance > 0.97:
        return "Let me think about this", "length"
    if chance > 0.5 + steadiness / 2:
        answer = "no" if answer == "yes" else "yes"
    return f"Thought {chance:.12f}. The answer is: {answer}", "stop"


@dataclass
class FaultyServer:
    """`faults` has the chance of each; `n` says what it makes of several choices: honour, ignore, copy, refuse, short, more."""

    faults: Mapping[str, float] = field(default_factory=dict[str, float])
    n: str = "honour"
    delay: float = 0.002
    hang: float = 0.3
    models: tuple[Mapping[str, Any], ...] = ({"id": "small", "root": "org/small", "max_model_len": 4096, "created": 1},)
    key: str | None = None
    usage: bool = True
    lora: bool = False
    script: list[tuple[int, dict[str, str], Any]] = field(default_factory=list[tuple[int, dict[str, str], Any]])
    shuffled: bool = False
    slots: int | None = None  # more at once are refused with 429
    url: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    heads: list[str] = field(default_factory=list[str])
    done: Counter[str] = field(default_factory=Counter[str])  # faults, and "delivered": usable replies wholly sent
    times: list[float] = field(default_factory=list[float])
    busy: int = 0
    busiest: int = 0
    busy_seconds: float = 0.0
    _changed: float = 0.0
    _random: random.Random = field(default_factory=lambda: random.Random(0))

    def count_busy(self, change: int) -> None:
        now = time.monotonic()
        self.busy_seconds += self.busy * (now - self._changed)
        self.busy, self._changed = self.busy + change, now
        self.busiest = max(self.busiest, self.busy)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._one(reader, writer):
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.heads.append(head)
        length = [int(line.split(":")[1]) for line in head.lower().splitlines() if line.startswith("content-length")]
        body = await reader.readexactly(length[0]) if length else b""
        path = head.split()[1]
        if self.key is not None and f"authorization: bearer {self.key}" not in head.lower():
            respond(
                writer, 401, {"error": {"message": f"Incorrect API key provided: {head.split('uthorization:')[-1]}"}}
            )
        elif path == "/v1/models":
            respond(writer, 200, {"object": "list", "data": list(self.models)})
        elif path.endswith("/load_lora_adapter") and self.lora:
            respond(writer, 200, "Success")
        elif path.endswith("/chat/completions"):
            self.count_busy(+1)
            try:
                return await self._complete(json.loads(body), writer)
            finally:
                self.count_busy(-1)
        else:
            respond(writer, 404, {"detail": "Not Found"})
        return True

    async def _complete(self, body: dict[str, Any], writer: asyncio.StreamWriter) -> bool:
        self.asked.append(body)
        self.times.append(time.monotonic())
        if self.slots is not None and self.busy > self.slots:
            self.done["429"] += 1
            respond(writer, 429, {"error": {"message": "no slot is free"}})
            return True
        await asyncio.sleep(self.delay)
        if self.script:
            status, headers, content = self.script.pop(0)
            respond(writer, status, content, headers)
            return True
        chance = self._random.random()
        fault = ""
        for fault, share in self.faults.items():  # noqa: B007 - the one at which the loop stops counts
            chance -= share
            if chance < 0:
                break
        else:
            fault = ""
        self.done[fault] += 1
        wanted = body.get("n", 1)
        if wanted > 1 and self.n == "refuse":
            respond(writer, 400, {"error": {"message": "n must be 1"}})
            return True
        number = {"ignore": 1, "short": max(1, wanted - 1), "more": wanted + 2}.get(self.n, wanted)
        texts = [said(body["messages"], body.get("seed"), body["model"], i) for i in range(number)]
        if self.n == "copy":
            texts = texts[:1] * number
        choices: list[dict[str, Any]] = [
            {"index": i, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
            for i, (text, finish) in enumerate(texts)
        ]
        if self.shuffled:
            self._random.shuffle(choices)
        content: dict[str, Any] = {"choices": choices}
        if self.usage:
            words = sum(len(text.split()) for text, _ in texts)
            content["usage"] = {"prompt_tokens": 7, "completion_tokens": words}
        return await self._spoil(fault, content, len({text for text, _ in texts}), writer)

    async def _spoil(self, fault: str, content: dict[str, Any], usable: int, writer: asyncio.StreamWriter) -> bool:
        choices: list[dict[str, Any]] = content["choices"]
        text = json.dumps(content)
        if fault.startswith("429"):
            wait = {"429-seconds": "0.05", "429-date": formatdate(time.time() + 1, usegmt=True)}.get(fault)
            respond(writer, 429, {"error": "slow\ndown"}, {"Retry-After": wait} if wait else {})
        elif fault in ("500", "503"):
            respond(writer, int(fault), "<html>\x1b[31moh no</html>")
        elif fault == "reset":
            writer.transport.abort()
            return False
        elif fault == "truncated":  # the length is that of the whole
            writer.write(head_of(200, len(text)) + text[: len(text) // 2].encode())
            return False
        elif fault == "malformed":
            respond(writer, 200, text[: len(text) // 2])
        elif fault in ("drip", "hang"):
            writer.write(head_of(200, len(text)))
            end = time.monotonic() + self.hang
            for letter in text.encode():
                if fault == "drip":
                    writer.write(bytes([letter]))
                await asyncio.sleep(self.hang / 20)
                if time.monotonic() > end:
                    break
            return False
        elif fault == "error-in-200":
            respond(writer, 200, {"error": {"message": "the model is loading"}})
        elif fault == "empty":
            respond(writer, 200, {**content, "choices": []})
        elif fault in ("null", "blank"):
            choices[0]["message"]["content"] = None if fault == "null" else ""
            choices[0]["finish_reason"] = "stop"
            respond(writer, 200, content)
            self.done["delivered"] += usable - 1
        elif fault == "no-text":
            del choices[0]["message"]
            choices[0]["finish_reason"] = "stop"
            respond(writer, 200, content)
            self.done["delivered"] += usable - 1
        else:
            if fault == "duplicated":
                content = {**content, "choices": [choices[0], *choices]}
            if not writer.is_closing():  # counted before it can be seen
                self.done["delivered"] += usable
            respond(writer, 200, content)
        return True


def head_of(status: int, length: int, headers: Mapping[str, str] | None = None) -> bytes:
    lines = [f"HTTP/1.1 {status} Whatever", "Content-Type: application/json", f"Content-Length: {length}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "", ""]).encode()


def respond(writer: asyncio.StreamWriter, status: int, content: Any, headers: Mapping[str, str] | None = None) -> None:
    body = content.encode() if isinstance(content, str) else json.dumps(content).encode()
    writer.write(head_of(status, len(body), headers) + body)


@contextmanager
def running(server: FaultyServer) -> Generator[FaultyServer]:
    """Serve on a free port, in a thread, and set the server's `url`."""
    loop = asyncio.new_event_loop()
    listening = threading.Event()

    async def listen() -> None:
        sockets = await asyncio.start_server(server.serve, "127.0.0.1", 0, backlog=512)
        server.url = f"http://127.0.0.1:{sockets.sockets[0].getsockname()[1]}/v1"
        listening.set()

    def context() -> None:
        loop.run_until_complete(listen())
        loop.run_forever()

    thread = threading.Thread(target=context, daemon=True)
    thread.start()
    assert listening.wait(10)
    yield server
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
