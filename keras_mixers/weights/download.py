"""Download a file: with a limit on waiting, and never by http after https."""

import hashlib
import http.client
import time
import urllib.error
import urllib.request

import keras

# A server that sends less than this in one period is given up. A dead connection is one case.
PERIOD = 20  # seconds
LEAST = 2**12  # bytes
CHUNK = 2**20  # bytes


class Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, except from https to another protocol, which anyone could change."""

    def redirect_request(self, request, response, code, message, headers, url):
        if request.type == "https" and not url.lower().startswith("https:"):
            raise urllib.error.URLError(f"a redirect from https to {url} is not followed")
        return super().redirect_request(request, response, code, message, headers, url)


def fetch(url, path):
    """Download a URL to a file, with a progress bar; returns the sha256 of the content.

    Raises:
        OSError: if the server cannot be reached, sends too little for `PERIOD` seconds or fewer
            bytes than it states, or if the file cannot be written.
    """
    print(f"Downloading data from {url}")
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for chunk in chunks(url):
            file.write(chunk)
            digest.update(chunk)
    return digest.hexdigest()


def chunks(url):
    """Yield the content of a URL; an error also says what the user can do instead."""
    try:
        with urllib.request.build_opener(Redirects).open(url, timeout=PERIOD) as response:
            yield from body(response)
    except (OSError, http.client.HTTPException) as error:
        raise OSError(f"{url} could not be downloaded ({error}). {advice(error)}") from error


def advice(error):
    """What the user can do after an error, as a sentence without its full stop."""
    if isinstance(error, urllib.error.HTTPError) and error.code in (401, 403):
        return (
            "If the page of the model asks to accept a licence, accept it there, run `hf auth"
            " login`, and give 'hf://owner/name' as `weights`"
        )
    return "Download it by other means and give its path as `weights`"


def body(response):
    """Yield the content of a response, and raise an OSError if it is cut or too slow."""
    stated = response.length
    bar, received = keras.utils.Progbar(stated), 0
    start, before = time.monotonic(), 0
    while chunk := response.read1(CHUNK):
        received += len(chunk)
        bar.update(received)
        yield chunk
        if time.monotonic() - start > PERIOD:
            if received - before < LEAST:
                raise TimeoutError(f"{received - before} bytes in {PERIOD} seconds")
            start, before = time.monotonic(), received
    if stated is not None and received < stated:
        raise OSError(f"{received} of {stated} bytes")
