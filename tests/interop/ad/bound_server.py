"""A web server behind Kerberos that looks at channel bindings (RFC 5929, tls-server-end-point), which
Apache's module does not: it answers BOUND=yes where the client's ticket was bound to this TLS
connection, and BOUND=no where it was bound to nothing. MIT's library is asked directly.

bound_server.py LAB_FOLDER ADDRESS [ANSWERS]; prints its port. Where ANSWERS has a file of a command's name,
what stands in it is the answer to that ActiveSync command. The library lets no message in twice."""

import base64
import ctypes
import hashlib
import http.server
import os
import pathlib
import ssl
import sys
import urllib.parse

GSS_C_CHANNEL_BOUND_FLAG = 2048  # MIT 1.19 and later
folder, address = sys.argv[1:3]
answers = pathlib.Path(sys.argv[3]) if len(sys.argv) > 3 else None
os.environ["KRB5_KTNAME"] = f"FILE:{folder}/keytabs/http.keytab"
gss = ctypes.CDLL("libgssapi_krb5.so.2")


class Buffer(ctypes.Structure):
    _fields_ = [("length", ctypes.c_size_t), ("value", ctypes.c_void_p)]


class Bindings(ctypes.Structure):
    _fields_ = [
        ("initiator_addrtype", ctypes.c_uint32),
        ("initiator_address", Buffer),
        ("acceptor_addrtype", ctypes.c_uint32),
        ("acceptor_address", Buffer),
        ("application_data", Buffer),
    ]


def buffer(data):
    return Buffer(len(data), ctypes.cast(ctypes.create_string_buffer(data, len(data)), ctypes.c_void_p))


certificate = ssl.PEM_cert_to_DER_cert(
    "-----BEGIN" + open(f"{folder}/pki/mail.pem").read().split("-----BEGIN", 1)[1]
)
bound_to = b"tls-server-end-point:" + hashlib.sha256(certificate).digest()


def accept(token):
    """The answer to a token, and whether it was bound; None: it is refused."""
    bindings = Bindings(0, Buffer(0, None), 0, Buffer(0, None), buffer(bound_to))
    minor, flags = ctypes.c_uint32(), ctypes.c_uint32()
    context, reply = ctypes.c_void_p(), Buffer(0, None)
    given = buffer(token)
    major = gss.gss_accept_sec_context(
        ctypes.byref(minor), ctypes.byref(context), None, ctypes.byref(given), ctypes.byref(bindings),
        None, None, ctypes.byref(reply), ctypes.byref(flags), None, None,
    )
    if major != 0:
        print(f"refused: {major:#x} {minor.value:#x}", file=sys.stderr)
        return None
    return ctypes.string_at(reply.value, reply.length), bool(flags.value & GSS_C_CHANNEL_BOUND_FLAG)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        scheme, _, encoded = (self.headers.get("Authorization") or "").partition(" ")
        accepted = accept(base64.b64decode(encoded)) if scheme == "Negotiate" else None
        if accepted is None:
            status, challenge, body = 401, "Negotiate", b""
        else:
            status, challenge = 200, "Negotiate " + base64.b64encode(accepted[0]).decode()
            body = b"BOUND=yes\n" if accepted[1] else b"BOUND=no\n"
        kind = "text/plain"
        given = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query).get("Cmd", [""])[0]
        if status == 200 and answers and given.isalpha() and (answers / given).exists():
            kind, body = "application/vnd.ms-sync.wbxml", (answers / given).read_bytes()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("WWW-Authenticate", challenge)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_OPTIONS = answer

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer((address, 0), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(f"{folder}/pki/mail.pem", f"{folder}/pki/mail.key")
server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_port, flush=True)
server.serve_forever()
