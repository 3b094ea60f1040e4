#!/usr/bin/env python3
"""What a phone does with a real ActiveSync server, step by step, each step checked.

    eas_scenarios.py SCENARIO --server HOST:PORT --ca FILE --imap-port N --sent FOLDER
                     [--user alice] [--version 14.1]
                     [--admin URL --token FILE --program sync-compliance]

With `--admin` the server is a gateway and the scenarios wait on its sessions; without, they run
against the mail server itself. Ends with 0 when every step held, else with the step that did not.
"""

import argparse
import base64
import email.policy
import json
import pathlib
import subprocess
import sys
import threading
import time
import urllib.request
import uuid
from xml.sax.saxutils import escape

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "sogo"))

import eas_client  # noqa: E402
import mailboxes  # noqa: E402

PEER = "bob"
INBOX, SENT = "2", "5"  # MS-ASCMD 2.2.3.186.3, Type of a folder
PATIENCE_SECONDS = 60
OPTIONS = (
    '<Options><FilterType>0</FilterType><MIMESupport>0</MIMESupport>'
    '<BodyPreference xmlns="AirSyncBase:"><Type>2</Type><TruncationSize>2000</TruncationSize></BodyPreference>'
    "</Options>"
)


class Failed(Exception):
    """A step that did not hold."""


def check(what, holds, seen=None):
    if not holds:
        raise Failed(f"{what}: {seen!r}")
    print("ok:", what, flush=True)


def wait(what, ready):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (result := ready()):
        if time.monotonic() > deadline:
            raise Failed(f"{what}: not within {PATIENCE_SECONDS} seconds")
        time.sleep(0.05)
    print("ok:", what, flush=True)
    return result


# --- the walk of a phone -------------------------------------------------------------------------


def walk(lab):
    """Everything a phone does from its set-up on, in the order in which it does it."""
    phone = Phone(lab)
    phone.negotiate()
    phone.provision()
    phone.list_folders(base64_query=True)
    phone.list_folders()
    phone.read_inbox()
    phone.fetch_attachment()
    phone.fetch_body()
    phone.mark_read()
    phone.search_people()
    phone.wait_for_mail()
    phone.send_mail()
    phone.file_away()
    phone.survive_nonsense()


def heartbeat(lab):
    """A Ping in which nothing happens ends when the server says so, not the gateway."""
    phone = Phone(lab)
    phone.list_folders()
    phone.read_inbox()
    answer = phone.client.command("Ping", phone.ping(8))
    check("a Ping without mail ends with Status 1", answer.text("Status") == "1", answer)


