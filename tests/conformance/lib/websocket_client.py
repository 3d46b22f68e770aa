"""Talks WebSocket through the proxy: `websocket_client.py DIRECT PLAIN SECURE CERTIFICATE` (three ports and a file)."""

import asyncio
import os
import socket
import ssl
import struct
import sys

from websockets.asyncio.client import connect

DIRECT, PLAIN, SECURE = map(int, sys.argv[1:4])
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
KEY = "dGhlIHNhbXBsZSBub25jZQ=="


def frame(opcode, payload=b"", fin=True, reserved=0, masked=True):
    """One frame (RFC 6455 section 5.2)."""
    first = (0x80 if fin else 0) | reserved << 4 | opcode
    length, bit = len(payload), 0x80 if masked else 0
    if length < 126:
        head = struct.pack("!BB", first, bit | length)
    elif length < 65536:
        head = struct.pack("!BBH", first, bit | 126, length)
    else:
        head = struct.pack("!BBQ", first, bit | 127, length)
    if not masked:
        return head + payload
    mask = b"\x11\x22\x33\x44"
    whole = len(payload) // 4 + 1
    mixed = int.from_bytes(payload, "big") ^ int.from_bytes((mask * whole)[: len(payload)], "big")
    return head + mask + mixed.to_bytes(len(payload), "big")


def close(code=1000, reason=b""):
    return frame(CLOSE, struct.pack("!H", code) + reason)


def cases():
    """Names as the Autobahn suite numbers them, and the bytes of each."""
    end = close()
    for part, opcode in ((1, TEXT), (2, BINARY)):
        for number, size in enumerate((0, 125, 126, 127, 128, 65535, 65536), 1):
            yield f"1.{part}.{number}", frame(opcode, b"*" * size) + end
        # The same in pieces of 997 bytes.
        whole = frame(opcode, b"*" * 65536)
        yield f"1.{part}.8", [*(whole[at : at + 997] for at in range(0, len(whole), 997)), end]
    for number, payload in enumerate((b"", b"Hello", bytes(range(16)), b"\xfe" * 125, b"\xfe" * 126), 1):
        yield f"2.{number}", frame(PING, payload) + end
    ping = frame(PING, b"\xfe" * 125)
    yield "2.6", [ping[at : at + 1] for at in range(len(ping))] + [end]
    for number, payload in enumerate((b"", b"unsolicited"), 7):
        yield f"2.{number}", frame(PONG, payload) + end
    yield "2.9", frame(PONG, b"unsolicited") + frame(PING, b"ping") + end
    yield "2.10", b"".join(frame(PING, b"payload-%d" % at) for at in range(10)) + end
    many = b"".join(frame(PING, b"payload-%d" % at) for at in range(10))
    yield "2.11", [many[at : at + 1] for at in range(len(many))] + [end]
    for reserved in range(1, 8):
        opcode = (TEXT, TEXT, TEXT, TEXT, BINARY, PING, CLOSE)[reserved - 1]
        yield f"3.{reserved}", frame(TEXT, b"Hello") + frame(opcode, b"x", reserved=reserved) + frame(PING) + end
    for part, opcodes in ((1, range(3, 8)), (2, range(11, 16))):
        for number, opcode in enumerate(opcodes, 1):
            yield f"4.{part}.{number}", frame(TEXT, b"Hello") + frame(opcode, b"x" * (number > 1)) + frame(PING) + end
    pieces = lambda *parts: b"".join(frame(*part) for part in parts) + end
    yield "5.1", pieces((PING, b"one", False), (0, b"two"))
    yield "5.2", pieces((PONG, b"one", False), (0, b"two"))
    yield "5.3", pieces((TEXT, b"one", False), (0, b"two"))
    yield "5.4", [frame(TEXT, b"one", False), frame(0, b"two"), end]
    yield "5.5", [*(bytes([byte]) for byte in frame(TEXT, b"one", False) + frame(0, b"two")), end]
    yield "5.6", pieces((TEXT, b"one", False), (PING, b"ping"), (0, b"two"))
    yield "5.7", [frame(TEXT, b"one", False), frame(PING, b"ping"), frame(0, b"two"), end]
    yield "5.9", pieces((0, b"nothing to continue"), (TEXT, b"Hello"))
    yield "5.10", [frame(0, b"nothing to continue"), frame(TEXT, b"Hello"), end]
    yield "5.12", pieces((0, b"nothing to continue", False), (TEXT, b"Hello"))
    yield "5.15", pieces((TEXT, b"one", False), (0, b"two"), (0, b"three", False), (TEXT, b"four"))
    yield "5.16", pieces(*[(0, b"one", False), (TEXT, b"two", False), (0, b"three")] * 2)
    yield "5.18", pieces((TEXT, b"one", False), (TEXT, b"two"))
    five = [(TEXT, b"1", False), (0, b"2", False), (PING, b"p1"), (0, b"3", False), (0, b"4", False), (PING, b"p2"), (0, b"5")]
    yield "5.19", pieces(*five)
    yield "5.20", [*(frame(*part) for part in five), end]
    good = "κόσμε 𐍈".encode()
    yield "6.1", pieces((TEXT, b"", False), (0, b"middle", False), (0, b""))
    yield "6.2", pieces((TEXT, good))
    yield "6.2.4", pieces(*[(TEXT if at == 0 else 0, good[at : at + 1], at == len(good) - 1) for at in range(len(good))])
    for number, bad in enumerate((b"\xce\xba\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xff", b"\xc0\xaf", b"\xe0\x80\x80", b"\xf8\x88\x80\x80\x80", b"\xce"), 1):
        yield f"6.3.{number}", frame(TEXT, bad) + end
        yield f"6.4.{number}", [frame(TEXT, b"good", False), frame(0, bad), end]
    yield "7.1.1", frame(TEXT, b"Hello") + end
    yield "7.1.2", end + end
    yield "7.1.3", end + frame(PING)
    yield "7.1.4", end + frame(TEXT, b"too late")
    yield "7.1.5", frame(TEXT, b"one", False) + end + frame(0, b"two")
    yield "7.1.6", frame(TEXT, b"BAsd7&jh23" * 26 * 1024) + frame(TEXT, b"Hello") + end + frame(PING)
    for number, payload in enumerate((b"", b"a", b"\x03\xe8", b"\x03\xe8Hello", b"\x03\xe8" + b"*" * 123, b"\x03\xe8" + b"*" * 124), 1):
        yield f"7.3.{number}", frame(CLOSE, payload)
    yield "7.5.1", frame(CLOSE, b"\x03\xe8\xce\xba\xed\xa0\x80")
    for number, code in enumerate((1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999), 1):
        yield f"7.7.{number}", close(code)
    for number, code in enumerate((0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999, 5000, 65535), 1):
        yield f"7.9.{number}", close(code)
    for part, opcode in ((1, TEXT), (2, BINARY)):
        for number, size in enumerate((64, 256, 1024, 4096), 1):
            yield f"9.{part}.{number}", frame(opcode, b"*" * (size << 10)) + end
    whole = b"*" * (1 << 20)
    for number, size in enumerate((64, 1024, 65536), 1):
        parts = range(0, len(whole), size * 16)
        yield f"9.3.{number}", b"".join(frame(BINARY if at == 0 else 0, whole[at : at + size * 16], at + size * 16 >= len(whole)) for at in parts) + end
    for number, size in enumerate((0, 16, 64, 1000), 1):
        # The end follows when all is back: a server that hears of it before answers no more.
        yield f"9.7.{number}", [b"".join(frame(TEXT, b"*" * size) for _ in range(1000)), len(frame(TEXT, b"*" * size, masked=False)) * 1000, end]
    yield "unmasked", frame(TEXT, b"Hello", masked=False) + end
    yield "cut", frame(TEXT, b"Hello") + frame(TEXT, b"only half of it")[:8]


