"""A page with two labs, opened in a browser."""

from pathlib import Path


class Visit:
    """An open page, with all that it complained about and asked for."""

    def __init__(self, browser, path: Path, width: int = 800, **options: object) -> None:
        self.context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        self.context.set_default_timeout(5000)
        self.page, self.complaints, self.requests = self.context.new_page(), [], []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())
        if options.get("java_script_enabled", True):
            self.page.wait_for_function("document.querySelector('[data-lab]').dataset.ready", timeout=10_000)
            self.ready = self.page.evaluate("performance.now()")
            self.waiting = self.page.locator("[data-lab]:not([data-ready])").count()
            took = "(lab) => new Promise((done) => { const from = performance.now(); lab.scrollIntoView(); const look = () => "
            took += "lab.dataset.ready ? done(performance.now() - from) : requestAnimationFrame(look); look(); })"
            self.ready = max(self.ready, self.page.locator("[data-lab]").last.evaluate(took))
            self.page.evaluate("scrollTo(0, 0)")

    def lab(self, which: str, expression: str, argument: object = None) -> object:
        return self.page.evaluate(
            f"([id, given]) => {{ const lab = document.getElementById(id).lab; return {expression}; }}", [which, argument]
        )

    def plane(self) -> dict:
        return self.lab("lab-plane-p", "lab.settings()")

    def digit(self) -> dict:
        return self.lab("lab-digits-d", "{...lab.settings(), x: Array.from(lab.settings().x)}")
