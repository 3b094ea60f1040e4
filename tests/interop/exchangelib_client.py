#!/usr/bin/env python3
"""A real EWS client (exchangelib) that does one thing and says how it went.

    exchangelib_client.py URL USER PASSWORD CAFILE MODE [--auth basic|guess]

URL is the EWS endpoint (https://host:port/EWS/Exchange.asmx), USER an address, CAFILE a PEM file
with the authority to trust. MODE is
    list    log in and list the inbox
    read    list, then read one mail with its body and its attachment
    send    send a mail
    stream  open a streaming subscription and wait for one event
--auth guess (the default) takes what the server offers, basic does not ask.

Prints one line of JSON: {"ok": true, ...} and exits with 0, or
{"ok": false, "error": "<class of the exception>", "message": ...} and exits with 1.
"""
import argparse
import json
import os
import sys


def arguments():
    parser = argparse.ArgumentParser()
    for name in ("url", "user", "password", "cafile"):
        parser.add_argument(name)
    parser.add_argument("mode", choices=("list", "read", "send", "stream"))
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
        for notification in stream:
            for event in notification.events:
                if not isinstance(event, StatusEvent):
                    return {"event": type(event).__name__}
    return {"event": None}


def main():
    args = arguments()
    # requests, on which exchangelib stands, believes this authority only.
    os.environ["REQUESTS_CA_BUNDLE"] = args.cafile
    act = {"list": listed, "read": read, "send": sent, "stream": streamed}[args.mode]
    try:
        result = {"ok": True, **act(account(args), args)}
    except Exception as error:  # Whatever it is, its class is the result.
        result = {"ok": False, "error": type(error).__name__, "message": str(error)[:500]}
    print(json.dumps(result))
    return 0 if result["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
