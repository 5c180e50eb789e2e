"""Pages in a browser, which must have no errors and must not use the network."""

import pathlib

import pytest


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
