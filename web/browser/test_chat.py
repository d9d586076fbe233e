"""Talking to the tiny model through the page."""

import base64
import json
import pathlib
import re
import tempfile
import time
import urllib.request

from playwright.sync_api import expect

from case import LAST, PageCase, setUpModule, tearDownModule  # noqa: F401

SUM = "What is 17 + 25?"
SKY = "What color is the sky?"
STORY = "Tell a story about a fox and a lantern."
TINY = pathlib.Path(__file__).resolve().parents[2] / "models/tiny/tidemill-tiny.gguf"
# A picture of one pixel.
DOT = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGOQz68AAAG3AQemBVLVAAAAAElFTkSuQmCC")


class Chat(PageCase):
    def test_an_answer_streams_in_with_its_figures(self):
        self.effort("none")
        self.ask(STORY)
        expect(self.answer()).to_contain_text("The end.")
        expect(self.page.locator(f"{LAST} .figures")).to_have_text(re.compile(r"\d+ tokens · [\d,.]+ tokens/s · "))
        expect(self.page.locator(".room")).to_have_text(re.compile(r"^\d+ / 4,096$"))
        expect(self.page.locator("#announcer")).to_have_text("The answer is complete.")

    def test_thinking_is_folded(self):
        self.ask(SUM)
        expect(self.answer()).to_have_text("17 + 25 = 42")
        thoughts = self.page.locator(f"{LAST} .thoughts")
        expect(thoughts).to_be_hidden()
        self.page.click(f"{LAST} .thinking summary")
        expect(thoughts).to_contain_text("7 + 5 = 12")

    def test_editing_makes_a_branch(self):
        self.effort("none")
        self.ask("hello!!")
        self.ask(SKY)
        self.page.locator(".user").first.hover()
        self.page.locator(".user").first.get_by_label("Edit").click()
        self.page.get_by_label("Edit message").fill("What is the capital of France?")
        self.page.keyboard.press("Enter")
        expect(self.answer()).to_have_text("The capital of France is Paris.")
        expect(self.page.locator(".user")).to_have_count(1)
        branches = self.page.locator(".user .branches")
        expect(branches).to_contain_text("2/2")
        branches.get_by_label("Previous version").click()
        expect(self.page.locator(".user")).to_have_count(2)
        expect(branches.first).to_contain_text("1/2")
        expect(self.answer()).to_have_text("The sky is blue.")

    def test_answers_can_be_had_again_and_messages_removed(self):
        self.effort("none")
        self.ask("hello!!")
        self.page.click(f"{LAST} [data-act=again]")
        expect(self.page.locator(f"{LAST} .branch-count")).to_have_text("2/2")
        expect(self.answer()).to_have_text("Hello! How can I help you?")
        self.page.locator(".user").hover()
        self.page.locator(".user").get_by_label("Remove from here on").click()
        expect(self.page.locator(".welcome")).to_be_visible()

    def test_a_reload_keeps_everything(self):
        self.effort("none")
        self.ask("hello!!")
        self.ask(SKY)
        self.page.fill("#prompt", "not sent yet")
        self.page.reload()
        expect(self.page.locator(".user .typed")).to_have_text(["hello!!", SKY])
        expect(self.answer()).to_have_text("The sky is blue.")
        expect(self.page.locator("#prompt")).to_have_value("not sent yet")
        expect(self.page.get_by_label("Thinking", exact=True)).to_have_value("none")
        # The second prompt began with the first, and was found in the cache.
        expect(self.page.locator(f"{LAST} .figures")).to_contain_text("cached")

    def test_conversations_are_listed_found_renamed_removed_and_brought_back(self):
        self.effort("none")
        self.ask("hello!!")
        self.page.get_by_role("button", name="New conversation").first.click()
        self.ask(SUM)
        rows = self.page.locator(".conversation")
        expect(rows).to_have_text([SUM, "hello!!"])
        self.page.keyboard.press("Control+k")
        self.page.keyboard.type("how can i help")
        expect(rows).to_have_text(["hello!!"])
        rows.click()
        expect(self.answer()).to_have_text("Hello! How can I help you?")
        rows.dblclick()
        self.page.get_by_label("Title").fill("Greetings")
        self.page.keyboard.press("Enter")
        expect(self.page.locator(".title")).to_have_text("Greetings")
        self.page.get_by_label("Remove Greetings").click()
        expect(self.page.locator(".welcome")).to_be_visible()
        self.page.get_by_role("button", name="Undo").click()
        expect(self.answer()).to_have_text("Hello! How can I help you?")

    def test_tabs_know_of_each_other(self):
        self.effort("none")
        self.ask("hello!!")
        other = self.page.context.new_page()
        self.watch(other)
        other.goto(self.page.url)
        expect(self.answer(other)).to_have_text("Hello! How can I help you?")
        self.ask(SKY)
        expect(self.answer(other)).to_have_text("The sky is blue.")
        other.locator(".conversation").hover()
        other.get_by_label("Remove hello!!").click()
        expect(self.page.locator(".welcome")).to_be_visible()

    def test_a_model_that_is_being_loaded(self):
        progress = iter([0.25, 0.5] + [0.75] * 100)

        def loading(route):
            models = route.fetch().json()
            models["data"][0]["status"] = {"value": "loading", "progress": next(progress)}
            models["data"].append({**models["data"][0], "id": "another", "status": {"value": "failed"}})
            route.fulfill(json=models)

        self.page.route("**/v1/models", loading)
        held = []
        self.page.route("**/v1/chat/completions", lambda route: held.append(route))
        self.page.fill("#prompt", "hello!!")
        self.page.press("#prompt", "Enter")
        expect(self.page.locator(f"{LAST} .status")).to_contain_text("The model is being loaded, 75 %")
        expect(self.page.get_by_label("Model", exact=True)).to_contain_text("another (failed to load)")
        self.page.unroute("**/v1/models")
        held[0].continue_()
        expect(self.page.locator(f"{LAST}[aria-busy=false] > .prose")).to_contain_text("Hello!")

    def test_calls_are_shown_and_take_results(self):
        self.effort("none")
        self.page.click("[data-act=settings]")
        self.page.get_by_role("button", name="Put in an example").click()
        self.ask("What is the price of a cup?")
        call = self.page.locator(".call")
        expect(call.locator(".call-name")).to_have_text("price_of")
        expect(call.locator("pre")).to_contain_text('"thing": "cup"')
        self.page.fill("#prompt", "something else")
        self.page.press("#prompt", "Enter")
        expect(self.page.locator(".toast")).to_contain_text("waits for the results")
        self.page.get_by_label("Result of price_of").fill('{"price": 24.5}')
        self.page.get_by_role("button", name="Send result").click()
        expect(self.answer()).to_contain_text("24.5")
        expect(self.page.locator(".result pre")).to_contain_text("24.5")
        expect(self.page.locator(".results")).to_have_count(0)

    def test_settings_go_into_requests(self):
        self.page.click("[data-act=settings]")
        self.page.get_by_label("System prompt").fill("Be brief.")
        self.page.get_by_label("Preset").select_option("instruct")
        self.page.get_by_label("Temperature").fill("0.3")
        self.page.get_by_label("Seed", exact=True).fill("7")
        self.effort("none")
        with self.page.expect_request("**/v1/chat/completions") as sent:
            self.ask("hello!!")
        body = json.loads(sent.value.post_data)
        self.assertEqual(body["messages"][0], {"role": "system", "content": "Be brief."})
        wanted = {"preset": "instruct", "temperature": 0.3, "seed": 7, "reasoning_effort": "none", "stream": True}
        self.assertEqual({name: body.get(name) for name in wanted}, wanted)
        self.assertNotIn("top_p", body)

    def test_every_preset_and_effort_is_taken(self):
        self.page.click("[data-act=settings]")
        presets = self.page.get_by_label("Preset")
        for value in presets.locator("option").evaluate_all("(options) => options.map((option) => option.value)"):
            presets.select_option(value)
            self.ask("hello!!")
            expect(self.page.locator(f"{LAST} .error")).to_be_hidden()
        for value in ("low", "medium", "high", "none", ""):
            self.effort(value)
            self.ask("hello!!")
            expect(self.page.locator(f"{LAST} .error")).to_be_hidden()

    def test_long_messages_are_shown_in_part(self):
        self.script({"content": "I see."})
        self.ask("line\n" * 60)
        typed = self.page.locator(".typed")
        folded = typed.bounding_box()["height"]
        self.page.get_by_role("button", name="Show all").click()
        self.assertGreater(typed.bounding_box()["height"], 2 * folded)

    def test_keys(self):
        self.effort("none")
        self.page.locator("body").click(position={"x": 700, "y": 300})
        self.page.keyboard.press("/")
        self.page.keyboard.type("hello!!")
        self.page.keyboard.press("Shift+Enter")
        expect(self.page.locator("#prompt")).to_have_value("hello!!\n")
        self.page.keyboard.press("Enter")
        expect(self.answer()).to_have_text("Hello! How can I help you?")
        self.page.keyboard.press("ArrowUp")
        expect(self.page.get_by_label("Edit message")).to_be_focused()
        self.page.keyboard.press("Escape")
        expect(self.page.get_by_label("Edit message")).to_have_count(0)
        self.page.keyboard.press("Control+,")
        expect(self.page.get_by_label("Temperature")).to_be_visible()
        self.page.keyboard.press("Escape")
        expect(self.page.get_by_label("Temperature")).to_be_hidden()
        self.page.keyboard.press("Control+Shift+o")
        expect(self.page.locator(".welcome")).to_be_visible()

    def test_the_server_is_told_of(self):
        self.effort("none")
        self.ask("hello!!")
        self.page.click("[data-act=server]")
        panel = self.page.locator("#panel")
        expect(panel.get_by_role("meter", name="This conversation")).to_have_attribute(
            "aria-valuetext", re.compile(r"^\d+ of 4,096 tokens$")
        )
        expect(panel.locator(".slots li")).to_have_text(["Idle"] * 4)
        expect(panel.locator("dl.facts")).to_contain_text("tidemill-tiny")

    def test_images_are_for_models_that_see(self):
        expect(self.page.get_by_label("Attach an image")).to_be_hidden()
        seeing = self.page.context.new_page()
        self.watch(seeing)

        def with_eyes(route):
            models = route.fetch().json()
            models["data"][0]["architecture"]["input_modalities"] = ["text", "image"]
            route.fulfill(json=models)

        seeing.route("**/v1/models", with_eyes)
        self.script({"content": "A dot."}, page=seeing)
        seeing.goto(self.server.url)
        seeing.locator("input[type=file]").set_input_files({"name": "dot.png", "mimeType": "image/png", "buffer": DOT})
        expect(seeing.get_by_label("Attach an image")).to_be_visible()
        expect(seeing.locator(".composer figure")).to_have_count(1)
        with seeing.expect_request("**/v1/chat/completions") as sent:
            self.ask("What is this?", seeing)
        text, image = json.loads(sent.value.post_data)["messages"][0]["content"]
        self.assertEqual(text, {"type": "text", "text": "What is this?"})
        self.assertTrue(image["image_url"]["url"].startswith("data:image/png;base64,"))
        expect(seeing.locator(".bubble img")).to_have_count(1)


