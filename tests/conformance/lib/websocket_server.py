"""A WebSocket server that sends back what it gets: `websocket_server.py PORT`."""

import asyncio
import sys

from websockets.asyncio.server import serve


async def echo(connection):
    async for message in connection:
        await connection.send(message)


async def main():
    # No pings of its own, no compression unless asked for: what it says depends on what it hears alone.
    async with serve(echo, "127.0.0.1", int(sys.argv[1]), max_size=64 << 20, ping_interval=None):
        await asyncio.Future()


asyncio.run(main())
