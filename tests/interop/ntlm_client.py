#!/usr/bin/env python3
"""A real NTLM client (requests_ntlm) that asks EWS for a folder, three times on one connection.

    ntlm_client.py URL USER PASSWORD CAFILE MODE

MODE is
    ask      log in and ask three times
    wait     the same, but before the third time wait for a line on standard input
    stream   the third time, listen to a stream of notifications until it ends

Prints a line of JSON for each answer: {"status": ..., "who": ..., "connection": ..., "denied": ...}; for
the stream one when it begins, and {"whole": ..., "denied": ...} when it has ended.
"""
import json
import sys

import requests
from requests_ntlm import HttpNtlmAuth

BODY = """<?xml version="1.0" encoding="utf-8"?><s:Envelope \
xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" \
xmlns:t="http://schemas.microsoft.com/exchange/services/2006/types"><s:Body><GetFolder \
xmlns="http://schemas.microsoft.com/exchange/services/2006/messages"><FolderShape>\
<t:BaseShape>IdOnly</t:BaseShape></FolderShape><FolderIds><t:DistinguishedFolderId Id="inbox"/>\
</FolderIds></GetFolder></s:Body></s:Envelope>"""


STREAM = BODY.replace("GetFolder", "GetStreamingEvents")


def stream(session, url):
    with session.post(url, data=STREAM.encode(), stream=True, timeout=30) as answer:
        print(json.dumps({"status": answer.status_code, "who": answer.headers.get("X-Who")}), flush=True)
        text, whole = b"", True
        try:
            for piece in answer.iter_content(chunk_size=None):
                text += piece
        except requests.exceptions.RequestException:
            whole = False
    print(json.dumps({"whole": whole, "denied": b"ErrorAccessDenied" in text}), flush=True)


def main():
    url, user, password, cafile, mode = sys.argv[1:6]
    session = requests.Session()
    session.verify = cafile
    session.trust_env = False
    session.headers["Content-Type"] = "text/xml; charset=utf-8"
    for turn in range(3):
        # Once the connection is authenticated, nothing more is said of who asks.
        auth = HttpNtlmAuth(f"SANDBOX\\{user}", password) if turn == 0 else None
        if mode == "wait" and turn == 2:
            sys.stdin.readline()
        if mode == "stream" and turn == 2:
            return stream(session, url)
        answer = session.post(url, data=BODY.encode(), auth=auth, timeout=30)
        print(json.dumps({
            "status": answer.status_code,
            "who": answer.headers.get("X-Who"),
            "connection": answer.headers.get("X-Connection"),
            "denied": "ErrorAccessDenied" in answer.text,
            "challenge": answer.headers.get("WWW-Authenticate"),
        }), flush=True)


if __name__ == "__main__":
    main()
