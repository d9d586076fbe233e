"""What every test of the page has: a browser, a fresh page, and an eye on what must never happen."""

import json
import os
import pathlib
import shutil
import unittest
import urllib.parse

from playwright.sync_api import expect, sync_playwright

from serving import Server

SCREENSHOTS = pathlib.Path(os.environ.get("SCREENSHOTS", "target/screenshots"))
LAST = ".assistant.last"
WAIT_MS = 20_000
expect.set_options(timeout=WAIT_MS)


def chromium():
    names = [os.environ.get("CHROMIUM"), "chromium", "chromium-browser", "google-chrome"]
    return next(filter(None, (shutil.which(name) for name in names if name)), None)


def setUpModule():
    """Starts the browser once for the tests of a module; imported by each."""
    BROWSER.start()


def tearDownModule():
    BROWSER.stop()


class Browser:
    def start(self):
        self.playwright = sync_playwright().start()
        # The sandbox is not there for root, as whom containers run.
        self.browser = self.playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])

    def stop(self):
        self.browser.close()
        self.playwright.stop()


BROWSER = Browser()


class PageCase(unittest.TestCase):
    """A server for the class, a page for each test. Ends with an error if the page said something on the console,
    failed, or asked another origin for anything."""

    options = ()

    @classmethod
    def setUpClass(cls):
        cls.server = Server(*cls.options)

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def setUp(self):
        self.faults = []
        self.forgiven = ()
        self.page = self.open()

    def tearDown(self):
        for context in list(BROWSER.browser.contexts):
            context.close()
        faults = [fault for fault in self.faults if not any(word in fault for word in self.forgiven)]
        self.assertEqual(faults, [])

    def open(self, **options):
        context = BROWSER.browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
        context.set_default_timeout(WAIT_MS)
        page = context.new_page()
        self.watch(page)
        page.goto(self.server.url)
        expect(page.locator("#prompt")).to_be_visible()
        return page

    def watch(self, page):
        origin = urllib.parse.urlsplit(self.server.url).netloc

        def judge(request):
            parts = urllib.parse.urlsplit(request.url)
            if parts.scheme not in ("data", "blob") and parts.netloc != origin:
                self.faults.append(f"asked for {request.url}")

        page.on("request", judge)
        page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        page.on(
            "console",
            lambda message: message.type in ("error", "warning") and self.faults.append(f"console: {message.text}"),
        )

    def ask(self, text, page=None):
        """Sends a message and waits for the whole answer."""
        page = page or self.page
        answers = page.locator(".assistant").count()
        page.fill("#prompt", text)
        page.press("#prompt", "Enter")
        expect(page.locator(".assistant")).to_have_count(answers + 1)
        expect(page.locator(f"{LAST}[aria-busy=false]")).to_be_visible()

    def answer(self, page=None):
        return (page or self.page).locator(f"{LAST} > .prose")

    def effort(self, value, page=None):
        (page or self.page).get_by_label("Thinking", exact=True).select_option(value)

    def script(self, *deltas, page=None, finish="stop"):
        """Answers the next chats with these pieces, whatever is asked."""
        pieces = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
        pieces.append({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
        body = "".join(f"data: {json.dumps(piece)}\n\n" for piece in pieces) + "data: [DONE]\n\n"
        (page or self.page).route(
            "**/v1/chat/completions",
            lambda route: route.fulfill(status=200, content_type="text/event-stream", body=body),
        )

    def shot(self, name, page=None):
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        (page or self.page).screenshot(path=SCREENSHOTS / f"{name}.png")
