#!/usr/bin/env python3
"""What two devices of one mailbox see through a gateway with rules, read by PyPI's pyactivesync: one that
the rules are about, and one in a group that they are not about.

    pyactivesync_policies.py --server HOST:PORT --ca FILE --imap-port N --sent FOLDER --admin URL --token FILE
                             --program sync-compliance --strict DEVICE --exempt DEVICE

Both read the same mail of the same user, so each step says what the one gets and what the other one does.
Ends with 0 when every step held.
"""

import argparse
import functools
import json
import os
import pathlib
import subprocess
import sys
import uuid

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "sogo"))

import eas_scenarios  # noqa: E402
import mailboxes  # noqa: E402
from eas_scenarios import check, wait  # noqa: E402

USER = "heidi"
LINK = "https://links.example.com/login?x=1&y=2"
SAFE = "https://safe.test/?u=https%3A%2F%2Flinks.example.com%2Flogin%3Fx%3D1%26y%3D2"
ROW = "figures of the quarter, row by row\n"
# Behind the place where a device has a body cut off.
MARK = "TLP:RED"


def main():
    parser = argparse.ArgumentParser()
    for name in ("--server", "--ca", "--admin", "--program", "--strict", "--exempt"):
        parser.add_argument(name, required=True)
    parser.add_argument("--imap-port", type=int, required=True)
    parser.add_argument("--sent", type=pathlib.Path, required=True)
    parser.add_argument("--token", required=True)
    arguments = parser.parse_args()
    os.environ["REQUESTS_CA_BUNDLE"] = arguments.ca
    try:
        run(arguments)
    except eas_scenarios.Failed as failure:
        sys.exit(f"FAILED {failure}")


def run(arguments):
    deliver(arguments.imap_port)
    exempt, strict = (Device(arguments, device) for device in (arguments.exempt, arguments.strict))
    folders(exempt, strict)
    attachments(exempt, strict)
    links(exempt, strict, arguments.sent)
    marked(exempt, strict)
    quarantine(strict)
    wipe(strict)


def deliver(port):
    """Mail whose marking stands where a device does not see it: behind the cut, or in a header."""
    for subject, text, header in (
        ("Quarter, marked", ROW * 200 + MARK, None),
        ("Quarter, open", ROW * 200, None),
        ("Quarter, by header", ROW, "secret"),
    ):
        mail = mailboxes.message("Chief <chief@ext.test>", f"{USER}@{mailboxes.DOMAIN}", subject)
        mail.set_content(text)
        if header:
            mail["X-Classification"] = header
        mailboxes.append(USER, port, mail)
    mailboxes.enable_condstore(USER, port)


def folders(exempt, strict):
    sent = exempt.folder("SENT_ITEMS")
    check("folders: the server has one for sent mail", sent, exempt.folders)
    check("folders hidden: the strict device has none", strict.folder("SENT_ITEMS") is None, strict.folders)
    check("folders hidden: the inbox is there", strict.folder("INBOX"), strict.folders)
    key = exempt.client.sync_folder(sent).sync_key
    check("folders: the exempt device syncs it", key != "0", key)
    refused = status_of(lambda: strict.client.sync_folder(sent))
    check("folders hidden: the strict device is sent to its folders", refused == "12", refused)


def attachments(exempt, strict):
    def of(device, subject):
        item = device.fetched(subject)
        return item, {attachment.display_name: attachment for attachment in item.attachments}

    three = "Three attachments, ümläut 日本"
    _, names = of(exempt, three)
    check("attachments: all are there for the exempt device", len(names) == 3 and "list.csv" in names, names)
    item, names = of(strict, three)
    check("attachments removed: one is gone", len(names) == 2 and "list.csv" not in names, names)
    check("attachments removed: the text says so", "list.csv" in item.body.data, item.body)

    for device, kept in ((exempt, True), (strict, False)):
        _, names = of(device, "One PDF attachment")
        statuses, data = device.attachment(names["invoice.pdf"].file_reference)
        if kept:
            check("attachments: the exempt device fetches one", data == mailboxes.PDF, data)
        else:
            check("attachments blocked: Status 16", "16" in statuses, statuses)
            check("attachments blocked: nothing of it comes", not data, data)