class Phone:
    def __init__(self, lab):
        self.lab = lab
        self.client = lab.client(lab.user)
        self.folders, self.folder_key = {}, "0"
        self.items, self.sync_key = [], "0"

    def negotiate(self):
        answer = self.client.options()
        versions = answer.headers.get("MS-ASProtocolVersions", "")
        check("OPTIONS names the version", answer.status == 200 and self.client.version in versions, versions)
        check("OPTIONS names Sync", "Sync" in answer.headers.get("MS-ASProtocolCommands", ""), answer)

    def provision(self):
        device = (
            '<DeviceInformation xmlns="Settings:"><Set><Model>Interop</Model><OS>Linux</OS></Set></DeviceInformation>'
            if self.client.version >= "14.1" else ""
        )
        answer = self.client.command(
            "Provision",
            f'<Provision xmlns="Provision:">{device}<Policies><Policy>'
            "<PolicyType>MS-EAS-Provisioning-WBXML</PolicyType></Policy></Policies></Provision>",
        )
        # MS-ASPROV 2.2.2.54.2: 2 is "no policy for this client", which this server always says.
        check("Provision answers about the policy", answer.text(".//Policy/Status") in ("1", "2"), answer)
        self.client.policy_key = answer.text(".//PolicyKey")

    def list_folders(self, base64_query=False):
        answer = self.client.command("FolderSync", FOLDER_SYNC, base64_query=base64_query)
        check(f"FolderSync succeeds, base64 query: {base64_query}", answer.text("Status") == "1", answer)
        self.folders = {add.findtext("Type"): add.findtext("ServerId") for add in answer.tree.iter("Add")}
        self.folder_key = answer.text("SyncKey")
        check("FolderSync lists the inbox", INBOX in self.folders, self.folders)

    def sync(self, folder, key, options=OPTIONS, window=100, commands=""):
        """One Sync of one folder: the next key, and the tree (None when nothing changed)."""
        changes = (
            "" if key == "0"
            else f"<DeletesAsMoves>1</DeletesAsMoves><GetChanges>1</GetChanges><WindowSize>{window}</WindowSize>{options}"
        )
        answer = self.client.command(
            "Sync",
            f'<Sync xmlns="AirSync:"><Collections><Collection><SyncKey>{escape(key)}</SyncKey>'
            f"<CollectionId>{escape(folder)}</CollectionId>{changes}{commands}</Collection></Collections></Sync>",
        )
        if answer.status != 200:
            raise Failed(f"Sync: {answer!r}")
        tree = answer.tree
        return (key if tree is None else tree.findtext(".//SyncKey")), tree

    def pages(self, folder, window):
        """All of a folder from key 0 on, in pages of `window` items."""
        key, _ = self.sync(folder, "0")
        items, more = [], True
        while more:
            key, tree = self.sync(folder, key, window=window)
            items += [] if tree is None else list(tree.iter("Add"))
            more = tree is not None and tree.find(".//MoreAvailable") is not None
        return key, items

    def read_inbox(self):
        self.sync_key, self.items = self.pages(self.folders[INBOX], 3)
        subjects = [item.findtext(".//Subject") for item in self.items]
        expected = {message["Subject"] for message in mailboxes.messages(self.lab.user)}
        check("Sync delivers every message, page by page", expected <= set(subjects), subjects)
        self.settle()

    def settle(self):
        """Syncs until nothing is new: what the server has still to tell would end a Ping at once."""
        news = True
        while news:
            self.sync_key, tree = self.sync(self.folders[INBOX], self.sync_key)
            news = tree is not None and tree.find(".//Commands") is not None

    def item(self, subject):
        return next(item for item in self.items if item.findtext(".//Subject") == subject)

    def fetch_attachment(self):
        attachments = {a.findtext("DisplayName"): a for a in self.item("One PDF attachment").iter("Attachment")}
        reference = attachments["invoice.pdf"].findtext("FileReference")
        fetch = (
            '<ItemOperations xmlns="ItemOperations:"><Fetch><Store>Mailbox</Store>'
            f'<FileReference xmlns="AirSyncBase:">{escape(reference)}</FileReference></Fetch></ItemOperations>'
        )
        inline = self.client.command("ItemOperations", fetch)
        data = base64.b64decode(inline.text(".//Data") or "")
        # libwbxml shows opaque bytes as base64, and the server coded the file in base64 already.
        data = data if data.startswith(b"%PDF") else base64.b64decode(data)
        check("ItemOperations fetches the attachment", data == mailboxes.PDF, inline)

        parts = self.client.command("ItemOperations", fetch, headers={"MS-ASAcceptMultiPart": "T"})
        check("the multipart form is named as such", "multipart" in parts.headers.get("Content-Type", ""), parts)
        check("ItemOperations fetches it as a part", mailboxes.PDF in split_parts(parts.body), parts)

    def fetch_body(self):
        item = self.item("HTML with links")
        for kind, mime in (("1", "0"), ("2", "0"), ("4", "2")):
            answer = self.client.command(
                "ItemOperations",
                '<ItemOperations xmlns="ItemOperations:"><Fetch><Store>Mailbox</Store>'
                f'<CollectionId xmlns="AirSync:">{escape(self.folders[INBOX])}</CollectionId>'
                f'<ServerId xmlns="AirSync:">{escape(item.findtext("ServerId"))}</ServerId>'
                f'<Options><MIMESupport xmlns="AirSync:">{mime}</MIMESupport>'
                f'<BodyPreference xmlns="AirSyncBase:"><Type>{kind}</Type></BodyPreference></Options>'
                "</Fetch></ItemOperations>",
            )
            check(f"ItemOperations fetches body type {kind}", answer.text(".//Body/Type") == kind, answer)

    def mark_read(self):
        item = self.item("HTML with links").findtext("ServerId")
        change = (
            f"<Commands><Change><ServerId>{escape(item)}</ServerId><ApplicationData>"
            '<Read xmlns="Email:">1</Read></ApplicationData></Change></Commands>'
        )
        key, _ = self.sync(self.folders[INBOX], self.sync_key, commands=change)
        check("Sync carries a change upwards", key not in (None, "0"), key)
        self.sync_key = key
        self.settle()

    def search_people(self):
        answer = self.client.command(
            "Search",
            f'<Search xmlns="Search:"><Store><Name>GAL</Name><Query>{PEER}</Query>'
            "<Options><Range>0-9</Range></Options></Store></Search>",
        )
        check("Search finds a person", PEER in (answer.text(".//EmailAddress") or ""), answer)

    def ping(self, seconds):
        return (
            f'<Ping xmlns="Ping:"><HeartbeatInterval>{seconds}</HeartbeatInterval><Folders><Folder>'
            f"<Id>{escape(self.folders[INBOX])}</Id><Class>Email</Class></Folder></Folders></Ping>"
        )

    def open_ping(self, seconds=300):
        """A Ping in a thread of its own, known to be open where the server is a gateway."""
        poll = Background(lambda: self.client.another().command("Ping", self.ping(seconds)))
        self.lab.wait_for_session(self.client.device, "Ping")
        return poll

    def wait_for_mail(self):
        poll = self.open_ping()
        subject = f"Fresh mail {uuid.uuid4()}"
        fresh = mailboxes.message("new@ext.test", self.lab.address, subject)
        fresh.set_content("fresh\n")
        mailboxes.append(self.lab.user, self.lab.imap_port, fresh)
        check("new mail ends the Ping with Status 2", (answer := poll.result()).text("Status") == "2", answer)
        self.sync_key, tree = self.sync(self.folders[INBOX], self.sync_key)
        subjects = [] if tree is None else [add.findtext(".//Subject") for add in tree.iter("Add")]
        check("the next Sync brings that mail", subject in subjects, subjects)

    def send_mail(self):
        subject = f"Sent by ActiveSync {uuid.uuid4()}"
        letter = mailboxes.message(self.lab.address, f"{PEER}@{mailboxes.DOMAIN}", subject)
        letter.set_content("sent by the interop test\n")
        letter.add_attachment(b"x,y\n", maintype="text", subtype="csv", filename="a.csv")
        mime = letter.as_bytes(policy=email.policy.SMTP)
        if self.client.version >= "14.0":
            answer = self.client.command(
                "SendMail",
                f'<SendMail xmlns="ComposeMail:"><ClientId>{uuid.uuid4()}</ClientId><SaveInSentItems/>'
                f"<MIME>{base64.b64encode(mime).decode()}</MIME></SendMail>",
            )
        else:
            answer = self.client.post("SendMail", mime, "message/rfc822", more={"SaveInSent": "T"})
        check("SendMail is accepted without a word", (answer.status, answer.body) == (200, b""), answer)
        sent = wait("the message arrives", lambda: self.lab.sent_message(subject))
        check("its parts are whole", b"sent by the interop test" in sent and b"a.csv" in sent, sent)
        _, items = self.pages(self.folders[SENT], 100)
        subjects = [item.findtext(".//Subject") for item in items]
        check("it is filed under Sent", subject in subjects, subjects)

    def file_away(self):
        created = self.client.command(
            "FolderCreate",
            f'<FolderCreate xmlns="FolderHierarchy:"><SyncKey>{escape(self.folder_key)}</SyncKey><ParentId>0</ParentId>'
            f"<DisplayName>folder-{uuid.uuid4()}</DisplayName><Type>12</Type></FolderCreate>",
        )
        check("FolderCreate succeeds", created.text("Status") == "1", created)
        folder = created.text("ServerId")
        mailboxes.enable_condstore(self.lab.user, self.lab.imap_port)
        item = self.item("Plain text only").findtext("ServerId")
        moved = self.move(item, self.folders[INBOX], folder)
        back = self.move(moved, folder, self.folders[INBOX])
        check("MoveItems there and back", bool(back), back)
        deleted = self.client.command(
            "FolderDelete",
            f'<FolderDelete xmlns="FolderHierarchy:"><SyncKey>{escape(created.text("SyncKey"))}</SyncKey>'
            f"<ServerId>{escape(folder)}</ServerId></FolderDelete>",
        )
        check("FolderDelete succeeds", deleted.text("Status") == "1", deleted)

    def move(self, item, source, destination):
        answer = self.client.command(
            "MoveItems",
            f'<MoveItems xmlns="Move:"><Move><SrcMsgId>{escape(item)}</SrcMsgId><SrcFldId>{escape(source)}</SrcFldId>'
            f"<DstFldId>{escape(destination)}</DstFldId></Move></MoveItems>",
        )
        # MS-ASCMD 2.2.3.177.10: 3 is success.
        if answer.text(".//Status") != "3":
            raise Failed(f"MoveItems: {answer!r} {answer.text('.//Status')}")
        return answer.text(".//DstMsgId")

    def survive_nonsense(self):
        answer = self.client.post("FolderSync", b"\x03\x01\x6a\x00\x00\x07\x56garbage", eas_client.WBXML)
        check("broken WBXML gets the server's own answer", answer.status == 500, answer)


