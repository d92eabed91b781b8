"""The console in a real Chromium: what a person sees and does there."""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

import pytest
from command_line import Serve

from atbr import Store
from atbr.server import Server

if TYPE_CHECKING:
    from selenium.webdriver import Chrome
    from selenium.webdriver.remote.webelement import WebElement

PROGRAMS = ("/usr/bin/chromium", "/usr/bin/chromedriver")
SECONDS = 60
OPTIONS = [
    *["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"],
    *["--disable-background-networking", "--disable-component-update", "--disable-sync"],
    *["--no-first-run", "--window-size=1280,1000"],
]


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    absent = [program for program in PROGRAMS if shutil.which(program) is None]
    if absent:
        reason = f"{' and '.join(absent)} not installed (tools/engines.sh browser)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = PROGRAMS[0]
    for option in OPTIONS:
        options.add_argument(option)
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('chromium')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options=options, service=Service(PROGRAMS[1]))
    browser.set_page_load_timeout(SECONDS)
    try:
        yield browser
    finally:
        browser.quit()


class Page:
    """The console as somebody uses it."""

    def __init__(self, browser: Chrome) -> None:
        self.browser = browser

    def open(self, server: Server | Serve, state: str = "live") -> None:
        assert server.url
        self.browser.get_log("browser")
        self.browser.get_log("performance")
        self.browser.get(server.url)
        self.wait(lambda: self["status"].get_attribute("data-state") == state)

    def __getitem__(self, name: str) -> WebElement:
        return self.browser.find_element("id", name)

    def wait(self, condition: Callable[[], Any]) -> Any:
        from selenium.common.exceptions import WebDriverException
        from selenium.webdriver.support.wait import WebDriverWait

        waiting = WebDriverWait(self.browser, SECONDS, 0.05, [WebDriverException])
        return waiting.until(lambda _browser: condition())

    def wait_for_text(self, name: str, text: str) -> None:
        try:
            self.wait(lambda: text in self[name].text)
        except Exception:
            raise AssertionError(f"{name} says {self[name].text!r}, not {text!r}") from None

    def write(self, name: str, text: str) -> None:
        self[name].clear()
        self[name].send_keys(text)

    def look_up(self, key: str) -> None:
        self.write("key", key)
        self["look-up"].click()

    def press(self, *keys: str) -> None:
        from selenium.webdriver import ActionChains

        ActionChains(self.browser).send_keys(*keys).perform()

    def keys(self) -> list[str]:
        found = self.browser.execute_script(
            "return Array.from(document.querySelectorAll('#keys li'), (item) => item.textContent)"
        )
        return sorted(found)

    def value(self, name: str) -> str:
        return str(self[name].get_property("value"))

    def media(self, **features: str) -> None:
        described = [
            {"name": name.replace("_", "-"), "value": value} for name, value in features.items()
        ]
        self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": described})

    def resize(self, width: int, height: int = 900) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


@pytest.fixture
def page(chromium: Chrome) -> Iterator[Page]:
    page = Page(chromium)
    yield page
    chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    page.media()
    if chromium.current_url.startswith("http"):
        chromium.execute_script("sessionStorage.clear(); localStorage.clear()")
    chromium.get("about:blank")


@pytest.fixture
def server(store: Store[str], tmp_path: Path) -> Iterator[Server]:
    with store.serve(data_dir=tmp_path) as server:
        yield server


def test_the_figures_are_those_of_the_store(page: Page, store: Store[str], server: Server) -> None:
    store.update((f"key:{i}", "v") for i in range(12_345))
    store.set("brief", "v", ttl=1000)
    page.open(server)
    page.wait_for_text("tile-entries", "12.3 k")
    page.wait_for_text("note-entries", "1 expire")
    assert re.fullmatch(r"[\d.]+ [KM]iB", page["tile-memory"].text)
    for key in ("key:1", "key:2", "key:3", "missing"):
        urlopen(f"{server.url}/get/key/{key}", timeout=60).close()
    page.wait_for_text("tile-hits", "75.0 %")
    page.wait_for_text("note-hits", "3 of 4")
    page.wait_for_text("throughput-now", "requests/s")
    page.wait_for_text("latency-now", "half ≤")
    assert page.browser.find_elements("css selector", "#throughput .curve")
    assert page.browser.find_elements("css selector", "#latency .column")


