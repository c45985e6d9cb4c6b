"""A TCP proxy in front of a server that can cut its connections."""

import selectors
import socket
from contextlib import suppress
from threading import Lock, Thread, Timer


class Proxy:
    """Listens on a local port and forwards all traffic."""

    def __init__(self, host, port):
        self._to = (host, port)
        self._lock = Lock()
        self._open = []
        self._away = False
        self._ended = False
        self._cut = None
        self.cuts = 0
        """Number of connections that were cut."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.1)
        self.port = self._listener.getsockname()[1]
        self._thread = Thread(target=self._accept, daemon=True)
        self._thread.start()

    def cut_request(self, at):
        """Cut the connection once, after `at` more bytes have gone to the server."""
        with self._lock:
            self._cut = ["request", at]

    def cut_answer(self, at, after=0):
        """Cut the connection once, after `after` more bytes have gone to the server and then `at`
        more bytes have come from it.
        """
        with self._lock:
            self._cut = ["answer", at, after]

    def cut_work(self, after, seconds):
        """Cut the connection once, `seconds` after `after` more bytes have gone to the server."""
        with self._lock:
            self._cut = ["work", after, seconds]

    def leave(self):
        """Become unavailable: cut all connections and accept no new ones."""
        with self._lock:
            self._away = True
            for pair in self._open:
                self._close(*pair)

    def come_back(self):
        self._away = False

    def close(self):
        self._ended = True
        self.leave()
        self._thread.join()
        self._listener.close()

    def _accept(self):
        while not self._ended:
            with suppress(TimeoutError):
                client, _ = self._listener.accept()
                if self._away:
                    client.close()
                    continue
                server = socket.create_connection(self._to)
                self._open.append((client, server))
                Thread(target=self._pass, args=(client, server), daemon=True).start()

    def _pass(self, client, server):
        other = {client: server, server: client}
        with selectors.DefaultSelector() as selector, suppress(OSError, ValueError):
            selector.register(client, selectors.EVENT_READ)
            selector.register(server, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    data = key.fileobj.recv(1 << 16)
                    if not data:
                        self._close(client, server)
                        return
                    self._time(key.fileobj is client, len(data), client, server)
                    keep = self._keep(key.fileobj is client, len(data))
                    other[key.fileobj].sendall(data[:keep])
                    if keep < len(data):
                        self._close(client, server)
                        return

    def _time(self, from_client, length, client, server):
        with self._lock:
            if from_client and self._cut and self._cut[0] == "work":
                self._cut[1] -= length
                if self._cut[1] <= 0:
                    Timer(self._cut[2], self._close, (client, server)).start()
                    self._cut = None
                    self.cuts += 1

    def _keep(self, from_client, length):
        """How many of the bytes to forward. Fewer than all end the connection."""
        with self._lock:
            if self._cut is None or self._cut[0] == "work":
                return length
            kind, at, *after = self._cut
            if kind == "answer" and from_client:
                self._cut[2] = max(0, after[0] - length)
            if from_client != (kind == "request") or (after and after[0] > 0):
                return length
            if at >= length:
                self._cut[1] = at - length
                return length
            self._cut = None
            self.cuts += 1
            return at

    @staticmethod
    def _close(*sockets):
        for connection in sockets:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
