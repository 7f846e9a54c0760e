"""The page in a real headless Chromium, with a real worker behind it."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.live.test_takeover import Again, again, until
from tests.support.browser import MISSING, Browser, browser
from tests.support.cutting_proxy import HARDLY_EVER, cutting_proxy
from tests.support.daemon import LIMIT, Daemon
from tests.support.page import Page, page
from tests.support.pems import Authority
from txworker.pb import worker_pb2 as pb

__all__ = ["again"]

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(MISSING), reason=MISSING)]

ADaemon = Callable[..., Daemon]

ROWS = "[...document.querySelectorAll('#jobs tbody tr')]"
SHOWN = f"{ROWS}.map((row) => row.querySelector('td:last-child a').title)"
COLOURS = """(() => {
    const canvas = document.querySelector(arguments[0] + " canvas");
    if (!canvas) return 0;
    const image = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    return new Set(new Uint32Array(image.data.buffer)).size;
})()"""
"""How many colours a plot has; a blank one has one."""

BIG = 100 * 2**20


@pytest.fixture
def web(daemon: Daemon) -> Iterator[Page]:
    """A page that may stop jobs."""
    with page(daemon.addr, "--allow-stop") as made:
        yield made


@pytest.fixture
def tab(tmp_path: Path) -> Iterator[Browser]:
    """A browser; at the end the console has no complaint, of the content security policy for example."""
    with browser(tmp_path) as made:
        yield made
        assert [line for line in made.complaints() if "ERR_" not in line and "503" not in line] == []


def job_url(web: Page, worker: str, job_id: str) -> str:
    """The job's own page."""
    return f"{web.url}job?worker={worker}&id={job_id}"


def kill(daemon: Daemon, job_id: str) -> None:
    """Leave nothing for the next test to see."""
    request = pb.StopJobReq(jobID=job_id)
    request.grace.FromSeconds(0)
    daemon.stub.StopJob(request, timeout=LIMIT)


def test_list(daemon: Daemon, web: Page, tab: Browser) -> None:
    """Jobs appear and change without a reload; filters narrow the list, and are the address."""
    running = daemon.start("sleep", "1000", labels={"night": "1"})
    tab.open(web.url)
    tab.until(f"{SHOWN}.includes(arguments[0])", running)
    failed = daemon.bash("exit 3", labels={"night": "2"})
    tab.until(f"{ROWS}.some((row) => row.innerText.includes('failed 3'))")
    assert tab.js(f"{SHOWN}[0]") == failed
    tab.js("document.querySelector('input[value=failed]').click()")
    tab.until(f"{SHOWN}.includes(arguments[0]) && !{SHOWN}.includes(arguments[1])", failed, running)
    tab.type("[name=label]", "night=2")
    tab.until("location.search === '?state=failed&label=night%3D2'")
    tab.open(tab.driver.current_url)
    tab.until(f"{SHOWN}.length === 1 && {SHOWN}[0] === arguments[0]", failed)
    assert tab.js("document.querySelector('[name=label]').value") == "night=2"
    later = daemon.bash("exit 4", labels={"night": "2"})
    tab.until(f"{SHOWN}.length === 2 && {SHOWN}[0] === arguments[0]", later)
    tab.type("[name=text]", "there is none such")
    tab.until_text("#empty", "No job is like that")
    tab.click("#clear")
    tab.until(f"location.search === '' && {SHOWN}.includes(arguments[0])", running)
    tab.js("document.querySelector('tr button.label').click()")
    tab.until("location.search.startsWith('?label=night')")
    spaced = daemon.bash("exit 5", labels={"a b": "c d"})
    tab.open(f"{web.url}?label=a+b%3Dc+d")
    tab.until(f"{SHOWN}.length === 1 && {SHOWN}[0] === arguments[0]", spaced)
    assert tab.js("location.search") == "?label=a+b%3Dc+d"
    kill(daemon, running)


def test_most_rows(web: Page, tab: Browser) -> None:
    """When the list is as long as the server sends it, there is no button for more of it."""
    script = """
        window.EventSource = class extends EventTarget {
            constructor() {
                super();
                const data = JSON.stringify({ jobs: [], total: 9000, now: 0 });
                setTimeout(() => this.dispatchEvent(new MessageEvent("list", { data })));
            }
            close() {}
        };
    """
    tab.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": script})
    tab.open(web.url)
    tab.until("!document.getElementById('more').hidden")
    tab.js("(() => { for (let i = 1; i < 5000 / 200; i++) document.getElementById('more').click(); })()")
    tab.until("document.getElementById('more').hidden")