def test_evictions_and_expirations_are_counted(page: Page) -> None:
    store = Store(maxsize=100)
    store.update((str(i), "v") for i in range(150))
    for i in range(50):
        store.set(str(i), "v", ttl=0.001)
    with store.serve() as server:
        page.open(server)
        page.wait(lambda: int(page["tile-evictions"].text) >= 50)
        page.wait(lambda: int(page["tile-expirations"].text) == 50)


def test_an_entry_is_set_looked_up_and_deleted(
    page: Page, store: Store[str], server: Server
) -> None:
    page.open(server)
    page.look_up("α/../?#%20")
    page.wait_for_text("entry-note", "There is no α/../?#%20.")
    page["value"].send_keys("one\ntwo")
    page["ttl"].send_keys("1000")
    page["set"].click()
    page.wait_for_text("entry-note", "Set α/../?#%20.")
    assert store["α/../?#%20"] == "one\ntwo"
    assert 900 < (store.get_ttl("α/../?#%20") or 0) <= 1000
    store["other"] = "3"
    page.look_up("other")
    page.wait_for_text("entry-note", "1 byte, never expires")
    assert (page.value("value"), page.value("ttl")) == ("3", "")
    page["delete"].click()
    page.wait(lambda: page["delete-dialog"].is_displayed())
    assert page["delete-key"].text == "other"
    page.browser.find_element("css selector", "#delete-dialog [value=keep]").click()
    assert "other" in store
    page["delete"].click()
    page.browser.find_element("css selector", "#delete-dialog [value=delete]").click()
    page.wait_for_text("entry-note", "Deleted other.")
    assert "other" not in store


def test_a_time_that_is_none_is_refused(page: Page, store: Store[str], server: Server) -> None:
    page.open(server)
    page["key"].send_keys("a")
    for wrong in ("soon", "-1", "0", "1e300"):
        page.write("ttl", wrong)
        page["set"].click()
        page.wait_for_text("entry-note", "Seconds are a number above 0")
        page["key"].send_keys("a")
        page["look-up"].click()
        page.wait_for_text("entry-note", "There is no")
    assert len(store) == 0


def test_what_somebody_else_changed_is_not_overwritten(
    page: Page, store: Store[str], server: Server
) -> None:
    store["a"] = "1"
    page.open(server)
    page.look_up("a")
    page.wait_for_text("entry-note", "1 byte")
    store["a"] = "changed"
    page.write("value", "2")
    page["set"].click()
    page.wait_for_text("entry-note", "Somebody else changed this entry")
    assert store["a"] == "changed"
    page["look-up"].click()
    page.wait_for_text("entry-note", "7 bytes")
    page.write("value", "2")
    page["set"].click()
    page.wait_for_text("entry-note", "Set a.")
    page.write("value", "3")
    page["set"].click()
    page.wait(lambda: store["a"] == "3")


def test_keys_are_browsed_by_prefix_and_by_pattern(
    page: Page, store: Store[str], server: Server
) -> None:
    store.update((f"user:{i}:name", str(i)) for i in range(450))
    store.update({"item:1": "i", "item:2:name": "j"})
    page.open(server)
    page.wait_for_text("browse-note", "so far")
    for words, expected in (
        ("item:", ["item:1", "item:2:name"]),
        ("*:1?:name", [f"user:{i}:name" for i in range(10, 20)]),
        ("nothing", []),
    ):
        page.write("filter", words)
        page["browse-form"].submit()
        page.wait(lambda expected=expected: page.keys() == expected)
        page.wait_for_text("browse-note", f"{len(expected)} keys")
    page.write("filter", "user:")
    page["browse-form"].submit()
    while page.wait(lambda: "keys" in page["browse-note"].text) and page["more"].is_displayed():
        had = len(page.keys())
        page["more"].click()
        page.wait(lambda had=had: len(page.keys()) > had or not page["more"].is_displayed())
    assert page.keys() == sorted(key for key in store if key.startswith("user:"))