class SeveralModels(PageCase):
    """Two ways to answer of one model."""

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        profiles = pathlib.Path(cls.folder.name) / "profiles.ini"
        profiles.write_text(
            f"[*]\nmodel = {TINY}\ntemperature = 0\n"
            '[musing]\n[brief]\nchat-template-kwargs = {"enable_thinking": false}\n'
        )
        cls.options = ("--profiles", str(profiles))
        super().setUpClass()

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        cls.folder.cleanup()

    def test_the_model_can_be_chosen_and_a_lost_choice_does_no_harm(self):
        models = self.page.get_by_label("Model", exact=True)
        models.select_option("brief")
        self.ask("hello!!")
        expect(self.page.locator(f"{LAST} .thinking")).to_be_hidden()
        models.select_option("musing")
        self.page.click(f"{LAST} [data-act=again]")
        expect(self.page.locator(f"{LAST}[aria-busy=false] .thinking")).to_be_visible()
        self.page.click("[data-act=server]")
        expect(self.page.locator("dl.facts")).to_contain_text("musing")
        self.page.evaluate(
            """() => {
                const settings = JSON.parse(localStorage.getItem("tidemill.settings"));
                localStorage.setItem("tidemill.settings", JSON.stringify({ ...settings, model: "gone" }));
            }"""
        )
        self.page.reload()
        self.ask("hello!!")
        expect(self.answer()).to_have_text("Hello! How can I help you?")