def test_output(daemon: Daemon, web: Page, tab: Browser) -> None:
    """Output comes live, with its colours; a line that is written over is what it was last."""
    go = daemon.place / "go"
    job_id = daemon.bash(
        f"printf 'one\\n\\033[1;31mred\\033[0m\\n10%%\\r99%%\\n'; {until(str(go))}; echo two; {until(f'{go}2')}"
    )
    tab.open(job_url(web, daemon.addr, job_id))
    assert tab.until_text("#visible", "99%").split("\n") == ["one", "red", "99%"]
    assert tab.js("getComputedStyle(document.querySelector('.line .f1')).fontWeight") == "700"
    go.touch()
    tab.until_text("#visible", "two")
    assert "running" in tab.text("#state")
    Path(f"{go}2").touch()
    tab.until_text("#state", "succeeded")
    tab.until_text("#facts", "exit code 0")


def test_selection(daemon: Daemon, web: Page, tab: Browser) -> None:
    """Lines that are in view stay the same elements while the job prints on: what is selected there can be copied."""
    job_id = daemon.bash("seq 1000; while :; do echo more; sleep 0.05; done")
    tab.open(job_url(web, daemon.addr, job_id))
    tab.until_text("#visible", "more")
    tab.js("document.getElementById('output').scrollTop = 0")
    tab.until_text("#visible", "1\n2\n")
    tab.js("getSelection().selectAllChildren(document.querySelector('#visible .line:nth-child(2)'))")
    before = tab.text("#range")
    tab.until("document.getElementById('range').innerText !== arguments[0]", before)
    assert tab.js("getSelection().toString()") == "2"
    kill(daemon, job_id)


def test_restart(a_daemon: ADaemon, again: Again, tab: Browser) -> None:
    """The worker is killed: the page says that it is away, and goes on by itself when there is another one."""
    worker = a_daemon()
    job_id = worker.bash(f"echo one; {until('go')}; echo two")
    with cutting_proxy(worker.addr, HARDLY_EVER) as proxy, page(proxy.addr) as web:
        tab.open(job_url(web, proxy.addr, job_id))
        tab.until_text("#visible", "one")
        worker.stop(signal.SIGKILL)
        tab.until_text("#workers", "away")
        tab.until_text("#notice", "The worker is away")
        proxy.upstream = again(worker).addr
        (worker.place / "go").touch()
        tab.until_text("#visible", "two")
        assert tab.text("#visible").split("\n") == ["one", "two"]
        tab.until_text("#workers", "connected")
        tab.until_text("#state", "succeeded")
        assert not tab.text("#notice")


def test_page_restarts(daemon: Daemon, tab: Browser) -> None:
    """The page's own server goes away and comes back: the browser goes on where it was."""
    job_id = daemon.bash(f"echo one; {until(f'{daemon.place}/again')}; echo two")
    with page(daemon.addr) as web:
        tab.open(job_url(web, daemon.addr, job_id))
        tab.until_text("#visible", "one")
        listen = re.sub(r"http://|/$", "", web.url)
    tab.until_text("#notice", "does not answer")
    with page(daemon.addr, listen=listen):
        (daemon.place / "again").touch()
        tab.until_text("#visible", "two")
        assert tab.text("#visible").split("\n") == ["one", "two"]
        tab.until("document.getElementById('notice').hidden")


def test_background(daemon: Daemon, web: Page, tab: Browser) -> None:
    """A page that was opened in the background, and was never looked at, holds no connection after a while."""
    script = """
        Object.defineProperty(document, "hidden", { get: () => true });
        window.sources = [];
        const Real = EventSource;
        window.EventSource = class extends Real { constructor(...words) { super(...words); sources.push(this); } };
    """
    tab.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": script})
    tab.open(web.url)
    tab.until("sources.length && sources.every((one) => one.readyState === EventSource.CLOSED)")


def test_no_storage(daemon: Daemon, web: Page, tab: Browser) -> None:
    """A browser that stores nothing for a site shows both pages all the same."""
    refused = 'get() { throw new DOMException("", "SecurityError"); }'
    script = f'Object.defineProperty(window, "sessionStorage", {{ {refused} }})'
    tab.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": script})
    job_id = daemon.bash("echo hello")
    tab.open(web.url)
    tab.until(f"{SHOWN}.includes(arguments[0])", job_id)
    tab.open(job_url(web, daemon.addr, job_id))
    tab.until_text("#visible", "hello")


def test_tls(daemon: Daemon, tab: Browser, tmp_path: Path) -> None:
    """Over TLS it is the same page: the list, a job, and its live output."""
    Authority().sign("page").write(tmp_path, "page")
    job_id = daemon.bash("echo hello")
    with page(daemon.addr, "--web-cert", f"{tmp_path}/page.pem", "--web-key", f"{tmp_path}/page.key") as web:
        assert web.url.startswith("https:")
        tab.open(web.url)
        tab.until(f"{SHOWN}.includes(arguments[0])", job_id)
        tab.open(job_url(web, daemon.addr, job_id))
        tab.until_text("#visible", "hello")


