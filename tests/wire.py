"""A TCP proxy that cuts and restores the wire: to its clients the other side is gone, and loses nothing by it."""

import contextlib
import selectors
import socket
import threading


class Wire:
    """Listens on `port` for `target`; while cut it accepts nothing and has dropped every connection."""

    def __init__(self, target: int) -> None:
        self._target = target
        self.deaf = False  # what is sent arrives, what is answered does not
        self._lock = threading.Lock()
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._listener: socket.socket | None = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._accept(self._listener)

    def _accept(self, listener: socket.socket) -> None:
        def forever() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    try:
                        server = socket.create_connection(("127.0.0.1", self._target))
                    except OSError:
                        client.close()
                        continue
                    with self._lock:
                        if self._listener is not listener:
                            client.close()
                            server.close()
                            return
                        self._pairs.add((client, server))
                    threading.Thread(target=self._carry, args=(client, server), daemon=True).start()

        threading.Thread(target=forever, daemon=True).start()

    def _carry(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError), selectors.DefaultSelector() as selector:
            selector.register(client, selectors.EVENT_READ, server)
            selector.register(server, selectors.EVENT_READ, client)
            while True:
                for key, _ in selector.select():
                    assert isinstance(key.fileobj, socket.socket)
                    data = key.fileobj.recv(1 << 16)
                    if not data:
                        raise OSError
                    if not (self.deaf and key.fileobj is server):
                        key.data.sendall(data)
        self._close(client, server)

    def _close(self, client: socket.socket, server: socket.socket) -> None:
        with self._lock:
            self._pairs.discard((client, server))
        for one in (client, server):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def cut(self) -> None:
        with self._lock:
            listener, self._listener = self._listener, None
            pairs = list(self._pairs)
        if listener is not None:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        for pair in pairs:
            self._close(*pair)

    def restore(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._accept(self._listener)

    def close(self) -> None:
        self.cut()