def test_keys_and_values_are_text_and_never_markup(page: Page, server: Server) -> None:
    """An attacker who can write keys cannot run scripts in the console."""
    attack = "<img src=x onerror=\"document.title='owned'\">"
    server.db(0)[attack] = f"<script>document.title='owned'</script>{attack}"
    page.open(server)
    page.wait(lambda: page.keys() == [attack])
    page.browser.find_element("css selector", "#keys li").click()
    page.wait_for_text("entry-note", "bytes")
    assert attack in page.value("value")
    page["delete"].click()
    page.wait(lambda: page["delete-key"].text == attack)
    page.press("\ue00c")
    assert not page.browser.find_elements("css selector", "main img, dialog img")
    assert page.browser.title == "atbr"


def test_bytes_that_are_no_text_are_shown_and_kept(page: Page) -> None:
    store = Store({b"\xff\x00k": bytes(range(256))}, keys=bytes, values=bytes)
    store[b"long"] = b"x" * 1_000_000
    store[b"cr"] = b"a\r\nb"
    with store.serve() as server:
        page.open(server)
        page.wait(lambda: page.keys() == ["\\xff\\x00k", "cr", "long"])
        for item in page.browser.find_elements("css selector", "#keys li"):
            name = item.text
            item.click()
            page.wait_for_text("entry-note", "never expires")
            expected = {
                "\\xff\\x00k": ("256 bytes", "000000f0  f0 f1"),
                "long": ("the first 64 KiB are shown", "xxx"),
                "cr": ("carriage returns", "a"),
            }[name]
            page.wait_for_text("entry-note", expected[0])
            assert expected[1] in page.value("value")
            # What is not shown as it is cannot be set by mistake.
            assert not page["set"].is_enabled()
            assert page["download"].is_displayed()
        page.look_up("missing")
        page.wait_for_text("entry-note", "There is no missing")
        assert page["set"].is_enabled()


def test_another_database_is_another(page: Page, store: Store[str], server: Server) -> None:
    from selenium.webdriver.support.select import Select

    store["a"] = "zero"
    server.db(5)["b"] = "five"
    page.open(server)
    page.wait(lambda: page.keys() == ["a"])
    Select(page["database"]).select_by_value("5")
    page.wait(lambda: page.keys() == ["b"])
    page.look_up("b")
    page.wait_for_text("entry-note", "4 bytes")
    page.write("value", "5")
    page["set"].click()
    page.wait(lambda: server.db(5)["b"] == "5")
    assert dict(store) == {"a": "zero"}


def test_a_file_of_the_data_folder_is_loaded_with_progress(
    page: Page, store: Store[str], server: Server, tmp_path: Path
) -> None:
    count = 2_000_000
    with (tmp_path / "rows.tsv").open("w") as file:
        file.writelines(f"row:{i}\t{i}\n" for i in range(count))
    page.open(server)
    page.browser.execute_script(
        "window.seen = []; new MutationObserver(() => window.seen.push("
        "[document.getElementById('load-note').textContent,"
        " document.getElementById('load-progress').hidden]))"
        ".observe(document.getElementById('load-note'), {childList: true})"
    )
    page["file"].click()
    page.wait(
        lambda: (
            [
                option.get_attribute("value")
                for option in page.browser.find_elements("css selector", "#files option")
            ]
            == ["rows.tsv"]
        )
    )
    page["file"].send_keys("rows.tsv\n")
    page.wait_for_text("load-note", "Loaded 2,000,000 rows of rows.tsv")
    assert len(store) == count
    seen = page.browser.execute_script("return window.seen")
    assert any("rows/s" in text and not hidden for text, hidden in seen)
    page.wait(lambda: not page["load-progress"].is_displayed())
    for name in ("absent.tsv", "../rows.tsv"):
        page.write("file", name)
        page["load"].click()
        page.wait(lambda: page["load-note"].get_attribute("data-tone") == "bad")
        assert page["load"].is_enabled()


