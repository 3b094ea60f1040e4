#!/usr/bin/env python3
"""A mail server that takes NTLM and nothing else, by a real implementation of it (pyspnego).

    ntlm_server.py USER=PASSWORD ...

Listens on a free port of 127.0.0.1 and prints it. Like IIS, it authenticates the connection: whoever
sends the next request on it is that user. Every answer to an authenticated request names the user and
the number of the connection. A GetStreamingEvents is answered with one envelope and then stays open;
when its connection has been closed, "closed NUMBER" is printed. Ends when its standard input does.
"""
import base64
import contextlib
import http.server
import itertools
import os
import sys
import tempfile
import threading

import spnego

DOMAIN = "SANDBOX"
NUMBERS = itertools.count(1)
ANSWER = """<?xml version="1.0" encoding="utf-8"?><s:Envelope \
xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><m:GetFolderResponse \
xmlns:m="http://schemas.microsoft.com/exchange/services/2006/messages"><m:ResponseMessages>\
<m:GetFolderResponseMessage ResponseClass="Success"><m:ResponseCode>NoError</m:ResponseCode>\
<m:Folders/></m:GetFolderResponseMessage></m:ResponseMessages></m:GetFolderResponse></s:Body>\
</s:Envelope>"""


class Handler(http.server.BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"

    def handle(self):
        # A client may leave whenever it likes.
        with contextlib.suppress(ConnectionError):
            super().handle()

    def setup(self):
        super().setup()
        self.number = next(NUMBERS)
        self.context = None
        self.user = None

    def answer(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def serve(self):
        self.asked = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path.lower().endswith("healthcheck.htm"):
            return self.answer(200)
        scheme, _, token = (self.headers.get("Authorization") or "").partition(" ")
        if scheme == "NTLM" and token:
            return self.handshake(base64.b64decode(token))
        if not self.user:
            return self.answer(401, WWW_Authenticate="NTLM")
        self.served()

    do_GET = do_POST = do_OPTIONS = serve

    def handshake(self, token):
        if self.context is None or self.context.complete:
            self.context, self.user = spnego.server(protocol="ntlm"), None
        try:
            challenge = self.context.step(token)
        except spnego.exceptions.SpnegoError:
            self.context = None
            return self.answer(401, WWW_Authenticate="NTLM")
        if not self.context.complete:
            text = base64.b64encode(challenge).decode()
            return self.answer(401, WWW_Authenticate=f"NTLM {text}", Persistent_Auth="true")
        self.user = self.context.client_principal
        self.served()

    def served(self):
        if b"GetStreamingEvents" in self.asked:
            return self.stream()
        self.answer(200, ANSWER.encode(), Content_Type="text/xml; charset=utf-8",
                    X_Who=self.user, X_Connection=str(self.number))

    def stream(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/xml; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.send_header("X-Who", self.user)
        self.end_headers()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(ANSWER), ANSWER.encode()))
        self.close_connection = True
        # Nothing more comes from a client that waits, until it leaves.
        try:
            self.connection.recv(1)
        except OSError:
            pass
        print(f"closed {self.number}", flush=True)

    def log_message(self, *_):
        """Says nothing."""


def main():
    with tempfile.NamedTemporaryFile("w", suffix=".users") as users:
        for pair in sys.argv[1:]:
            name, password = pair.split("=", 1)
            users.write(f"{DOMAIN}:{name}:{password}\n")
        users.flush()
        os.environ["NTLM_USER_FILE"] = users.name
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        print(server.server_address[1], flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