def links(exempt, strict, sent):
    html = exempt.fetched("HTML with links").body.data
    check("links: the exempt device has the sender's", LINK.replace("&", "&amp;") in html, html)
    html = strict.fetched("HTML with links").body.data
    check("links rewritten", SAFE in html and "//links.example.com" not in html, html)

    subject = f"Reply of a strict device {uuid.uuid4()}"
    letter = mailboxes.message(f"{USER}@{mailboxes.DOMAIN}", f"bob@{mailboxes.DOMAIN}", subject)
    letter.set_content(f"> {SAFE}\n")
    strict.client.send_mail(letter)
    mails = lambda: (path.read_bytes() for path in sent.glob("*.eml"))  # noqa: E731
    mail = wait("links restored: the reply arrives", lambda: next((m for m in mails() if subject.encode() in m), None))
    check("links restored", LINK.encode() in mail and b"safe.test" not in mail, mail)


def marked(exempt, strict):
    for subject in ("Quarter, marked", "Quarter, open", "Quarter, by header"):
        text = exempt.beginning(subject)
        check(f"classified: the exempt device begins to read: {subject}", text.startswith("figures"), text)
    check("classified: what it reads is cut off", MARK not in exempt.beginning("Quarter, marked"))
    for subject, withheld in (
        ("Quarter, marked", True),
        ("Quarter, open", False),
        ("Quarter, by header", True),
    ):
        text = strict.beginning(subject)
        check(f"classified mail withheld is {withheld}: {subject}", ("Withheld." in text) == withheld, text)
        check(f"classified: and nothing of it shown is {withheld}: {subject}", ("figures" in text) != withheld, text)
    for name in ("PLAIN_TEXT", "HTML", "MIME"):
        data = strict.fetched("Long HTML body", name).body.data
        data = data if isinstance(data, bytes) else data.encode()
        # Of a mail as MIME the text stands in base64.
        told = b"Withheld." in data or b"V2l0aGhlbGQu" in data
        check(f"classified mail withheld by its subject, as {name}", told and b"row" not in data, data[:300])
    data = exempt.fetched("Long HTML body").body.data
    check("classified: the exempt device reads it", "row 1" in data, data[:300])


def quarantine(strict):
    strict.compliance("quarantine", strict.id, "--reason", "unknown phone")
    strict.list()
    inbox = strict.folder("INBOX")
    check("quarantine: folders of its own", inbox.startswith("seg-quarantine"), strict.folders)
    page = strict.client.sync_folder(inbox, sync_key=strict.client.sync_folder(inbox).sync_key)
    check("quarantine: one message says why", len(page.added) == 1 and "unknown phone" in str(page.added[0]), page)
    strict.compliance("unblock", strict.id)
    # MS-ASCMD 2.2.3.177: 3 is "invalid key", 9 is "begin with key 0".
    check("release: Sync Status 3", (got := status_of(lambda: strict.client.sync_folder(inbox, page.sync_key))) == "3", got)
    check("release: FolderSync Status 9", (got := strict.folder_status(page.sync_key)) == "9", got)
    strict.list()
    check("release: the server's folders", not strict.folder("INBOX").startswith("seg-"), strict.folders)
    check("release: and its mail", strict.fetched("Plain text only").body.data, None)


def wipe(strict):
    strict.compliance("wipe", strict.id)
    check("wipe: Status 140", (got := status_of(strict.client.list_folders)) == "140", got)
    told = strict.provision("Provision")
    check("wipe: Provision brings the order", strict.has(told, "Provision.RemoteWipe"), told)
    told = strict.provision("Provision", "RemoteWipe")
    check("wipe: the acknowledgement is noted", strict.text(told, "Provision.Status") == "1", told)
    order = json.loads(strict.compliance("get", strict.id, "--json"))["order"]
    check("wipe acknowledged", (order["action"], order["state"]) == ("wipe", "done"), order)
    check("wipe: the device is blocked", (got := status_of(strict.client.list_folders)) == "129", got)


def status_of(call):
    """The Status with which a command is refused; None where it is not."""
    import pyactivesync

    try:
        call()
    except pyactivesync.StatusError as refused:
        return refused.code
    return None


