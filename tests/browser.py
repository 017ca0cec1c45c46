"""A headless Chromium that opens a page from a file, without any network.

Commands go through pipes (the DevTools protocol), so nothing but the browser is needed. Whatever
the page logs, throws or asks for is kept, so that a test can look at it.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)


class Browser:
    """One page in a browser; use it in a ``with`` block."""

    def __init__(self) -> None:
        self._folder = TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True)
        self._count = 0
        self.events: list[dict[str, Any]] = []
        to_browser, self._write = os.pipe()
        self._read, from_browser = os.pipe()

        # The browser reads commands from file 3 and answers on file 4.
        connect = f'exec "$@" 3<&{to_browser} 4>&{from_browser}'
        command = [CHROMIUM, *FLAGS, f"--user-data-dir={self._folder.name}", "about:blank"]
        self._process = subprocess.Popen(
            ["bash", "-c", connect, "browser", *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(to_browser, from_browser),
        )
        os.close(to_browser)
        os.close(from_browser)
        self._answers = os.fdopen(self._read, "rb")
        self._buffer = b""
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session: str | None = None
        attached = self._call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self._call(f"{domain}.enable")

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        os.close(self._write)
        self._process.kill()
        self._process.wait()
        self._answers.close()
        self._folder.cleanup()

    def open(self, path: Path, width: int = 1400, height: int = 900) -> None:
        """Open a file in a window of some size, and wait until it has loaded."""
        self.resize(width, height)
        self.events.clear()
        self._call("Page.navigate", url=path.resolve().as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self._take()

    def resize(self, width: int, height: int = 900) -> None:
        """Make the window as wide as a desk or a telephone."""
        self._call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def run(self, script: str) -> Any:
        """Run a script in the page, and return what its last expression is worth."""
        answer = self._call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in answer:
            raise AssertionError(answer["exceptionDetails"])
        return answer["result"].get("value")

    def press(self, key: str) -> None:
        """Press a key, such as Tab."""
        codes = {"Tab": 9, "Enter": 13, " ": 32, "ArrowRight": 39}
        words = {"key": key, "windowsVirtualKeyCode": codes[key]}
        if key in ("Enter", " "):
            words["text"] = {"Enter": "\r", " ": " "}[key]
        self._call("Input.dispatchKeyEvent", type="keyDown", **words)
        self._call("Input.dispatchKeyEvent", type="keyUp", key=key)

    def save_downloads(self, folder: Path) -> None:
        """Put what the page saves into a folder."""
        self._call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(folder))

    def picture(self, path: Path, full: bool = False) -> Path:
        """Save what is seen, or the full page, as PNG."""
        answer = self._call(
            "Page.captureScreenshot", format="png", captureBeyondViewport=full, **self._clip(full)
        )
        path.write_bytes(base64.b64decode(answer["data"]))
        return path

    def paper(self, path: Path) -> Path:
        """Print the page to PDF on A4."""
        size = {"paperWidth": 8.27, "paperHeight": 11.69, "preferCSSPageSize": True}
        answer = self._call("Page.printToPDF", printBackground=False, **size)
        path.write_bytes(base64.b64decode(answer["data"]))
        return path

    def imitate_paper(self, on: bool = True) -> None:
        """Lay the page out as on A4, or as on a screen again."""
        self.resize(*((688, 1000) if on else (1400, 900)))  # 182 mm between the margins
        self._call("Emulation.setEmulatedMedia", media="print" if on else "")

    def faults(self) -> list[str]:
        """List what the page logged as an error or threw."""
        found = []
        for event in self.events:
            content = event["params"]
            if event["method"] == "Runtime.exceptionThrown":
                found.append(str(content["exceptionDetails"]))
            if event["method"] == "Log.entryAdded" and content["entry"]["level"] == "error":
                found.append(content["entry"]["text"])
        return found

    def requests(self) -> list[str]:
        """List the addresses that the page asked for, other than files and data in itself."""
        asked = [e for e in self.events if e["method"] == "Network.requestWillBeSent"]
        urls = [event["params"]["request"]["url"] for event in asked]
        return [url for url in urls if not url.startswith(("file:", "data:", "blob:"))]

    def _clip(self, full: bool) -> dict[str, Any]:
        """Say how large the full page is."""
        if not full:
            return {}
        size = self._call("Page.getLayoutMetrics")["cssContentSize"]
        return {"clip": {"x": 0, "y": 0, "scale": 1, **{k: size[k] for k in ("width", "height")}}}

    def _call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command and wait for its answer."""
        self._count += 1
        message: dict[str, Any] = {"id": self._count, "method": method, "params": params}
        if getattr(self, "_session", None):
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._take()
            if answer.get("id") == self._count:
                if "error" in answer:
                    raise AssertionError(f"{method}: {answer['error']}")
                return dict(answer["result"])

    def _take(self) -> dict[str, Any]:
        """Take the next message; events are kept."""
        while b"\0" not in self._buffer:
            part = os.read(self._answers.fileno(), 1 << 20)
            if not part:
                raise AssertionError("the browser has ended")
            self._buffer += part
        text, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        if "method" in message:
            self.events.append(message)
        return message
