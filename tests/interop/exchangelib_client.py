#!/usr/bin/env python3
"""A real EWS client (exchangelib) that does one thing and says how it went.

    exchangelib_client.py URL USER PASSWORD CAFILE MODE [--auth basic|guess]

URL is the EWS endpoint (https://host:port/EWS/Exchange.asmx), USER an address, CAFILE a PEM file
with the authority to trust. MODE is
    list    log in and list the inbox
    read    list, then read one mail with its body and its attachment
    send    send a mail
    stream  open a streaming subscription and wait for one event
    pull    open a pull subscription, and ask for events when a line comes on standard input
    push    open a push subscription to a listener of its own and wait for one event
    discover  find the endpoint by Autodiscover, and list the inbox there; of URL only host and port
            count: whoever is asked for on the domain's port 443 is found there
--auth guess (the default) takes what the server offers, basic does not ask.

Prints one line of JSON: {"ok": true, ...} and exits with 0, or
{"ok": false, "error": "<class of the exception>", "message": ...} and exits with 1.
"""
import argparse
import contextlib
import json
import os
import sys


def arguments():
    parser = argparse.ArgumentParser()
    for name in ("url", "user", "password", "cafile"):
        parser.add_argument(name)
    parser.add_argument("mode", choices=("list", "read", "send", "stream", "pull", "push", "discover"))
    parser.add_argument("--auth", choices=("basic", "guess"), default="guess")
    return parser.parse_args()


def account(args):
    import exchangelib

    auth_type = exchangelib.BASIC if args.auth == "basic" else None
    config = exchangelib.Configuration(
        service_endpoint=args.url,
        credentials=exchangelib.Credentials(args.user, args.password),
        auth_type=auth_type,
        retry_policy=exchangelib.FailFast(),
    )
    return exchangelib.Account(
        args.user, config=config, autodiscover=False, access_type=exchangelib.DELEGATE
    )


def listed(account, _args):
    subjects = [item.subject for item in account.inbox.all().only("subject")]
    return {"folder": account.inbox.name, "subjects": subjects}


def read(account, _args):
    item = next(item for item in account.inbox.all() if item.has_attachments)
    attachment = item.attachments[0]
    return {
        "subject": item.subject,
        "sender": item.sender.email_address,
        "body": str(item.body),
        "attachment": attachment.name,
        "attachment_bytes": len(attachment.content),
    }


def sent(account, args):
    from exchangelib import Mailbox, Message

    Message(
        account=account,
        subject="Sent through EWS",
        body="Hello Bob.",
        to_recipients=[Mailbox(email_address=args.user)],
    ).send()
    return {"sent": "Sent through EWS"}


def streamed(account, _args):
    from exchangelib.properties import StatusEvent

    with account.inbox.streaming_subscription() as subscription:
        # One line before the stream opens, for those who let something happen then.
        print(json.dumps({"subscribed": True}), flush=True)
        stream = account.inbox.get_streaming_events(subscription, connection_timeout=1)
        # Closed before the subscription is ended, which needs the one session there is.
        with contextlib.closing(stream):
            for notification in stream:
                for event in notification.events:
                    if not isinstance(event, StatusEvent):
                        return {"event": type(event).__name__}
    return {"event": None}


def pulled(account, _args):
    with account.inbox.pull_subscription() as (subscription_id, watermark):
        print(json.dumps({"subscribed": True}), flush=True)
        sys.stdin.readline()
        events = []
        for notification in account.inbox.get_events(subscription_id, watermark):
            events += [type(event).__name__ for event in notification.events]
        return {"events": events}


def pushed(account, _args):
    """exchangelib reads the server's call, and writes its answer."""
    import http.server

    from exchangelib.services import SendNotification

    got = []

    class Listener(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            service = SendNotification(protocol=account.protocol)
            for notification in service.parse(body):
                got.extend(type(event).__name__ for event in notification.events)
            answer = service.ok_payload()
            self.send_response(200)
            self.send_header("Content-Type", "text/xml; charset=utf-8")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_):
            """Says nothing."""

    listener = http.server.HTTPServer(("127.0.0.1", 0), Listener)
    url = f"http://127.0.0.1:{listener.server_address[1]}/called?secret=PUSHSECRET"
    account.inbox.subscribe_to_push(url)
    print(json.dumps({"subscribed": True}), flush=True)
    while not got:
        listener.handle_request()
    return {"events": got}


def discovered(args):
    import socket
    import urllib.parse

    import exchangelib
    from exchangelib.autodiscover import discover
    from exchangelib.autodiscover.discovery import Autodiscovery

    port = urllib.parse.urlsplit(args.url).port
    resolve = socket.getaddrinfo

    def here(host, asked, *rest, **more):
        if host == args.user.partition("@")[2]:
            return resolve("127.0.0.1", port if asked == 443 else asked, *rest, **more)
        raise socket.gaierror(socket.EAI_NONAME, f"{host} is nobody")

    socket.getaddrinfo = here
    # It asks DNS itself, which knows nothing of the names of a test.
    Autodiscovery._ensure_valid_hostname = lambda self, url: None
    credentials = exchangelib.Credentials(args.user, args.password)
    answer, protocol = discover(args.user, credentials=credentials, auth_type=exchangelib.BASIC)
    config = exchangelib.Configuration(
        service_endpoint=protocol.service_endpoint,
        credentials=credentials,
        auth_type=exchangelib.BASIC,
        retry_policy=exchangelib.FailFast(),
    )
    account = exchangelib.Account(
        args.user, config=config, autodiscover=False, access_type=exchangelib.DELEGATE
    )
    return {
        "endpoint": protocol.service_endpoint,
        "address": answer.autodiscover_smtp_address,
        **listed(account, args),
    }


def main():
    args = arguments()
    # requests, on which exchangelib stands, believes this authority only.
    os.environ["REQUESTS_CA_BUNDLE"] = args.cafile
    acts = {"list": listed, "read": read, "send": sent, "stream": streamed, "pull": pulled,
            "push": pushed}
    act = acts.get(args.mode)
    try:
        if args.mode == "discover":
            result = {"ok": True, **discovered(args)}
        else:
            result = {"ok": True, **act(account(args), args)}
    except Exception as error:  # Whatever it is, its class is the result.
        result = {"ok": False, "error": type(error).__name__, "message": str(error)[:500]}
    print(json.dumps(result))
    return 0 if result["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
