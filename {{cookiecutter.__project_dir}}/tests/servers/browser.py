"""A real Chromium without a window, driven by the WebDriver protocol as W3C wrote it down.

    with Browser.start(tmp_path) as browser:
        browser.open(url)
        assert browser.run("return document.title") == "…"

Debian's packages are ``chromium`` and ``chromium-driver``.
"""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
import urllib3

from .processes import eventually, free_ports

_FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-dev-shm-usage", "--force-device-scale-factor=1", "--hide-scrollbars"),
)


class Browser:
    """One Chromium with a fresh profile, and its driver; both end with the block."""

    def __init__(self, folder: Path, chromium: str, driver: str) -> None:
        (port,) = free_ports(1)
        self._http = urllib3.PoolManager(retries=False, timeout=60)
        self._address = f"http://127.0.0.1:{port}"
        self._log = (folder / "chromedriver.log").open("wb")
        self._process = subprocess.Popen(
            [driver, f"--port={port}"], stdout=self._log, stderr=subprocess.STDOUT
        )
        eventually(self._answers, what="chromedriver answers")
        options = {
            "binary": chromium,
            "args": [*_FLAGS, f"--user-data-dir={folder / 'profile'}"],
        }
        wanted = {
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }
        session = self._ask("POST", "/session", capabilities={"alwaysMatch": wanted})
        self._session = f"/session/{session['sessionId']}"
        self.open("about:blank")
        self.requested()  # the browser's own first page

    @classmethod
    def start(cls, folder: Path) -> Browser:
        """Start it; skips the test where there is no Chromium with its driver."""
        chromium = shutil.which("chromium") or shutil.which("google-chrome")
        driver = shutil.which("chromedriver")
        if chromium is None or driver is None:
            pytest.skip("there is no Chromium with chromedriver here")
        folder.mkdir(parents=True, exist_ok=True)
        return cls(folder, chromium, driver)

    def open(self, url: str) -> None:
        """Go there, and wait until the document is loaded."""
        self._ask("POST", f"{self._session}/url", url=url)

    def run(self, script: str, *arguments: Any) -> Any:
        """What a function with this body returns in the page."""
        return self._ask(
            "POST", f"{self._session}/execute/sync", script=script, args=list(arguments)
        )

    def click(self, selector: str) -> None:
        """Click as a person would: at the element's place, if nothing covers it."""
        found = self._ask("POST", f"{self._session}/element", using="css selector", value=selector)
        (element,) = found.values()
        self._ask("POST", f"{self._session}/element/{element}/click")

    def show(self, *, width: int, height: int, dark: bool) -> None:
        """Become a screen of this size, with this preference."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self._devtools("Emulation.setDeviceMetricsOverride", **metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._devtools("Emulation.setEmulatedMedia", features=[scheme])

    def picture(self) -> bytes:
        """What it shows, as PNG."""
        return base64.b64decode(self._ask("GET", f"{self._session}/screenshot"))

    def console(self) -> list[str]:
        """Errors and warnings that the page has caused since the last call."""
        return [
            entry["message"]
            for entry in self._ask("POST", f"{self._session}/se/log", type="browser")
            if entry["level"] in ("SEVERE", "WARNING")
        ]

    def requested(self) -> list[str]:
        """Addresses that it has asked for since the last call."""
        entries = self._ask("POST", f"{self._session}/se/log", type="performance")
        messages = [json.loads(entry["message"])["message"] for entry in entries]
        return [
            message["params"]["request"]["url"]
            for message in messages
            if message["method"] == "Network.requestWillBeSent"
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        try:
            self._ask("DELETE", self._session)
        finally:
            self._process.terminate()
            self._process.wait(10)
            self._log.close()
            self._http.clear()

    def _devtools(self, command: str, **parameters: Any) -> Any:
        return self._ask(
            "POST", f"{self._session}/goog/cdp/execute", cmd=command, params=parameters
        )

    def _answers(self) -> bool:
        try:
            return bool(self._ask("GET", "/status")["ready"])
        except urllib3.exceptions.HTTPError:
            return False

    def _ask(self, method: str, path: str, **members: Any) -> Any:
        options = {"json": members} if method == "POST" else {}
        answer = self._http.request(method, self._address + path, **options)
        value = answer.json()["value"]
        if answer.status != 200:
            msg = f"{method} {path}: {value['error']}: {value['message']}"
            raise RuntimeError(msg)
        return value
