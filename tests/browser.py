"""A page in headless Chromium, driven by the DevTools protocol over a pipe; needs nothing but the browser."""

import base64
import json
import os
import select
import shutil
import signal
import tempfile
import time

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

#: The browser, if there is one, and pipes that can be numbered.
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
CHROMIUM = CHROMIUM if fcntl else None
#: Seconds to wait for an answer. Twice as many: a test that hangs fails later.
PATIENCE = 60


class Browser:
    """One page. As a context: the browser ends with it, and its profile is removed."""

    def __init__(self):
        self.profile = tempfile.mkdtemp(prefix="chromium-")
        (there, self.to), (self.back, here) = os.pipe(), os.pipe()
        flags = ["--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--no-first-run"]
        flags += ["--disable-dev-shm-usage", "--disable-background-networking", "--hide-scrollbars"]
        # Chromium reads from file 3 and writes to file 4. Both are put there from numbers that are neither.
        there_too, here_too = (fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in (there, here))
        files = [(os.POSIX_SPAWN_DUP2, there_too, 3), (os.POSIX_SPAWN_DUP2, here_too, 4)]
        files += [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_WRONLY, 0) for number in (1, 2)]
        command = [CHROMIUM, *flags, f"--user-data-dir={self.profile}", "about:blank"]
        self.process = os.posix_spawn(CHROMIUM, command, os.environ, file_actions=files)
        for end in (there, here, there_too, here_too):
            os.close(end)
        self.received, self.n, self.session, self.events = b"", 0, None, []
        page = next(t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page")
        self.session = self.call("Target.attachToTarget", targetId=page["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.kill(self.process, signal.SIGKILL)
        os.waitpid(self.process, 0)
        os.close(self.to)
        os.close(self.back)
        shutil.rmtree(self.profile, ignore_errors=True)

    def call(self, method, **params):
        """What a method of the protocol returns; events that come before are kept."""
        self.n += 1
        message = {"id": self.n, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self.n:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def _next(self):
        while b"\0" not in self.received:
            assert select.select([self.back], [], [], PATIENCE)[0], "no answer from Chromium"
            some = os.read(self.back, 1 << 20)
            assert some, "Chromium has ended"
            self.received += some
        first, _, self.received = self.received.partition(b"\0")
        return json.loads(first)

    def open(self, path, *, size=(1400, 900), ready="true"):
        """Load a file, and wait until a JavaScript expression is true."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=size[0], height=size[1], deviceScaleFactor=1, mobile=False
        )
        self.events.clear()
        self.call("Page.navigate", url=path.resolve().as_uri())
        self.wait(f"document.readyState === 'complete' && ({ready})")

    def wait(self, expression):
        """Wait until a JavaScript expression is true."""
        deadline = time.monotonic() + PATIENCE
        while not self.run(f"Boolean({expression})"):
            assert time.monotonic() < deadline, f"never true: {expression}"
            time.sleep(0.02)

    def run(self, expression):
        """The value of a JavaScript expression."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def text(self, selector):
        """The text of the first element that a selector finds, as it is seen."""
        return self.run(f"document.querySelector({json.dumps(selector)}).innerText")

    def key(self, key, code=0, text=""):
        """Press a key and let it go."""
        named = {"key": key, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", text=text, **named)
        self.call("Input.dispatchKeyEvent", type="keyUp", **named)

    def pointer(self, x, y, *, click=False):
        """Move the pointer to a place of the page that is seen; click there if asked for."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        for kind in ("mousePressed", "mouseReleased") if click else ():
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def complaints(self):
        """What the page wrote to the console, and what it asked of the network beside itself."""
        wrong = []
        for event in self.events:
            params = event.get("params", {})
            if event.get("method") == "Runtime.exceptionThrown":
                wrong.append(str(params))
            if event.get("method") == "Log.entryAdded" and params["entry"]["level"] in ("warning", "error"):
                wrong.append(params["entry"]["text"])
            if event.get("method") == "Runtime.consoleAPICalled":
                wrong.append(str(params["args"]))
            if event.get("method") == "Network.requestWillBeSent":
                url = params["request"]["url"]
                wrong += [] if url.startswith(("data:", "file:///")) and url[-4:] != ".ico" else [url]
        return wrong

    def screenshot(self, *, full=False):
        """The page as PNG: what is seen of it, or all."""
        return base64.b64decode(self.call("Page.captureScreenshot", captureBeyondViewport=full)["data"])
