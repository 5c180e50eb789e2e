"""Pages in a browser, which must have no errors and must not use the network."""

import pathlib
import shutil

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
# Chromium needs --no-sandbox to run as root in a container. Two flags stop background requests.
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]


@pytest.fixture(scope="module")
def browser():
    if not CHROMIUM:
        pytest.skip(reason="needs Chromium (apt install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def open_in_browser(browser):
    """A function `(path of a file) -> page`; keywords describe the device."""
    contexts, errors, urls = [], [], []

    def record(message):
        if message.type == "error":
            errors.append(message.text)

    def open_in_browser(path, **device):
        context = browser.new_context(**{"viewport": {"width": 900, "height": 900}, **device})
        contexts.append(context)
        context.set_offline(True)
        page = context.new_page()
        page.on("console", record)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: urls.append(request.url))
        page.goto(pathlib.Path(path).as_uri())
        return page

    yield open_in_browser
    assert not errors
    assert all(url.startswith(("file:", "data:")) for url in urls), "no page may use the network"
    for context in contexts:
        context.close()
