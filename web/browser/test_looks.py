"""How the page looks, on large and small screens, by day and by night. Leaves pictures of it."""

import json

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from case import LAST, PageCase, setUpModule, tearDownModule  # noqa: F401

RICH = """Quicksort puts everything smaller than a **pivot** on its left and everything larger on its right, then does the \
same to both sides. In `Rust`, with the standard library's own partition:

```rust
/// Sorts in place, smallest first.
fn quicksort<T: Ord>(values: &mut [T]) {
    if values.len() < 2 {
        return; // one value is sorted
    }
    let pivot = partition(values, 0);
    let (left, right) = values.split_at_mut(pivot);
    quicksort(left);
    quicksort(&mut right[1..]);
}
```

| case | comparisons | when |
|:-----|------------:|:-----|
| best | $n \\log_2 n$ | every pivot is the median |
| typical | $1.39\\, n \\log_2 n$ | random order |
| worst | $\\frac{n^2}{2}$ | already sorted, first value as pivot |

On average, over all orders,

$$C_n = n - 1 + \\frac{2}{n} \\sum_{k=0}^{n-1} C_k \\approx 2n \\ln n$$

What to watch:

1. **Depth.** Recurse into the shorter side first, loop over the other.
2. **Equal values.** Split three ways:
   - smaller
   - *equal*
   - larger

> Below some twenty values, insertion sort wins.

See [the paper](https://doi.org/10.1093/comjnl/5.1.10) for more.
"""
WIDE = f"{'x' * 300}\n\n```\n{'y' * 300}\n```\n\n| {' | '.join('abcdefghijkl')} |\n|{'---|' * 12}\n| {' | '.join(['a long cell'] * 12)} |\n"


