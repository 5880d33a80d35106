"""A TCP line to the real database that a test can cut and mend: how a database goes away."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class CutLine:
    """Forwards connections on ``port`` to ``target_port``, unless it is cut."""

    def __init__(self, target_port: int) -> None:
        self.port = 0
        self._target_port = target_port
        self._whole = True
        self._writers: set[asyncio.StreamWriter] = set()

    def cut(self) -> None:
        """Drop every connection and refuse new ones."""
        self._whole = False
        for writer in self._writers:
            writer.transport.abort()

    def mend(self) -> None:
        """Let new connections through again."""
        self._whole = True

    async def connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._whole:
            writer.transport.abort()
            return
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        if not self._whole:  # cut meanwhile
            writer.transport.abort()
            far_writer.transport.abort()
            return
        self._writers |= {writer, far_writer}
        await asyncio.gather(self._pipe(reader, far_writer), self._pipe(far_reader, writer))
        self._writers -= {writer, far_writer}

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()


@asynccontextmanager
async def line_to(target_port: int) -> AsyncIterator[CutLine]:
    """A whole line to ``target_port`` on this machine."""
    line = CutLine(target_port)
    server = await asyncio.start_server(line.connect, "127.0.0.1", 0)
    line.port = server.sockets[0].getsockname()[1]
    try:
        yield line
    finally:
        line.cut()
        server.close()
