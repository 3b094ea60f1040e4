"""Takes what SOGo sends over SMTP: a file for every message, and a copy into the INBOX of each
recipient who is a user of the lab, so that a Ping of his fires.

    smtp_sink.py PORT IMAP_PORT FOLDER
"""

import pathlib
import socketserver
import sys
import threading

import mailboxes

MAX_MESSAGE_BYTES = 50_000_000


class Session(socketserver.StreamRequestHandler):
    sequence = 0
    lock = threading.Lock()

    def handle(self):
        self.sender, self.recipients = "", []
        self.say("220 lab.test ESMTP")
        while line := self.rfile.readline(4096):
            verb, _, argument = line.decode("latin-1").strip().partition(" ")
            match verb.upper():
                case "EHLO":
                    self.say("250-lab.test", f"250 SIZE {MAX_MESSAGE_BYTES}")
                case "HELO" | "NOOP":
                    self.say("250 lab.test")
                case "RSET":
                    self.recipients = []
                    self.say("250 done")
                case "MAIL":
                    self.sender, self.recipients = address(argument), []
                    self.say("250 sender ok")
                case "RCPT":
                    self.recipients.append(address(argument))
                    self.say("250 recipient ok")
                case "DATA":
                    self.say("354 end with a dot")
                    self.accept(self.read_message())
                    self.say("250 queued")
                case "QUIT":
                    self.say("221 bye")
                    return
                case _:
                    self.say("502 not known here")

    def say(self, *lines):
        self.wfile.write("".join(line + "\r\n" for line in lines).encode())

    def read_message(self):
        lines, size = [], 0
        while (line := self.rfile.readline()) not in (b".\r\n", b".\n", b""):
            size += len(line)
            if size > MAX_MESSAGE_BYTES:
                raise RuntimeError("message too large")
            lines.append(line[1:] if line.startswith(b"..") else line)
        return b"".join(lines)

    def accept(self, message):
        with Session.lock:
            Session.sequence += 1
            name = f"{Session.sequence:05}.eml"
        partial = self.server.folder / (name + ".partial")
        partial.write_bytes(message)
        partial.rename(self.server.folder / name)
        for recipient in self.recipients:
            user, _, domain = recipient.lower().partition("@")
            if domain == mailboxes.DOMAIN and user in mailboxes.USERS:
                mailboxes.append(user, self.server.imap_port, message)


class Sink(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


def address(argument):
    return argument.partition("<")[2].partition(">")[0]


def main():
    port, imap_port, folder = sys.argv[1:]
    with Sink(("127.0.0.1", int(port)), Session) as sink:
        sink.imap_port, sink.folder = int(imap_port), pathlib.Path(folder)
        sink.serve_forever()


if __name__ == "__main__":
    main()