# --- content, through a gateway with rules for this user -----------------------------------------


SAFE = "https://safe.test/?u="


def content(lab):
    """Attachments removed and blocked, links rewritten and restored, a marked mail withheld."""
    phone = Phone(lab)
    phone.list_folders()
    mailboxes.enable_condstore(lab.user, lab.imap_port)
    phone.sync_key, phone.items = phone.pages(phone.folders[INBOX], 100)
    html = phone.item("HTML with links").findtext(".//Body/Data") or ""
    rewritten = SAFE + "https%3A%2F%2Flinks.example.com%2Flogin%3Fx%3D1%26y%3D2"
    check("a link is rewritten", rewritten in html and "https://links.example.com" not in html, html)
    names = [a.findtext("DisplayName") for a in phone.item("Three attachments, ümläut 日本").iter("Attachment")]
    check("one attachment is gone, two are there", "list.csv" not in names and len(names) == 2, names)
    marked = phone.item("Long HTML body").findtext(".//Body/Data") or ""
    check("the marked mail is withheld", "Withheld." in marked and "row" not in marked, marked[:200])

    attachments = {a.findtext("DisplayName"): a for a in phone.item("One PDF attachment").iter("Attachment")}
    reference = attachments["invoice.pdf"].findtext("FileReference")
    for headers in (None, {"MS-ASAcceptMultiPart": "T"}):
        answer = phone.client.command(
            "ItemOperations",
            '<ItemOperations xmlns="ItemOperations:"><Fetch><Store>Mailbox</Store>'
            f'<FileReference xmlns="AirSyncBase:">{escape(reference)}</FileReference></Fetch></ItemOperations>',
            headers=headers,
        )
        tree = eas_client.decode(split_parts(answer.body)[0] if headers else answer.body)
        check("a blocked attachment can't be fetched", tree.findtext(".//Fetch/Status") == "16", answer)
        check("and nothing of it comes", b"%PDF" not in answer.body and b"JVBER" not in answer.body, answer)

    subject = f"Reply through a gateway {uuid.uuid4()}"
    letter = mailboxes.message(lab.address, f"{PEER}@{mailboxes.DOMAIN}", subject)
    letter.set_content(f"> {rewritten}\n")
    mime = letter.as_bytes(policy=email.policy.SMTP)
    answer = phone.client.command(
        "SendMail",
        f'<SendMail xmlns="ComposeMail:"><ClientId>{uuid.uuid4()}</ClientId>'
        f"<MIME>{base64.b64encode(mime).decode()}</MIME></SendMail>",
    )
    check("SendMail is accepted", (answer.status, answer.body) == (200, b""), answer)
    sent = wait("the message arrives", lambda: lab.sent_message(subject))
    check("its link is restored", b"https://links.example.com/login?x=1&y=2" in sent and b"safe.test" not in sent, sent)