class SlowChat(PageCase):
    """With a server that is slow and never ends by itself."""

    options = ("--backend", "reference", "--ignore-eos", "--no-repack")

    def slots(self):
        with urllib.request.urlopen(f"{self.server.url}/slots") as response:
            return [slot for slot in json.load(response) if slot["is_processing"]]

    def test_stop_ends_it_at_the_server_and_it_can_go_on(self):
        self.page.evaluate(
            """() => {
                window.seen = new Set();
                const look = () => {
                    const prose = document.querySelector(".assistant.last > .prose");
                    if (prose) window.seen.add(prose.textContent.length);
                };
                new MutationObserver(look).observe(document.querySelector("#thread"), {subtree: true, childList: true, characterData: true});
            }"""
        )
        self.effort("none")
        self.page.fill("#prompt", STORY)
        self.page.press("#prompt", "Enter")
        expect(self.page.locator(f"{LAST} .status")).to_have_text(re.compile("tokens/s"))
        expect(self.answer()).to_contain_text("Once upon a time")
        self.page.get_by_role("button", name="Stop").click()
        expect(self.page.locator(f"{LAST} .figures")).to_contain_text("Stopped")
        # The step that was under way ends first.
        deadline = time.monotonic() + 30
        while self.slots() and time.monotonic() < deadline:
            self.page.wait_for_timeout(50)
        self.assertEqual(self.slots(), [])
        self.assertGreater(self.page.evaluate("window.seen.size"), 5, "it came in few pieces")
        before = self.answer().inner_text()
        self.page.get_by_role("button", name="Continue").click()
        self.page.wait_for_function(
            "(before) => document.querySelector('.assistant.last > .prose').textContent.length > before + 20",
            arg=len(before),
        )
        self.page.keyboard.press("Escape")
        expect(self.page.locator(f"{LAST}[aria-busy=false]")).to_be_visible()
        self.assertTrue(self.answer().inner_text().startswith(before[:40]))

    def test_leaving_in_the_middle_keeps_what_came(self):
        self.effort("none")
        self.page.fill("#prompt", STORY)
        self.page.press("#prompt", "Enter")
        expect(self.answer()).to_contain_text("Once upon a time")
        self.page.wait_for_timeout(1200)
        self.page.reload()
        expect(self.answer()).to_contain_text("Once upon a time")
        expect(self.page.get_by_role("button", name="Continue")).to_be_visible()
