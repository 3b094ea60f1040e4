#!/usr/bin/env python3
"""A real EWS client (DavMail, Debian's davmail-server), driven over IMAP.

    davmail_client.py URL USER PASSWORD CAFILE MODE

URL is the EWS endpoint (https://host:port/EWS/Exchange.asmx), USER an address, CAFILE a PEM file
with the authority to trust. A DavMail of its own is started on a free port and ended again. MODE is
    list    log in and list the folders
    read    list, then select the inbox and fetch every mail

Prints one line of JSON: {"ok": true, ...} and exits with 0, or
{"ok": false, "error": "<class of the exception>", "message": ...} and exits with 1; the message of
a refused login is what DavMail says.
"""
import argparse
import contextlib
import email
import email.policy
import imaplib
import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time

JAR = "/usr/share/davmail/davmail.jar"
LIBRARIES = "/usr/share/java"
START_SECONDS = 60
ANSWER_SECONDS = 60


class DavMailDidNotStart(Exception):
    """DavMail has ended, or does not listen."""


def arguments():
    parser = argparse.ArgumentParser()
    for name in ("url", "user", "password", "cafile"):
        parser.add_argument(name)
    parser.add_argument("mode", choices=("list", "read"))
    return parser.parse_args()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def davmail(args):
    """Runs DavMail; gives its IMAP port."""
    with tempfile.TemporaryDirectory(prefix="davmail-") as folder:
        folder = pathlib.Path(folder)
        port = free_port()
        truststore = folder / "trust.p12"
        subprocess.run(
            ["keytool", "-importcert", "-noprompt", "-alias", "authority", "-file", args.cafile,
             "-keystore", truststore, "-storetype", "PKCS12", "-storepass", "changeit"],
            check=True, capture_output=True,
        )
        properties = {
            "davmail.server": "true",
            "davmail.mode": "EWS",
            "davmail.url": args.url,
            "davmail.imapPort": port,
            "davmail.allowRemote": "false",
            "davmail.disableUpdateCheck": "true",
            "davmail.logFilePath": folder / "davmail.log",
            "davmail.keepDelay": "0",
            "davmail.clientSoTimeout": ANSWER_SECONDS,
        }
        for absent in ("smtp", "caldav", "ldap", "pop"):
            properties[f"davmail.{absent}Port"] = ""
        file = folder / "davmail.properties"
        file.write_text("".join(f"{key}={value}\n" for key, value in properties.items()))
        classes = os.pathsep.join([JAR, f"{LIBRARIES}/*"])
        command = [
            "java", f"-Djavax.net.ssl.trustStore={truststore}",
            "-Djavax.net.ssl.trustStorePassword=changeit", f"-Duser.home={folder}",
            "-cp", classes, "davmail.DavGateway", str(file),
        ]
        output = folder / "output"
        with output.open("w") as sink:
            process = subprocess.Popen(command, stdout=sink, stderr=sink, stdin=subprocess.DEVNULL)
        try:
            wait_for(process, port, output)
            yield port
        finally:
            if os.environ.get("DAVMAIL_LOG"):
                print(output.read_text(), file=sys.stderr)
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_for(process, port, output):
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        if process.poll() is not None:
            break
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.1)
    raise DavMailDidNotStart(output.read_text()[-1000:])


def checked(answer):
    status, data = answer
    if status != "OK":
        raise imaplib.IMAP4.error(str(data))
    return data


def listed(imap):
    return {"folders": [line.decode() for line in checked(imap.list())]}


def read(imap):
    result = listed(imap)
    count = int(checked(imap.select("INBOX", readonly=True))[0])
    mails = []
    for number in range(1, count + 1):
        fetched = checked(imap.fetch(str(number), "(UID FLAGS BODY.PEEK[])"))
        mail = email.message_from_bytes(fetched[0][1], policy=email.policy.default)
        body = mail.get_body(("plain",))
        mails.append({"subject": mail["Subject"], "body": body.get_content() if body else None})
    return {**result, "mails": mails}


def main():
    args = arguments()
    act = {"list": listed, "read": read}[args.mode]
    try:
        with davmail(args) as port:
            imap = imaplib.IMAP4("127.0.0.1", port, timeout=ANSWER_SECONDS)
            imap.login(args.user, args.password)
            result = {"ok": True, **act(imap)}
            imap.logout()
    except Exception as error:  # Whatever it is, its class is the result.
        result = {"ok": False, "error": type(error).__qualname__, "message": str(error)[:500]}
    print(json.dumps(result))
    return 0 if result["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