def answer(port, sent):
    """All that the server says to these bytes, behind its handshake."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as stream:
        stream.sendall(
            f"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {KEY}\r\n\r\n".encode()
        )
        got = b""
        while b"\r\n\r\n" not in got:
            got += stream.recv(65536)
        head, _, got = got.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 "), head
        writer = os.fork() if len(sent) > 1 << 16 and isinstance(sent, bytes) else None
        if writer == 0:
            # Large cases are written beside the reading, or both sides would wait.
            try:
                stream.sendall(sent)
            finally:
                os._exit(0)
        if writer is None:
            try:
                parts = [sent] if isinstance(sent, bytes) else sent
                for part in parts:
                    if isinstance(part, bytes):
                        stream.sendall(part)
                    else:
                        while len(got) < part and (more := stream.recv(1 << 20)):
                            got += more
                if not parts[-1].endswith(close()):
                    stream.shutdown(socket.SHUT_WR)
            except OSError:
                pass
        try:
            while more := stream.recv(1 << 20):
                got += more
        except ConnectionResetError:
            pass
        if writer:
            os.waitpid(writer, 0)
        return got


async def library(tls):
    """The library on both sides: small and large, text and bytes, fragments, pings, compression, an end with a reason."""
    for url, context in ((f"ws://127.0.0.1:{PLAIN}/", None), (f"wss://localhost:{SECURE}/", tls)):
        for compression in (None, "deflate"):
            async with connect(url, ssl=context, compression=compression, max_size=64 << 20) as connection:
                for message in ("", "Hello", "κόσμε" * 1000, b"", bytes(range(256)) * 1000, os.urandom(3 << 20)):
                    await connection.send(message)
                    assert await asyncio.wait_for(connection.recv(), 20) == message, f"{url}: {len(message)}"
                await connection.send(["in ", "three ", "parts"])
                assert await asyncio.wait_for(connection.recv(), 20) == "in three parts"
                await asyncio.wait_for(await connection.ping(), 20)
                await connection.close(4321, "enough")
                assert (connection.close_code, connection.close_reason) == (4321, "enough"), connection.close_reason
        connections = [await connect(url, ssl=context) for _ in range(100)]
        for number, connection in enumerate(connections):
            await connection.send(str(number))
        for number, connection in enumerate(connections):
            assert await asyncio.wait_for(connection.recv(), 20) == str(number)
            await connection.close()


def main():
    tls = ssl.create_default_context(cafile=sys.argv[4])
    asyncio.run(library(tls))
    count, wrong = 0, []
    for name, sent in cases():
        count += 1
        for _ in range(5):
            # A server that hears of the end while it answers may leave the answer out, or not: then they are asked anew.
            wanted, got = answer(DIRECT, sent), answer(PLAIN, sent)
            if got == wanted:
                break
        else:
            wrong.append(f"{name}: {got[:60]!r} ({len(got)}) instead of {wanted[:60]!r} ({len(wanted)})")
    print(f"{count} cases, {len(wrong)} differ", *wrong, sep="\n")
    sys.exit(bool(wrong))


main()
