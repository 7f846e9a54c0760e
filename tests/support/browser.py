"""A real headless Chromium with an empty profile of its own, driven by Debian's chromedriver."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.wait import WebDriverWait

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")

MISSING = "" if CHROMIUM and DRIVER else "there is no chromium, or no chromedriver (apt-get install chromium-driver)"
"""Why there is no browser; "": there is one."""

LIMIT = 120.0
"""Seconds: a browser beside a worker and other tests may take long to draw."""

_ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)


class Browser:
    """What a person does and sees; every wait has a limit."""

    def __init__(self, driver: Chrome) -> None:
        self.driver = driver

    def open(self, url: str) -> None:
        """Go there."""
        self.driver.get(url)

    def js(self, expression: str, *arguments: Any) -> Any:
        """What an expression is in the page."""
        return self.driver.execute_script(f"return {expression}", *arguments)

    def module(self, path: str, expression: str, *arguments: Any) -> Any:
        """What an expression is that uses `m`, a module of the page's."""
        script = (
            "const [path, ...given] = arguments; const done = given.pop();"
            f" import(path).then((m) => done({expression})).catch((error) => done(String(error)))"
        )
        return self.driver.execute_async_script(script, path, *arguments)

    def until(self, expression: str, *arguments: Any) -> Any:
        """What it is once it is true."""
        waiting = WebDriverWait(self.driver, LIMIT, poll_frequency=0.05)
        return waiting.until(lambda _: self.js(expression, *arguments), expression)

    def text(self, selector: str) -> str:
        """What is to be read there; "": there is no such element."""
        return str(self.js("(document.querySelector(arguments[0]) || {}).innerText || ''", selector))

    def until_text(self, selector: str, text: str) -> str:
        """All that is to be read there once that text is a part of it."""
        self.until("(document.querySelector(arguments[0])?.innerText ?? '').includes(arguments[1])", selector, text)
        return self.text(selector)

    def click(self, selector: str) -> None:
        """Click it."""
        self.driver.find_element("css selector", selector).click()

    def type(self, selector: str, text: str) -> None:
        """Replace what a field has."""
        field = self.driver.find_element("css selector", selector)
        field.clear()
        field.send_keys(text)

    def size(self, width: int, height: int) -> None:
        """The size of the page as a device of that size has it."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def colour_scheme(self, name: str) -> None:
        """What the user prefers: "dark" or "light"."""
        feature = {"name": "prefers-color-scheme", "value": name}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})

    def screenshot(self, path: Path) -> None:
        """As PNG."""
        assert self.driver.save_screenshot(str(path))

    def complaints(self) -> list[str]:
        """What the browser's console says, such as what the content security policy has refused."""
        return [str(entry["message"]) for entry in self.driver.get_log("browser")]


@contextmanager
def browser(place: Path) -> Iterator[Browser]:
    """One with its profile in that directory; it ends with the block."""
    assert CHROMIUM is not None
    options = ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in (*_ARGUMENTS, f"--user-data-dir={place / 'profile'}", "--window-size=1280,900"):
        options.add_argument(argument)
    options.accept_insecure_certs = True  # of a test's own authority
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Chrome(options, Service(DRIVER))
    driver.set_script_timeout(LIMIT)
    try:
        yield Browser(driver)
    finally:
        driver.quit()