# --- orders and quarantine -----------------------------------------------------------------------


def orders(lab):
    """Resync, reprovision, quarantine and release, wipe: what a phone sees of each."""
    phone = Phone(lab)
    phone.list_folders()
    device = phone.client.device
    anew = FOLDER_SYNC.replace("<SyncKey>0<", f"<SyncKey>{escape(phone.folder_key)}<")

    def folder_status(body=anew):
        return phone.client.command("FolderSync", body).text("Status")

    check("FolderSync goes on", folder_status() == "1")
    lab.compliance("resync", device)
    check("a resync takes the folders' key back", folder_status() == "9")
    phone.list_folders()

    lab.compliance("reprovision", device)
    check("a reprovision asks for Provision", folder_status() == "142")
    phone.provision()
    lab.compliance("reprovision", device, "--cancel")
    check("and ends when it is taken back", folder_status() == "1")

    lab.compliance("quarantine", device, "--reason", "unknown phone")
    check("a quarantine takes the folders' key back", folder_status() == "9")
    phone.list_folders()
    check("it shows folders of its own", phone.folders[INBOX].startswith("seg-quarantine"), phone.folders)
    ours = FOLDER_SYNC.replace("<SyncKey>0<", f"<SyncKey>{escape(phone.folder_key)}<")
    _, notice = phone.pages(phone.folders[INBOX], 10)
    check("one message says why", len(notice) == 1 and "unknown phone" in notice[0].findtext(".//Data"), notice)
    lab.compliance("unblock", device)
    check("at release its keys are taken back", folder_status(ours) == "9")
    phone.list_folders()
    check("and the server's folders are there", not phone.folders[INBOX].startswith("seg-"), phone.folders)

    lab.compliance("wipe", device)
    check("a wipe is asked for by Status 140", folder_status() == "140")
    answer = phone.client.command("Provision", '<Provision xmlns="Provision:"/>')
    check("Provision brings the order", answer.tree.find("RemoteWipe") is not None, answer)
    answer = phone.client.command(
        "Provision", '<Provision xmlns="Provision:"><RemoteWipe><Status>1</Status></RemoteWipe></Provision>'
    )
    check("the acknowledgement is noted", answer.text("Status") == "1", answer)
    check("a wiped device is blocked", folder_status() == "129")