class Device:
    """A pyactivesync client, and what it has seen."""

    def __init__(self, arguments, device):
        import pyactivesync
        import pyactivesync._http
        import pyactivesync._wbxml

        # The package speaks 16.1 only, the server 14.1 at most.
        pyactivesync._http._EAS_PROTOCOL_VERSION = "14.1"
        self.package, self.wbxml = pyactivesync, pyactivesync._wbxml
        self.id, self.arguments = device, arguments
        self.client = pyactivesync.Client(
            server=arguments.server, username=USER, password=mailboxes.password(USER), device_id=device
        )
        # The server has no policy for clients, which the package takes for an error.
        self.client._provisioned = True
        self.list()
        self.items = self.sync()

    def list(self):
        self.folders = {folder.type: folder.id for folder in self.client.list_folders()}
        self.items_of = {}

    def folder(self, name):
        return self.folders.get(self.package.FolderType[name])

    @functools.cached_property
    def inbox(self):
        return self.folder("INBOX")

    def sync(self):
        """The inbox as a device syncs it that has long texts cut off."""
        tag, pages, key = self.wbxml.wtag, {}, self.client.sync_folder(self.inbox).sync_key
        more = True
        while more:
            options = [
                # More than 4,096 bytes: this is what the server goes by.
                tag("AirSync", "MIMETruncation", text="1"),
                tag("AirSync", "MIMESupport", text="0"),
                tag("AirSyncBase", "BodyPreference", children=[tag("AirSyncBase", "Type", text="1")]),
            ]
            collection = [
                tag("AirSync", "SyncKey", text=key), tag("AirSync", "CollectionId", text=self.inbox),
                tag("AirSync", "GetChanges", text="1"), tag("AirSync", "WindowSize", text="100"),
                tag("AirSync", "Options", children=options),
            ]
            nodes = self.post("Sync", "AirSync", [
                tag("AirSync", "Collections", children=[tag("AirSync", "Collection", children=collection)])
            ])
            key = self.text(nodes, "AirSync.SyncKey")
            for _, _, children in self.wbxml.find_all(nodes, "AirSync.Add"):
                item = self.client._sync_item(children)
                pages[item.fields["Email.Subject"]] = item
            more = self.has(nodes, "AirSync.MoreAvailable")
        return pages

    def beginning(self, subject):
        return self.items[subject].fields["AirSyncBase.Data"]

    def fetched(self, subject, kind="HTML"):
        kind = self.package.BodyType[kind]
        return self.client.fetch_item(self.inbox, self.items[subject].server_id, body_type=kind)

    def attachment(self, reference):
        """All Statuses of a Fetch, and what it brings."""
        tag = self.wbxml.wtag
        nodes = self.post("ItemOperations", "ItemOperations", [
            tag("ItemOperations", "Fetch", children=[
                tag("ItemOperations", "Store", text="Mailbox"), tag("AirSyncBase", "FileReference", text=reference),
            ])
        ])
        statuses = self.wbxml.find_all(nodes, "ItemOperations.Status")
        return [self.wbxml.text_of(status) for status in statuses], self.client.fetch_attachment(reference)

    def folder_status(self, key):
        nodes = self.post("FolderSync", "FolderHierarchy", [self.wbxml.wtag("FolderHierarchy", "SyncKey", text=key)])
        return self.text(nodes, "FolderHierarchy.Status")

    def provision(self, *path):
        status = self.wbxml.wtag("Provision", "Status", text="1")
        children = [self.wbxml.wtag("Provision", name, children=[status]) for name in path[1:]]
        return self.post("Provision", "Provision", children)

    def post(self, command, page, children):
        writer = self.wbxml.WBXMLWriter()
        writer.tag(page, command, children=children)
        return self.wbxml.WBXMLReader(self.client._post(command, writer.render())).parse()

    def has(self, nodes, path):
        return self.wbxml.find(nodes, path) is not None

    def text(self, nodes, path):
        return self.wbxml.text_of(self.wbxml.find(nodes, path))

    def compliance(self, *words):
        command = [self.arguments.program, "--admin", self.arguments.admin, "--token-file", self.arguments.token]
        result = subprocess.run([*command, *words], stdin=subprocess.DEVNULL, capture_output=True, text=True)
        check(f"sync-compliance {words[0]}", result.returncode == 0, result)
        return result.stdout


if __name__ == "__main__":
    main()