def test_without_a_data_folder_loading_says_so(page: Page, store: Store[str]) -> None:
    with store.serve() as server:
        page.open(server)
        page["file"].send_keys("rows.tsv\n")
        page.wait_for_text("load-note", "--data-dir")


def test_the_token_is_asked_for_and_kept_for_the_tab_alone(page: Page, store: Store[str]) -> None:
    store["a"] = "1"
    with store.serve(token="tökén") as server:
        page.open(server, state="connecting")
        page.wait(lambda: page["token-dialog"].is_displayed())
        assert page.keys() == []
        page["token"].send_keys("wrong\n")
        page.wait_for_text("token-note", "That is not the token.")
        page["token"].send_keys("tökén\n")
        page.wait(lambda: page.keys() == ["a"])
        page.wait(lambda: page["status"].get_attribute("data-state") == "live")
        kept = page.browser.execute_script(
            "return [sessionStorage.getItem('atbr-token'), document.cookie,"
            " JSON.stringify(localStorage), location.href]"
        )
        assert kept[0] == "tökén"
        assert "tökén" not in "".join(kept[1:])
        page["sign-out"].click()
        page.wait(lambda: page["token-dialog"].is_displayed())
        assert page.browser.execute_script("return sessionStorage.getItem('atbr-token')") is None


def test_a_server_that_is_gone_is_said_to_be_and_found_again(page: Page, store: Store[str]) -> None:
    store["a"] = "1"
    with store.serve() as server:
        page.open(server)
        port = server.http_port
    page.wait(lambda: page["gone"].is_displayed())
    assert "The server is gone." in page["gone"].text
    assert re.search(r"has not answered since \d", page["gone"].text)
    assert page["status"].text == "gone"
    inert = page.browser.execute_script("return document.getElementById('entry-form').inert")
    assert inert is True
    with store.serve(http=port):
        page.wait(lambda: page["status"].text == "live")
        assert not page["gone"].is_displayed()
        page.look_up("a")
        page.wait_for_text("entry-note", "1 byte")


def test_a_server_that_hangs_is_gone(page: Page) -> None:
    with Serve() as serve:
        page.open(serve)
        serve.child.send_signal(signal.SIGSTOP)
        try:
            page.wait(lambda: page["status"].text == "gone")
        finally:
            serve.child.send_signal(signal.SIGCONT)
        page.wait(lambda: page["status"].text == "live")


def test_the_keyboard_is_enough(page: Page, store: Store[str], server: Server) -> None:
    from selenium.webdriver.common.keys import Keys

    store.update({"a:1": "one", "a:2": "two", "b:1": "three"})
    page.open(server)
    active = "return document.activeElement.id"
    page.press("/")
    assert page.browser.execute_script(active) == "filter"
    page.press("a:", Keys.ENTER)
    page.wait(lambda: page.keys() == ["a:1", "a:2"])
    page.browser.execute_script("document.getElementById('keys').focus()")
    page.press(Keys.ARROW_DOWN, Keys.ARROW_DOWN, Keys.ARROW_UP, Keys.ENTER)
    page.wait_for_text("entry-note", "3 bytes")
    first = page.value("key")
    assert page.value("value") == store[first]
    page.press(Keys.DELETE)
    page.wait(lambda: page["delete-key"].text == first)
    page.press(Keys.ESCAPE)
    page.wait(lambda: not page["delete-dialog"].is_displayed())
    assert first in store
    page.press("n")
    assert page.browser.execute_script(active) == "key"
    assert page.value("value") == ""
    page.press("new", Keys.TAB, "value")
    page["value"].send_keys(Keys.CONTROL, Keys.ENTER)
    page.wait_for_text("entry-note", "Set new.")
    assert store["new"] == "value"
    page.press(Keys.ESCAPE, "l")
    assert page.browser.execute_script(active) == "file"
    page.press(Keys.ESCAPE, "?")
    assert page["help"].is_displayed()
    page.press(Keys.ESCAPE)
    page.wait(lambda: not page["help"].is_displayed())