# --- blocked in the middle of a Ping -------------------------------------------------------------


def block(lab):
    """A block ends the open Ping at once with the refusal, and stays until it is lifted."""
    phone = Phone(lab)
    phone.list_folders()
    phone.read_inbox()
    poll = phone.open_ping(seconds=3000)
    # The mail server would say nothing for 50 minutes: an answer now is the gateway's.
    lab.compliance("block", phone.client.device, "--reason", "interop")
    check("the open Ping is refused", refused(answer := poll.result(), "Ping", lab.version), answer)
    answer = phone.client.command("FolderSync", FOLDER_SYNC)
    check("the next request is refused", refused(answer, "FolderSync", lab.version), answer)
    check("OPTIONS is answered", phone.client.options().status == 200)

    other = lab.client(PEER)
    answer = other.command("FolderSync", FOLDER_SYNC)
    check("another user's phone is not disturbed", answer.text("Status") == "1", answer)

    lab.compliance("unblock", phone.client.device)
    answer = phone.client.command("FolderSync", FOLDER_SYNC)
    check("unblocked, it is served", answer.text("Status") == "1", answer)
    phone.read_inbox()
    phone.wait_for_mail()


FOLDER_SYNC = '<FolderSync xmlns="FolderHierarchy:"><SyncKey>0</SyncKey></FolderSync>'


