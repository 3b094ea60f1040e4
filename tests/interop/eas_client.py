"""An ActiveSync client for the interop tests. WBXML is coded by libwbxml's programs, HTTP by
Python's http.client: nothing of the gateway is in it, so no error of its can cancel itself."""

import base64
import http.client
import re
import ssl
import struct
import subprocess
import urllib.parse
import xml.etree.ElementTree as ElementTree

PATH = "/Microsoft-Server-ActiveSync"
WBXML = "application/vnd.ms-sync.wbxml"
DOCTYPE = (
    '<?xml version="1.0" encoding="utf-8"?>'
    '<!DOCTYPE ActiveSync PUBLIC "-//MICROSOFT//DTD ActiveSync//EN" "http://www.microsoft.com/">'
)
# MS-ASHTTP 2.2.1.1.1.1.2, the commands that the tests send with a base64 query.
COMMAND_CODES = {"FolderSync": 9, "Ping": 18, "Provision": 20}
# Longer than any answer of the server, Ping with its overshoot included.
SOCKET_SECONDS = 150


def encode(xml):
    """WBXML with the header 03 01 6A 00 that ActiveSync asks for."""
    result = subprocess.run(
        ["xml2wbxml", "-v", "1.3", "-n", "-a", "-k", "-o", "-", "-"],
        input=(DOCTYPE + xml).encode(), capture_output=True,
    )
    if result.returncode:
        raise RuntimeError(f"xml2wbxml: {result.stderr.decode()} {xml}")
    return result.stdout.replace(b"xml2wbxml succeeded\n", b"")


def decode(wbxml):
    """The element tree of a WBXML body, without namespaces; None for an empty body."""
    if not wbxml:
        return None
    result = subprocess.run(
        ["wbxml2xml", "-l", "ACTIVESYNC", "-m", "0", "-o", "-", "-"], input=wbxml, capture_output=True
    )
    text = result.stdout.decode().replace("wbxml2xml succeeded\n", "")
    if result.returncode or not text.strip():
        raise RuntimeError(f"wbxml2xml: {result.stderr.decode()} {wbxml[:60].hex()}")
    root = ElementTree.fromstring(re.sub(r"<!DOCTYPE[^>]*>", "", text).encode())
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    return root


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def tree(self):
        return decode(self.body)

    def text(self, path):
        """The text at an ElementTree path of the answer; `.` is the root."""
        tree = self.tree
        return None if tree is None else tree.findtext(path)

    def __repr__(self):
        return f"HTTP {self.status}, {len(self.body)} bytes {self.body[:80]!r}"


class Client:
    """One device of one user. Keeps its connection, as phones do."""

    def __init__(self, server, ca, user, password, device, version="14.1", device_type="interop"):
        self.server, self.user, self.device, self.version = server, user, device, version
        self.device_type, self.policy_key = device_type, None
        self.authorization = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        self.trust = ssl.create_default_context(cafile=ca)
        self.connection = None

    def another(self):
        """The same device on a connection of its own, as for a Ping beside other requests."""
        twin = object.__new__(Client)
        twin.__dict__.update(self.__dict__, connection=None)
        return twin

    def options(self):
        return self.request("OPTIONS", PATH, b"", {})

    def command(self, name, xml=None, headers=None, base64_query=False):
        """One command with a WBXML body (none where `xml` is None)."""
        return self.post(name, encode(xml) if xml else b"", WBXML, headers, base64_query)

    def post(self, name, body, content_type, headers=None, base64_query=False, more=None):
        query = self.base64_query(name) if base64_query else self.plain_query(name, more or {})
        fields = {"Content-Type": content_type} if body else {}
        if not base64_query:
            fields["MS-ASProtocolVersion"] = self.version
            if self.policy_key:
                fields["X-MS-PolicyKey"] = self.policy_key
        return self.request("POST", f"{PATH}?{query}", body, {**fields, **(headers or {})})

    def plain_query(self, name, more):
        return urllib.parse.urlencode(
            {"Cmd": name, "User": self.user, "DeviceId": self.device, "DeviceType": self.device_type, **more}
        )

    def base64_query(self, name):
        """MS-ASHTTP 2.2.1.1.1.1: version, command, locale, DeviceId, policy key, DeviceType."""
        device, kind = self.device.encode(), self.device_type.encode()
        key = struct.pack("<I", int(self.policy_key)) if self.policy_key else b""
        fields = (device, key, kind)
        head = struct.pack("<BBH", int(float(self.version) * 10), COMMAND_CODES[name], 0x0409)
        return base64.b64encode(head + b"".join(bytes([len(field)]) + field for field in fields)).decode()

    def request(self, method, target, body, headers):
        if self.connection is None:
            host, _, port = self.server.partition(":")
            self.connection = http.client.HTTPSConnection(
                host, int(port), context=self.trust, timeout=SOCKET_SECONDS
            )
        headers = {"Authorization": self.authorization, "User-Agent": "Interop/1.0", **headers}
        self.connection.request(method, target, body, headers)
        answer = self.connection.getresponse()
        content = answer.read()
        if answer.will_close:
            self.close()
        return Answer(answer.status, answer.headers, content)

    def close(self):
        if self.connection:
            self.connection.close()
        self.connection = None