@pytest.mark.parametrize("width", [1280, 390])
def test_dark_and_light_fit_wide_and_narrow(
    page: Page, store: Store[str], server: Server, width: int
) -> None:
    from selenium.webdriver.support.select import Select

    store["x" * 5_000] = "y" * 5_000
    page.resize(width)
    page.open(server)
    page.wait(lambda: page.keys() != [])
    background = "return getComputedStyle(document.body).backgroundColor"
    seen = {}
    for scheme in ("light", "dark"):
        page.media(prefers_color_scheme=scheme)
        seen[scheme] = page.browser.execute_script(background)
        wide = page.browser.execute_script(
            "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
        )
        assert wide[0] <= wide[1]
    assert seen["light"] != seen["dark"]
    for scheme in ("light", "dark"):
        Select(page["theme"]).select_by_value(scheme)
        assert page.browser.execute_script(background) == seen[scheme]
    assert page.browser.execute_script(CONTRASTS) == []


# Texts whose contrast with what is behind them is under 4.5 to 1.
CONTRASTS = """
const numbers = (color) => color.match(/[\\d.]+/g).map(Number);
const light = (color) => numbers(color).slice(0, 3)
  .map((part) => part / 255)
  .map((part) => (part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
  .reduce((sum, part, i) => sum + part * [0.2126, 0.7152, 0.0722][i], 0);
const behind = (element) => {
  for (let at = element; at; at = at.parentElement) {
    const color = getComputedStyle(at).backgroundColor;
    const parts = numbers(color);
    if (parts.length === 3 || parts[3] === 1) return color;
  }
  return "rgb(255, 255, 255)";
};
return Array.from(document.querySelectorAll("h1, h2, p, dt, dd, label, button, li, span"))
  .filter((element) => element.offsetParent && element.textContent.trim())
  .filter((element) => {
    const [one, two] = [light(getComputedStyle(element).color), light(behind(element))];
    return (Math.max(one, two) + 0.05) / (Math.min(one, two) + 0.05) < 4.5;
  })
  .map((element) => element.outerHTML.slice(0, 100));
"""


def test_nothing_comes_from_elsewhere_and_nothing_is_refused(
    page: Page, store: Store[str], server: Server
) -> None:
    import json

    store["a"] = "1"
    page.open(server)
    page.wait(lambda: page.keys() == ["a"])
    page.look_up("a")
    page.wait_for_text("entry-note", "1 byte")
    messages = [
        json.loads(line["message"])["message"] for line in page.browser.get_log("performance")
    ]
    asked = [
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    ]
    assert len(asked) > 10
    assert [url for url in asked if not url.startswith(f"{server.url}/")] == []
    assert page.browser.get_log("browser") == []


def test_the_page_allows_its_own_files_only(server: Server) -> None:
    for path in ("/", "/console/console.js", "/console/console.css", "/console/icon.svg"):
        with urlopen(f"{server.url}{path}", timeout=60) as answer:
            policy = answer.headers["Content-Security-Policy"]
            assert "default-src 'self'" in policy
            assert "frame-ancestors 'none'" in policy
            assert "unsafe" not in policy
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            text = answer.read().decode()
            outside = re.findall(r"(?:https?:)?//[a-z][\w.-]+\.[a-z]{2,}", text)
            assert [url for url in outside if "www.w3.org" not in url] == []
