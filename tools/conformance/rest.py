"""A client of Airflow's REST API v2: standard library, one connection per thread of work."""

from __future__ import annotations

import http.client
import json
import time
import urllib.parse


class Refused(Exception):
    """The server answered with an error."""

    def __init__(self, method: str, path: str, status: int, body: bytes):
        super().__init__(f"{method} {path}: {status} {body[:400].decode(errors='replace')}")
        self.status = status


class Rest:
    """Logged in as one user of the server at `url`."""

    def __init__(self, url: str, user: str, password: str):
        parts = urllib.parse.urlsplit(url)
        self.host, self.port, self.prefix = parts.hostname, parts.port, parts.path.rstrip("/")
        self.user, self.password = user, password
        self.token: str | None = None
        self.connection: http.client.HTTPConnection | None = None

    def send(self, method: str, path: str, body=None):
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        data = None if body is None else json.dumps(body).encode()
        for attempt in range(60):
            if self.connection is None:
                self.connection = http.client.HTTPConnection(self.host, self.port, timeout=180)
            try:
                self.connection.request(method, self.prefix + path, data, headers)
                answer = self.connection.getresponse()
                return answer.status, answer.read()
            except (ConnectionError, http.client.HTTPException):
                # A kept connection that the server had closed, or a server that is being started again. What is not
                # idempotent names its own id, so twice is once.
                self.connection.close()
                self.connection = None
                if attempt == 59:
                    raise
                time.sleep(0 if attempt == 0 else 1)

    def log_in(self) -> None:
        self.token = None
        status, body = self.send("POST", "/auth/token", {"username": self.user, "password": self.password})
        if status != 201:
            raise Refused("POST", "/auth/token", status, body)
        self.token = json.loads(body)["access_token"]

    def call(self, method: str, path: str, body=None):
        if self.token is None:
            self.log_in()
        status, answer = self.send(method, path, body)
        if status == 401:
            self.log_in()
            status, answer = self.send(method, path, body)
        if status >= 300:
            raise Refused(method, path, status, answer)
        return json.loads(answer) if answer else None

    def get(self, path: str, **query):
        tail = "?" + urllib.parse.urlencode(query, doseq=True) if query else ""
        return self.call("GET", "/api/v2" + path + tail)

    def post(self, path: str, body):
        return self.call("POST", "/api/v2" + path, body)

    def put(self, path: str):
        return self.call("PUT", "/api/v2" + path)

    def patch(self, path: str, body):
        return self.call("PATCH", "/api/v2" + path, body)

    def all(self, path: str, key: str, **query) -> list:
        """Every row of a list, page by page."""
        found: list = []
        while True:
            page = self.get(path, limit=100, offset=len(found), **query)
            found += page[key]
            if not page[key] or len(found) >= page["total_entries"]:
                return found


def quote(text: str) -> str:
    return urllib.parse.quote(text, safe="")
