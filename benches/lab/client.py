"""A client that sends an exact number of requests and looks at every answer.

For scripts that divide a count by a number of requests; `wrk` is faster, but stops by time. Each connection sends its
next request as soon as its answer is whole, as `wrk` does.
"""

import selectors
import socket

PIECE = 256 * 1024


class BadAnswer(RuntimeError):
    """An answer that is not what the instance sent."""


class Answer:
    """One answer as it arrives: 200, with a length, and nothing after it."""

    def __init__(self, body_bytes):
        self.body_bytes = body_bytes
        self.received = bytearray()
        self.whole_bytes = None

    def feed(self, piece):
        """Takes a piece in; true when the answer is whole."""
        if not piece:
            raise BadAnswer(f"closed after {len(self.received)} bytes: {bytes(self.received[:200])!r}")
        self.received += piece
        if self.whole_bytes is None:
            end = self.received.find(b"\r\n\r\n")
            if end < 0:
                return False
            self.whole_bytes = end + 4 + self.check(bytes(self.received[:end]))
        if len(self.received) > self.whole_bytes:
            raise BadAnswer("more bytes than the answer has")
        return len(self.received) == self.whole_bytes

    def check(self, head):
        """Status and length are right; returns the length."""
        status, *fields = head.split(b"\r\n")
        if not status.startswith(b"HTTP/1.1 200"):
            raise BadAnswer(f"status line {status!r}")
        lengths = [line.partition(b":")[2] for line in fields if line.lower().startswith(b"content-length:")]
        if len(lengths) != 1 or int(lengths[0]) != self.body_bytes:
            raise BadAnswer(f"expected a length of {self.body_bytes}: {head!r}")
        return self.body_bytes

    def field(self, name):
        """Value of a field, empty if it is not there."""
        for line in bytes(self.received).partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]:
            key, _, value = line.partition(b":")
            if key.lower() == name:
                return value.strip().decode()
        return ""

    def body(self):
        return bytes(self.received).partition(b"\r\n\r\n")[2]


def connect(port, timeout=30):
    connection = socket.create_connection(("127.0.0.1", port), timeout)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def ask(connection, request, body_bytes):
    """One request on an open connection."""
    connection.sendall(request)
    answer = Answer(body_bytes)
    while not answer.feed(connection.recv(PIECE)):
        pass
    return answer


def listens(port):
    """Whether anyone listens there."""
    try:
        connect(port, 1).close()
    except OSError:
        return False
    return True


def serves(port, scenario):
    """Whether the answer to this scenario is right by now; what is wrong with it while a proxy starts is not told."""
    try:
        with connect(port, 5) as connection:
            ask(connection, scenario.bytes(port), scenario.answer_bytes)
    except (OSError, BadAnswer):
        return False
    return True


def verify(port, scenario, instances):
    """Raises unless the proxy passes whole, right answers from every instance."""
    seen = set()
    for _ in range(16 * instances):
        with connect(port) as connection:
            answer = ask(connection, scenario.bytes(port), scenario.answer_bytes)
        if answer.body() != b"x" * scenario.answer_bytes:
            raise BadAnswer("the body is not what the instance sent")
        if int(answer.field(b"x-request-bytes")) != scenario.body_bytes:
            raise BadAnswer(f"of {scenario.body_bytes} bytes the instance got {answer.field(b'x-request-bytes')}")
        seen.add(answer.field(b"x-instance"))
    if len(seen) != instances:
        raise BadAnswer(f"only these instances answered: {sorted(seen)}")


def send(port, scenario, count, connections):
    """Sends exactly `count` requests over `connections` and checks every answer."""
    request = scenario.bytes(port)
    selector = selectors.DefaultSelector()
    left = count

    def begin(connection):
        connection.sendall(request)
        selector.register(connection, selectors.EVENT_READ, Answer(scenario.answer_bytes))

    for _ in range(min(connections, count)):
        begin(connect(port))
        left -= 1
    while selector.get_map():
        events = selector.select(60)
        if not events:
            raise BadAnswer("no answer within 60 s")
        for key, _ in events:
            if not key.data.feed(key.fileobj.recv(PIECE)):
                continue
            selector.unregister(key.fileobj)
            connection = key.fileobj
            if left and scenario.closes:
                connection.close()
                connection = connect(port)
            if left:
                left -= 1
                begin(connection)
            else:
                connection.close()
