"""What a model writes is text, whatever it looks like."""

import urllib.request

from playwright.sync_api import expect

from case import PageCase, setUpModule, tearDownModule  # noqa: F401

EVIL = """<script>window.harm = 1</script>
<img src=x onerror="window.harm = 2"> <svg onload="window.harm = 3">

[click](javascript:window.harm=4) [click](JaVa\tScript:window.harm=5) [click](data:text/html,<script>window.harm=6</script>)
[safe](https://example.org/"onmouseover="window.harm=7) <javascript:window.harm=8>

![picture](https://example.org/tracker.png)

| <b>a</b> | b |
|---|---|
| <iframe src="javascript:window.harm=9"> | ` <script>window.harm=10</script> ` |

```html"><script>window.harm=11</script>
</code></pre><script>window.harm = 12</script>
```
"""


class Safety(PageCase):
    def test_nothing_that_is_written_runs(self):
        call = {"index": 0, "id": "1", "function": {"name": EVIL, "arguments": EVIL}}
        self.script({"reasoning_content": EVIL}, {"content": EVIL}, {"tool_calls": [call]})
        self.ask(EVIL)
        self.page.click(".thinking summary")
        self.page.wait_for_timeout(300)
        self.assertIsNone(self.page.evaluate("window.harm ?? null"))
        made = "script, img, svg:not(.icon):not(.mark), iframe, [onerror], [onload], [onmouseover], b"
        expect(self.page.locator("#thread").locator(made)).to_have_count(0)
        links = self.page.locator("#thread a").evaluate_all("(links) => links.map((link) => link.protocol + link.rel)")
        self.assertEqual(set(links), {"https:noopener noreferrer nofollow"})
        expect(self.page.locator(".assistant > .prose")).to_contain_text("<script>window.harm = 1</script>")

    def test_errors_and_names_are_text(self):
        evil = "<img src=x onerror=window.harm=1>"
        self.forgiven = ("status of 400",)
        self.page.route(
            "**/v1/chat/completions", lambda route: route.fulfill(status=400, json={"error": {"message": evil}})
        )
        self.page.route("**/v1/models", lambda route: route.fulfill(json={"data": [{"id": evil}, {"id": "b"}]}))
        self.page.reload()
        self.ask(evil)
        expect(self.page.locator(".error")).to_contain_text(evil)
        expect(self.page.get_by_label("Model", exact=True)).to_contain_text(evil)
        self.assertIsNone(self.page.evaluate("window.harm ?? null"))

    def test_the_browser_is_told_to_be_strict(self):
        with urllib.request.urlopen(self.server.url) as response:
            policy = response.headers["content-security-policy"]
            self.assertEqual(response.headers["x-content-type-options"], "nosniff")
        self.assertIn("default-src 'none'", policy)
        self.assertNotIn("unsafe", policy)
        # Even a script of the page could not make text into elements or programs.
        self.forgiven = ("TrustedHTML", "TrustedScript")
        refused = self.page.evaluate(
            """() => {
                const script = document.createElement("script");
                const tries = [() => { document.body.innerHTML = "<b>x</b>"; }, () => { script.text = "window.harm = 1"; }];
                return tries.filter((attempt) => { try { attempt(); return false; } catch { return true; } }).length;
            }"""
        )
        self.assertEqual(refused, 2)
