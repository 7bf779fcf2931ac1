"""Post hits at a steady rate, whatever the responses take, as many browsers together do."""

from __future__ import annotations

import asyncio
import json
import re
import time
import uuid

from tests.support.app import FIREFOX, SITE, page_hit
from tests.support.browsers import Outcome

_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
_HEAD = (
    "POST /api/v1/page_hit?name=analytics_events HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n"
    f"User-Agent: {FIREFOX}\r\nx-site-uuid: {SITE}\r\nContent-Length: "
)


def steady_load(port: int, rate: float, seconds: float) -> list[Outcome]:
    """Post `rate` hits a second; each uses a free connection, or opens one."""
    return asyncio.run(_Browsers(port).run(rate, int(rate * seconds)))


class _Browsers:
    def __init__(self, port: int) -> None:
        self._port = port
        self._free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def run(self, rate: float, hits: int) -> list[Outcome]:
        started = time.monotonic()
        tasks = []
        for number in range(hits):
            await asyncio.sleep(max(0.0, started + number / rate - time.monotonic()))
            tasks.append(asyncio.create_task(self._hit()))
        answered = await asyncio.gather(*tasks)
        for _, writer in self._free:
            writer.close()
        return answered

    async def _hit(self) -> Outcome:
        event_id = str(uuid.uuid4())
        body = json.dumps(page_hit(event_id=event_id))
        reader, writer = self._free.pop() if self._free else await asyncio.open_connection("127.0.0.1", self._port)
        started = time.monotonic()
        writer.write(f"{_HEAD}{len(body)}\r\n\r\n{body}".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(head)
        assert length is not None
        answer = await reader.readexactly(int(length[1]))
        seconds = time.monotonic() - started
        self._free.append((reader, writer))
        return Outcome(event_id, int(head.split()[1]), seconds, {}, started, answer)
