"""A real browser without a window: Debian's chromium, driven through a pipe by its DevTools protocol."""

import json
import os
import shutil
import subprocess
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.nodes import wait_for


class Browser:
    """One page. Evaluates expressions in it; `problems`: what the browser's console has said against it."""

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self._to, self._from = to_browser, from_browser
        self._buffer = b""
        self._number = 0
        self._session: str | None = None
        self.problems: list[str] = []
        target = self.tell("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.tell("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.tell(f"{domain}.enable")

    def tell(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._number:
            self._note(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            octets = os.read(self._from, 1 << 16)
            assert octets, "the browser has ended"
            self._buffer += octets
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def _note(self, event: dict[str, Any]) -> None:
        parameters = event.get("params", {})
        if event.get("method") == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            self.problems.append(parameters["entry"]["text"])
        if event.get("method") == "Runtime.exceptionThrown":
            self.problems.append(json.dumps(parameters["exceptionDetails"]))

    def open(self, url: str, *, width: int = 1100, height: int = 1800, is_dark: bool = False) -> None:
        self.tell("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}
        self.tell("Emulation.setEmulatedMedia", features=[scheme])
        self.tell("Page.navigate", url=url)

    def value(self, expression: str) -> Any:
        return self.tell("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def until(self, expression: str, what: str) -> None:
        wait_for(lambda: self.value(expression), what)

    def screenshot(self, path: Path) -> None:
        path.write_bytes(b64decode(self.tell("Page.captureScreenshot", format="png")["data"]))

    def close(self) -> None:
        os.close(self._to)
        os.close(self._from)


@contextmanager
def browser(place: Path) -> Iterator[Browser]:
    """`place`: for its profile."""
    program = shutil.which("chromium")
    assert program is not None, "as root, apt-get install chromium"
    read_end, to_browser = os.pipe()
    from_browser, write_end = os.pipe()
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", f"--user-data-dir={place}"]
    process = subprocess.Popen(
        ["bash", "-c", f'exec "$@" 3<&{read_end} 4>&{write_end}', "-", program, *options],  # 3 and 4: it expects so
        pass_fds=(read_end, write_end),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(read_end)
    os.close(write_end)
    found = None
    try:
        found = Browser(to_browser, from_browser)
        yield found
    finally:
        if found is not None:
            found.close()
        process.terminate()
        process.wait(20)
