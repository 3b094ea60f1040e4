"""Mail for the users of the lab, and the one IMAP trick that SOGo's Sync depends on."""

import base64
import imaplib
import re
import time
from email.message import EmailMessage
from email.utils import formatdate, make_msgid

DOMAIN = "lab.test"
# One for each test that waits for mail: they run beside each other.
USERS = ("alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi")
PDF = b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def password(user):
    return f"Secret-{user}-1"


def login(user, port):
    connection = imaplib.IMAP4("127.0.0.1", port)
    connection.login(user, password(user))
    return connection


def append(user, port, message, flags=None):
    """Puts one message into a user's INBOX, as new mail from outside would arrive."""
    connection = login(user, port)
    try:
        raw = message if isinstance(message, bytes) else message.as_bytes()
        raw = raw.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        status, answer = connection.append("INBOX", flags, None, raw)
        if status != "OK":
            raise RuntimeError(f"IMAP APPEND for {user}: {status} {answer}")
    finally:
        connection.logout()


def enable_condstore(user, port):
    """Selects every mailbox of a user once with CONDSTORE.

    Dovecot keeps no HIGHESTMODSEQ for a mailbox before somebody did that, and until then SOGo
    answers each Sync of it with an empty body. To be repeated after a mailbox was created.
    """
    connection = login(user, port)
    try:
        for line in connection.list()[1]:
            name = re.search(rb'"/" (.*)$', line).group(1)
            for command in (b"EXAMINE " + name + b" (CONDSTORE)", b"UNSELECT"):
                tag = connection._new_tag()
                connection.send(tag + b" " + command + b"\r\n")
                while not connection.readline().startswith(tag):
                    pass
    finally:
        connection.logout()


def seed(port):
    """Fills the mailboxes of all users: seven messages each, the first of them already read."""
    for user in USERS:
        for index, message in enumerate(messages(user)):
            append(user, port, message, "(\\Seen)" if index == 0 else None)
        enable_condstore(user, port)


def messages(user):
    to = f"{user.title()} Lab <{user}@{DOMAIN}>"

    plain = message("Plain Sender <plain@ext.test>", to, "Plain text only", 7200)
    plain.set_content("Hello,\nthis is plain text. See http://plain.example.com/a?b=1&c=2 .\n")
    yield plain

    html = message("HTML Sender <html@ext.test>", to, "HTML with links", 6000)
    html.set_content("text alternative http://alt.example.com/\n")
    html.add_alternative(
        '<html><body><p>Click <a href="https://links.example.com/login?x=1&amp;y=2">here</a>.</p>'
        '<img src="http://images.example.com/p.gif"></body></html>',
        subtype="html",
    )
    yield html

    one = message("Attach Sender <att@ext.test>", to, "One PDF attachment", 5000)
    one.set_content("see attachment\n")
    one.add_attachment(PDF, maintype="application", subtype="pdf", filename="invoice.pdf")
    yield one

    three = message("Multi Sender <multi@ext.test>", to, "Three attachments, ümläut 日本", 4000)
    three.set_content("Grüße\n")
    three.add_attachment(PDF, maintype="application", subtype="pdf", filename="Rechnung Übersicht.pdf")
    three.add_attachment(
        bytes(range(256)) * 1200, maintype="application", subtype="octet-stream", filename="big.bin"
    )
    three.add_attachment("name,amount\na,1\n", subtype="csv", filename="list.csv")
    yield three

    inline = message("Inline Sender <inline@ext.test>", to, "HTML with inline image", 3000)
    inline.set_content("alt\n")
    inline.add_alternative('<html><body>logo <img src="cid:logo@lab"></body></html>', subtype="html")
    inline.get_payload()[1].add_related(
        PNG, maintype="image", subtype="png", cid="<logo@lab>", filename="logo.png"
    )
    yield inline

    inner = message("Inner <inner@ext.test>", to, "inner message", 9000)
    inner.set_content("inner text\n")
    outer = message("Forwarder <fwd@ext.test>", to, "Message with attached message", 2000)
    outer.set_content("attached mail\n")
    outer.add_attachment(inner)
    yield outer

    long = message("Long Sender <long@ext.test>", to, "Long HTML body", 1000)
    long.set_content("long\n")
    rows = "".join(f'<p>row {i} <a href="https://l.example.com/{i}">link</a></p>' for i in range(4000))
    long.add_alternative(f"<html><body>{rows}</body></html>", subtype="html")
    yield long


def message(sender, to, subject, age=0):
    """The head of a message that is `age` seconds old."""
    head = EmailMessage()
    head["From"] = sender
    head["To"] = to
    head["Subject"] = subject
    head["Date"] = formatdate(time.time() - age)
    head["Message-ID"] = make_msgid(domain="ext.test")
    return head