def test_lost_output(daemon: Daemon, web: Page, tab: Browser) -> None:
    """Output that is not there any more is told of, and why; it is not shown as that of a job that printed nothing."""
    job_id = daemon.bash("echo hello")
    daemon.end(job_id)
    os.truncate(daemon.place / "output" / f"{job_id}.out", 0)
    tab.open(job_url(web, daemon.addr, job_id))
    tab.until_text("#output-status", "This output cannot be shown: the output of job")
    tab.until_text("#state", "succeeded")
    tab.js("window.dispatchEvent(new Event('resize')), document.getElementById('wrap').click()")  # it is drawn again
    tab.js("new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))")
    assert "cannot be shown" in tab.text("#output-status")


def test_no_room(a_daemon: ADaemon, tab: Browser) -> None:
    """Output for which the worker has no stream left is waited for, and shown once there is one."""
    worker = a_daemon(server="max_streams = 2")
    job_id = worker.bash("echo hello; exec sleep 1000")
    with page(worker.addr) as web:
        tab.open(web.url)
        tab.until(f"{SHOWN}.includes(arguments[0])", job_id)  # the page's watch is one of the two
        other = worker.stub.StreamJob(pb.StreamJobReq(jobID=job_id), timeout=LIMIT)
        next(other)
        tab.open(job_url(web, worker.addr, job_id))
        tab.until_text("#output-status", "The output is waited for: grpc_server.max_streams")
        other.cancel()
        tab.until_text("#visible", "hello")
        tab.until("document.getElementById('output-status').innerText === ''")


def test_stop(daemon: Daemon, web: Page, tab: Browser) -> None:
    """A stop asks first; leaving it runs nothing, confirming it ends the job."""
    job_id = daemon.start("sleep", "1000")
    tab.open(job_url(web, daemon.addr, job_id))
    tab.until("!document.getElementById('stop').hidden")
    tab.click("#stop")
    tab.until("document.getElementById('confirm').open")
    assert "sleep 1000" in tab.text("#confirm-text")
    assert tab.js("document.activeElement.id") == "cancel"
    tab.click("#cancel")
    assert not daemon.query(job_id).done
    tab.click("#stop")
    tab.click("#confirmed")
    tab.until_text("#state", "stopped")
    assert daemon.query(job_id).job.state == pb.JOB_STATE_STOPPED
    tab.until("document.getElementById('stop').hidden")


def test_read_only(daemon: Daemon, tab: Browser) -> None:
    """Without --allow-stop there is no button."""
    job_id = daemon.start("sleep", "1000")
    with page(daemon.addr) as web:
        tab.open(job_url(web, daemon.addr, job_id))
        tab.until_text("#state", "running")
        tab.until("performance.getEntriesByType('resource').some((one) => one.name.endsWith('api/workers'))")
        assert tab.js("document.getElementById('stop').hidden")
    kill(daemon, job_id)


def test_plots(daemon: Daemon, web: Page, tab: Browser) -> None:
    """The plots of a running job, and those of the worker, are drawn: their pixels differ from a blank canvas."""
    job_id = daemon.bash("while :; do echo busy; done")
    tab.open(job_url(web, daemon.addr, job_id))
    for plot in ("#cpu-plot", "#memory-plot", "#output-plot"):
        tab.until(f"{COLOURS} > 3", plot)
    tab.until("Number(document.getElementById('cpu-now').innerText) > 0")
    kill(daemon, job_id)
    tab.open(web.url)
    for plot in ("#running-plot", "#launches-plot", "#failures-plot"):
        tab.until(f"{COLOURS} > 3", plot)


def test_markup(daemon: Daemon, web: Page, tab: Browser) -> None:
    """HTML that a job prints, and in its command and labels, is text: no element is made of it, and no script runs."""
    evil = "<script>document.title='pwned'</script><img src=x onerror=\"document.title='pwned'\"><b id=evil>"
    job_id = daemon.bash(f"echo '{evil.replace(chr(39), '')}'; exit 7", labels={evil: evil})
    tab.open(f"{web.url}?text=evil")
    tab.until(f"{SHOWN}.includes(arguments[0])", job_id)
    assert evil in tab.text("#jobs tbody .label")
    tab.open(job_url(web, daemon.addr, job_id))
    assert tab.until_text("#visible", "<b id=evil>").startswith("<script>document.title=pwned</script><img src=x")
    tab.until("document.querySelector('#record').textContent.includes('<b id=evil>')")
    assert tab.js("document.querySelectorAll('img, #evil, script:not([src])').length") == 0
    assert tab.js("document.title").startswith("failed")