class Looks(PageCase):
    def rich(self, page):
        self.ask("What is 17 + 25?", page)
        thinking = "The reader wants code, so I show the **shortest** honest version first."
        usage = {"total_tokens": 1893}
        timings = {
            "predicted_n": 412,
            "predicted_per_second": 48.3,
            "prompt_n": 61,
            "cache_n": 1420,
            "prompt_ms": 80,
            "prompt_per_second": 760,
        }
        pieces = [{"choices": [{"delta": {"reasoning_content": thinking}}]}]
        pieces += [{"choices": [{"delta": {"content": RICH[at : at + 9]}}]} for at in range(0, len(RICH), 9)]
        pieces += [
            {"choices": [{"delta": {}, "finish_reason": "stop"}], "timings": timings},
            {"choices": [], "usage": usage},
        ]
        body = "".join(f"data: {json.dumps(piece)}\n\n" for piece in pieces) + "data: [DONE]\n\n"
        page.route("**/v1/chat/completions", lambda route: route.fulfill(content_type="text/event-stream", body=body))
        self.ask("How does quicksort work?", page)
        expect(self.answer(page).locator("table")).to_be_visible()

    def test_by_day_and_by_night(self):
        grounds = {}
        for scheme in ("light", "dark"):
            page = self.open(color_scheme=scheme)
            self.shot(f"welcome-{scheme}", page)
            self.rich(page)
            page.locator("#thread").evaluate("(thread) => thread.scrollTo(0, 0)")
            page.wait_for_timeout(200)
            self.shot(f"desktop-{scheme}", page)
            page.locator("blockquote").evaluate("(quote) => quote.scrollIntoView({block: 'center'})")
            page.wait_for_timeout(100)
            self.shot(f"prose-{scheme}", page)
            page.click("[data-act=server]")
            page.wait_for_timeout(1500)
            self.shot(f"server-{scheme}", page)
            grounds[scheme] = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
        self.assertNotEqual(grounds["light"], grounds["dark"])

    def test_a_conversation_with_the_server_beside_it(self):
        self.ask("What is 17 + 25?")
        self.page.click(f"{LAST} .thinking summary")
        self.page.click("[data-act=server]")
        expect(self.page.locator("#panel .slots li")).to_have_count(4)
        self.page.wait_for_timeout(1200)
        self.ask("Tell a story about a fox and a lantern.")
        self.page.wait_for_timeout(2500)
        self.shot("conversation")

    def test_the_theme_can_be_chosen_and_stays(self):
        page = self.open(color_scheme="light")
        ground = "getComputedStyle(document.documentElement).backgroundColor"
        before = page.evaluate(ground)
        page.get_by_label("Dark", exact=True).click()
        night = page.evaluate(ground)
        self.assertNotEqual(before, night)
        page.reload()
        expect(page.get_by_label("Light", exact=True)).to_be_visible()
        self.assertEqual(page.evaluate(ground), night)

    def test_on_a_phone_nothing_is_wider_than_the_screen(self):
        page = self.open(viewport={"width": 360, "height": 740}, device_scale_factor=2, has_touch=True, is_mobile=True)
        self.narrow(page)
        self.rich(page)
        self.narrow(page)
        self.shot("phone", page)
        page.locator("#thread").evaluate("(thread) => thread.scrollTo(0, 0)")
        self.shot("phone-top", page)
        self.script({"content": WIDE}, page=page)
        self.ask("z" * 300, page)
        self.narrow(page)
        for panel in ("settings", "server"):
            page.click(f"[data-act={panel}]")
            self.narrow(page)
            self.shot(f"phone-{panel}", page)
            page.locator("#panel").get_by_label("Close").click()
        page.click("[data-act=sidebar]")
        expect(page.locator("#sidebar")).to_be_visible()
        self.narrow(page)
        self.shot("phone-conversations", page)
        page.locator(".conversation").first.click()
        expect(page.locator("#sidebar")).to_be_hidden()

    def narrow(self, page):
        widths = page.evaluate(
            "[document.documentElement.scrollWidth, document.querySelector('#thread').scrollWidth, innerWidth]"
        )
        self.assertLessEqual(max(widths[:2]), widths[2])

    def test_markdown_becomes_elements(self):
        self.rich(self.page)
        prose = self.answer()
        for selector, count in [
            ("h1", 0),
            ("pre", 1),
            ("tbody tr", 3),
            ("ol > li", 2),
            ("ul > li", 3),
            ("blockquote", 1),
            ("a", 1),
            ("td.right", 3),
            ("math", 4),
            ("munderover", 1),
        ]:
            expect(prose.locator(selector)).to_have_count(count)
        expect(prose.locator(".c-word").first).to_have_text("fn")
        self.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        prose.get_by_label("Copy code").click()
        expect(prose.get_by_label("Copied")).to_be_visible()
        copied = self.page.evaluate("navigator.clipboard.readText()")
        self.assertTrue(copied.startswith("/// Sorts in place") and copied.endswith("}"), copied)

    def test_long_answers_stay_smooth(self):
        paragraph = "Some **bold** words and `code` in a line that is neither short nor long.\n\n- one\n- two\n\n"
        text = paragraph * 400
        self.script(*({"content": text[at : at + 8]} for at in range(0, len(text), 8)))
        self.page.evaluate(
            """() => {
                window.longest = 0;
                let last = performance.now();
                const frame = (now) => { window.longest = Math.max(window.longest, now - last); last = now; requestAnimationFrame(frame); };
                requestAnimationFrame(frame);
            }"""
        )
        self.ask("Write much.")
        expect(self.answer().locator("li")).to_have_count(800)
        self.assertLess(self.page.evaluate("window.longest"), 1500)
        scrolled = "(() => { const t = document.querySelector('#thread'); return t.scrollHeight - t.scrollTop - t.clientHeight; })()"
        self.assertLess(self.page.evaluate(scrolled), 4)

    def test_everyone_can_use_it(self):
        for scheme in ("light", "dark"):
            page = self.open(color_scheme=scheme)
            self.accessible(page)
            self.rich(page)
            self.accessible(page)
            for panel in ("settings", "server"):
                page.click(f"[data-act={panel}]")
                page.wait_for_timeout(1200)
                self.accessible(page)

    def accessible(self, page):
        found = Axe().run(page).response["violations"]
        self.assertEqual([(fault["id"], [node["target"] for node in fault["nodes"]]) for fault in found], [])

    def test_less_motion_where_it_is_wanted(self):
        page = self.open(reduced_motion="reduce")
        page.fill("#prompt", "x")
        self.assertLess(
            float(page.evaluate("parseFloat(getComputedStyle(document.querySelector('.send')).transitionDuration)")),
            0.01,
        )
