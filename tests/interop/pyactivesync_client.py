#!/usr/bin/env python3
"""A real ActiveSync client, PyPI's pyactivesync, at work on a mailbox of the lab.

    pyactivesync_client.py --server HOST:PORT --ca FILE --imap-port N --sent FOLDER

The package speaks 16.1 only; the mail server offers 14.1 at most, so that one constant is set from
outside. The server has no policy for clients, which the package takes for an error: it is told
that this is settled. Ends with 0 when every step held.
"""

import argparse
import os
import pathlib
import sys
import threading
import uuid

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "sogo"))

import mailboxes  # noqa: E402

USER = "carol"


def check(what, holds, seen=None):
    if not holds:
        sys.exit(f"FAILED {what}: {seen!r}")
    print("ok:", what, flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--server", required=True)
    parser.add_argument("--ca", required=True)
    parser.add_argument("--imap-port", type=int, required=True)
    parser.add_argument("--sent", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    os.environ["REQUESTS_CA_BUNDLE"] = arguments.ca

    import pyactivesync
    import pyactivesync._http
    pyactivesync._http._EAS_PROTOCOL_VERSION = "14.1"

    client = pyactivesync.Client(
        server=arguments.server, username=USER, password=mailboxes.password(USER),
        device_id="PYAS" + uuid.uuid4().hex[:12].upper(),
    )
    client._provisioned = True

    folders = client.list_folders()
    inbox = next((folder for folder in folders if folder.type == pyactivesync.FolderType.INBOX), None)
    check("the folders are listed, the inbox among them", inbox, folders)

    page = client.sync_folder(inbox.id, sync_key=client.sync_folder(inbox.id).sync_key)
    subjects = {item.fields.get("Email.Subject") for item in page.added}
    expected = {message["Subject"] for message in mailboxes.messages(USER)}
    check("every message is there", expected <= subjects, subjects)

    for item in page.added:
        fetched = client.fetch_item(inbox.id, item.server_id, body_type=pyactivesync.BodyType.HTML)
        for attachment in fetched.attachments:
            data = client.fetch_attachment(attachment.file_reference)
            if attachment.display_name == "invoice.pdf":
                check("an attachment is whole", data == mailboxes.PDF, data[:80])

    change = pyactivesync.EmailChange(page.added[1].server_id, read=True, flagged=True)
    key = client.apply_email_changes(inbox.id, page.sync_key, [change]).sync_key
    while (news := client.sync_folder(inbox.id, sync_key=key)).added or news.changed:
        key = news.sync_key
    key = news.sync_key or key
    check("a message is marked as read", key, news)

    subject = f"From pyactivesync {uuid.uuid4()}"
    letter = mailboxes.message(f"{USER}@{mailboxes.DOMAIN}", f"{USER}@{mailboxes.DOMAIN}", subject)
    letter.set_content("hello\n")
    sending = threading.Thread(target=client.send_mail, args=(letter,))
    sending.start()
    ping = client.ping([inbox.id], heartbeat=60)
    sending.join()
    check("a Ping brings word of its own mail", ping, ping)
    arrived = {item.fields.get("Email.Subject") for item in client.sync_folder(inbox.id, sync_key=key).added}
    check("the mail arrived", subject in arrived, arrived)

    found = client.search_gal("alice")
    check("a person is found", found, found)


if __name__ == "__main__":
    main()
