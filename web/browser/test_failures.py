"""When something goes wrong the page says what, and nothing that was typed is lost."""

import re

from playwright.sync_api import expect

from case import LAST, PageCase, setUpModule, tearDownModule  # noqa: F401
from serving import Server


class WithKey(PageCase):
    options = ("--api-key", "open sesame")

    def test_a_key_is_asked_for_told_wrong_and_taken(self):
        self.forgiven = ("status of 401",)
        notice = self.page.locator(".notice")
        expect(notice).to_contain_text("wants an API key")
        self.page.fill("#prompt", "hello!!")
        self.page.press("#prompt", "Enter")
        expect(self.page.locator(f"{LAST} .error")).to_contain_text("wants an API key")
        notice.get_by_label("API key").fill("wrong")
        notice.get_by_role("button", name="Use key").click()
        expect(notice).to_contain_text("does not know this API key")
        notice.get_by_label("API key").fill("open sesame")
        notice.get_by_role("button", name="Use key").click()
        expect(notice).to_have_count(0)
        self.effort("none")
        self.page.get_by_role("button", name="Try again").click()
        expect(self.answer()).to_have_text("Hello! How can I help you?")
        self.page.reload()
        expect(self.page.locator(".model-name")).to_have_text("tidemill-tiny")


class Gone(PageCase):
    def test_a_server_that_went_away_and_came_back(self):
        self.forgiven = ("ERR_CONNECTION_REFUSED", "ERR_EMPTY_RESPONSE", "ERR_CONNECTION_RESET")
        self.effort("none")
        self.ask("hello!!")
        self.server.stop()
        self.page.fill("#prompt", "What color is the sky?")
        self.page.press("#prompt", "Enter")
        error = self.page.locator(f"{LAST} .error")
        expect(error).to_contain_text("cannot be reached")
        expect(self.page.locator(".notice")).to_contain_text("cannot be reached")
        expect(self.page.locator(".user .typed").last).to_have_text("What color is the sky?")
        self.page.fill("#prompt", "typed meanwhile")
        type(self).server = Server(port=self.server.port)
        expect(self.page.locator(".notice")).to_have_count(0)
        error.get_by_role("button", name="Try again").click()
        expect(self.answer()).to_have_text("The sky is blue.")
        expect(self.page.locator("#prompt")).to_have_value("typed meanwhile")
        self.page.reload()
        expect(self.page.locator(".user .typed")).to_have_text(["hello!!", "What color is the sky?"])
        expect(self.page.locator("#prompt")).to_have_value("typed meanwhile")


class Refused(PageCase):
    def test_a_conversation_that_does_not_fit(self):
        self.forgiven = ("status of 400",)
        self.ask("word " * 5000)
        expect(self.page.locator(f"{LAST} .error")).to_have_text(re.compile(r"too long for the model \(\d+ tokens"))

    def test_an_answer_that_breaks_off(self):
        self.page.route(
            "**/v1/chat/completions",
            lambda route: route.fulfill(
                status=200,
                content_type="text/event-stream",
                body='data: {"choices":[{"delta":{"content":"Half an"}}]}\n\n',
            ),
        )
        self.ask("hello!!")
        expect(self.answer()).to_have_text("Half an")
        expect(self.page.locator(f"{LAST} .error")).to_contain_text("connection was lost")
        expect(self.page.get_by_role("button", name="Continue")).to_be_visible()

    def test_a_busy_server(self):
        self.forgiven = ("status of 429",)
        self.page.route(
            "**/v1/chat/completions",
            lambda route: route.fulfill(status=429, headers={"retry-after": "7"}, json={"error": {"message": "full"}}),
        )
        self.ask("hello!!")
        expect(self.page.locator(f"{LAST} .error")).to_contain_text("Try again in 7 s")
