"""The jobs that proxies are measured by: what is sent, and what the instances answer."""

from dataclasses import dataclass, field

BROWSER_FIELDS = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
    "Accept-Language": "en-GB,en;q=0.7,de;q=0.3",
    "Accept-Encoding": "gzip, deflate, br, zstd",
    "Referer": "https://shop.example.com/catalogue/shoes?page=3&sort=price",
    "Cookie": "session=8f14e45fceea167a5a36dedd4bea2543; theme=dark; consent=1; cart=c9f0f895fb98ab91",
    "Upgrade-Insecure-Requests": "1",
    "Sec-Fetch-Dest": "document",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Site": "same-origin",
    "Sec-Fetch-User": "?1",
    "Priority": "u=0, i",
    "Cache-Control": "max-age=0",
}


@dataclass(frozen=True)
class Scenario:
    """One kind of request; the instances answer `/N` with N bytes."""

    name: str
    about: str
    answer_bytes: int
    method: str = "GET"
    body_bytes: int = 0
    fields: dict = field(default_factory=dict)
    # What clients speak: "http", "https" (TLS 1.3), "h2" (by TLS), or handshakes alone: "full", "resumed".
    edge: str = "http"
    # Largest allowed CPU time per request as a share of the better peer's.
    goal: float | None = None

    @property
    def path(self):
        return f"/{self.answer_bytes}"

    @property
    def closes(self):
        return self.fields.get("Connection") == "close"

    @property
    def body(self):
        return b"x" * self.body_bytes

    def bytes(self, port):
        """The request as it goes over the wire."""
        lines = [f"{self.method} {self.path} HTTP/1.1", f"Host: 127.0.0.1:{port}"]
        lines += [f"{name}: {value}" for name, value in self.fields.items()]
        if self.body_bytes:
            lines.append(f"Content-Length: {self.body_bytes}")
        return "\r\n".join([*lines, "", ""]).encode() + self.body


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario("get-1k", "1 KiB answers, keep-alive", 1024, goal=0.85),
        Scenario("browser-1k", "1 KiB answers, keep-alive, 13 request fields as browsers send", 1024, fields=BROWSER_FIELDS),
        Scenario("get-64k", "64 KiB answers, keep-alive", 65536, goal=0.80),
        Scenario("post-16k", "16 KiB request bodies, keep-alive", 64, method="POST", body_bytes=16384, goal=0.85),
        Scenario("tls-1k", "1 KiB answers, TLS 1.3, keep-alive", 1024, edge="https", goal=0.90),
        Scenario("h2-1k", "1 KiB answers, HTTP/2 over TLS 1.3", 1024, edge="h2", goal=1.0),
        Scenario("tls-full", "a full handshake of TLS 1.3 and 1 KiB", 1024, fields={"Connection": "close"}, edge="full", goal=0.70),
        Scenario("tls-resumed", "a resumed handshake of TLS 1.3 and 1 KiB", 1024, fields={"Connection": "close"}, edge="resumed"),
        Scenario("close-1k", "1 KiB answers, a connection per request", 1024, fields={"Connection": "close"}),
    )
}


# Those that need no TLS.
PLAIN = {name: scenario for name, scenario in SCENARIOS.items() if scenario.edge == "http"}


def chosen(names):
    """Scenarios by name; the names have been checked by the command line."""
    return [SCENARIOS[name] for name in names]