def refused(answer, command, version):
    """From 14.0 on Status 129 in the command's own root element, before that 403."""
    if version < "14.0":
        return answer.status == 403
    return answer.status == 200 and answer.tree.tag == command and answer.text("Status") == "129"


# --- small parts ---------------------------------------------------------------------------------


class Lab:
    """The server under test and what stands around it, from the command line."""

    def __init__(self, arguments):
        self.user, self.address = arguments.user, f"{arguments.user}@{mailboxes.DOMAIN}"
        self.server, self.ca, self.version = arguments.server, arguments.ca, arguments.version
        self.imap_port, self.sent = arguments.imap_port, arguments.sent
        self.admin, self.token, self.program = arguments.admin, arguments.token, arguments.program
        self.suffix = uuid.uuid4().hex[:12].upper()

    def client(self, user):
        device = f"INTEROP{user.upper()}{self.suffix}"
        return eas_client.Client(self.server, self.ca, user, mailboxes.password(user), device, self.version)

    def wait_for_session(self, device, command):
        if self.admin:
            wait(f"the gateway shows the open {command}", lambda: any(
                session["device"] == device and session["command"] == command for session in self.sessions()
            ))

    def sessions(self):
        token = self.token.read_text().strip()
        request = urllib.request.Request(f"{self.admin}/v1/sessions", headers={"Authorization": f"Bearer {token}"})
        with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as answer:
            return json.load(answer)["sessions"]

    def compliance(self, *words):
        command = [self.program, "--admin", self.admin, "--token-file", self.token, *words]
        result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        check(f"sync-compliance {words[0]}", result.returncode == 0, result)

    def sent_message(self, subject):
        contents = (path.read_bytes() for path in self.sent.glob("*.eml"))
        return next((content for content in contents if subject.encode() in content), None)


class Background:
    """A call in a thread, with its result or its error."""

    def __init__(self, call):
        self.outcome = None
        self.thread = threading.Thread(target=self.run, args=(call,), daemon=True)
        self.thread.start()

    def run(self, call):
        try:
            self.outcome = call(), None
        except Exception as error:  # handed to whoever asks for the result
            self.outcome = None, error

    def result(self):
        self.thread.join(PATIENCE_SECONDS)
        if self.outcome is None:
            raise Failed(f"no answer within {PATIENCE_SECONDS} seconds")
        value, error = self.outcome
        if error:
            raise error
        return value


def split_parts(body):
    """The parts of a MultiPartResponse, MS-ASCMD 2.2.1.10.1."""
    count = int.from_bytes(body[:4], "little")
    fields = [int.from_bytes(body[at:at + 4], "little") for at in range(4, 4 + 8 * count, 4)]
    return [body[offset:offset + length] for offset, length in zip(fields[::2], fields[1::2])]


SCENARIOS = {function.__name__: function for function in (walk, heartbeat, block, content, orders)}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("scenario", choices=SCENARIOS)
    parser.add_argument("--server", required=True)
    parser.add_argument("--ca", required=True)
    parser.add_argument("--imap-port", type=int, required=True)
    parser.add_argument("--sent", type=pathlib.Path, required=True)
    parser.add_argument("--user", default="alice", choices=mailboxes.USERS)
    parser.add_argument("--version", default="14.1")
    parser.add_argument("--admin")
    parser.add_argument("--token", type=pathlib.Path)
    parser.add_argument("--program")
    arguments = parser.parse_args()
    try:
        SCENARIOS[arguments.scenario](Lab(arguments))
    except Failed as failure:
        sys.exit(f"FAILED {failure}")


if __name__ == "__main__":
    main()