def test_hundred_megabytes(daemon: Daemon, web: Page, tab: Browser) -> None:
    """A long output is never fetched whole: its end at once, its beginning and its middle when they are looked at."""
    job_id = daemon.bash(f"seq -f '%015.0f' {BIG // 16}")
    daemon.end(job_id)
    tab.open(job_url(web, daemon.addr, job_id))
    last, middle = BIG // 16, BIG // 32
    tab.until_text("#visible", f"{last:015}")
    tab.click("#to-start")
    tab.until_text("#visible", f"{1:015}")
    tab.js(
        "(() => { const at = document.getElementById('position'); at.value = '500';"
        " at.dispatchEvent(new Event('input', { bubbles: true })); })()"
    )
    tab.until(f"Math.abs(Number(document.querySelector('#visible .line').innerText) - {middle}) < 20000")
    first = int(tab.text("#visible").split("\n")[0])
    tab.js("document.getElementById('output').scrollTop = 0")  # and what is before it comes by itself
    tab.until("document.getElementById('output').scrollTop > 1000")
    tab.js("document.getElementById('output').scrollTop = 0")
    tab.until(f"Number(document.querySelector('#visible .line').innerText) < {first - 10}")
    assert _consecutive(tab)
    tab.driver.find_element("css selector", "#output").send_keys("\ue010")  # the End key
    tab.until_text("#visible", f"{last:015}")
    assert tab.js("document.querySelectorAll('#visible .line').length") < 200
    sent = tab.js(
        "performance.getEntriesByType('resource').filter((one) => one.name.includes('api/output'))"
        ".reduce((sum, one) => sum + one.transferSize, 0)"
    )
    assert sent < BIG / 20


def _consecutive(tab: Browser) -> bool:
    numbers = [int(line) for line in tab.text("#visible").split("\n") if line]
    return numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def test_flood(daemon: Daemon, web: Page, tab: Browser) -> None:
    """A job that prints without an end does not freeze the page, and its last lines are shown when it ends."""
    job_id = daemon.bash("yes 'a line that is printed again and again' & sleep 4; kill $!; wait; echo the end")
    tab.open(job_url(web, daemon.addr, job_id))
    tab.until_text("#visible", "again and again")
    for _ in range(10):  # a frozen page would not answer
        assert tab.js("document.querySelectorAll('#visible .line').length") < 200
    tab.until_text("#visible", "the end")
    tab.until_text("#state", "succeeded")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_narrow(daemon: Daemon, web: Page, tab: Browser, tmp_path: Path, scheme: str) -> None:
    """At 390 and 380 px nothing is wider than the screen, in both colour schemes."""
    job_id = daemon.bash("echo " + "x" * 500, labels={"a-long-label-" * 5: "value" * 20})
    daemon.end(job_id)
    tab.colour_scheme(scheme)
    for width in (390, 380):
        tab.size(width, 844)
        for url, shown in ((web.url, "#jobs tbody tr"), (job_url(web, daemon.addr, job_id), "#visible .line")):
            tab.open(url)
            tab.until("document.querySelector(arguments[0])", shown)
            assert tab.js("document.documentElement.scrollWidth") <= width, (url, width)
            picture = tmp_path / f"{width}.png"
            tab.screenshot(picture)
            assert picture.stat().st_size > 5_000
    back: Any = tab.js("getComputedStyle(document.body).backgroundColor")
    light = sum(map(int, re.findall(r"\d+", back)[:3])) > 384
    assert light == (scheme == "light")


def test_keyboard(daemon: Daemon, web: Page, tab: Browser) -> None:
    """Everything is reached by the keyboard and has a name; what changes is announced."""
    job_id = daemon.bash("echo hello")
    daemon.end(job_id)
    for url in (web.url, job_url(web, daemon.addr, job_id)):
        tab.open(url)
        tab.until("document.querySelector('#jobs tbody tr, #visible .line')")
        nameless = tab.js(
            "[...document.querySelectorAll('input, select, button, a')].filter((one) => "
            "!(one.innerText || one.textContent || one.labels?.[0]?.textContent || one.ariaLabel || '').trim())"
            ".map((one) => one.outerHTML)"
        )
        assert nameless == []
        assert tab.js("document.querySelectorAll('[aria-live=polite]').length") > 0
        assert tab.js("document.querySelectorAll('h1').length") == 1
    tab.open(web.url)
    tab.until("document.querySelector('#jobs tbody tr')")
    assert tab.js("[...document.querySelectorAll('#jobs th')].every((one) => one.scope === 'col')")
    reached = set()
    for _ in range(25):
        tab.driver.switch_to.active_element.send_keys("\ue004")  # Tab
        reached.add(
            tab.js("document.activeElement.name || document.activeElement.id || document.activeElement.tagName")
        )
    assert {"state", "text", "label", "since", "clear", "A"} <= reached
