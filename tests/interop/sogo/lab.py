#!/usr/bin/env python3
"""A real ActiveSync server for the interop tests: SOGo with PostgreSQL, Dovecot and nginx from
Debian's packages (../packages.txt), on free ports of 127.0.0.1, in a state folder of its own.

    lab.py start [--keep]   starts one and prints its description as one line of JSON
    lab.py stop STATE       ends the lab in that state folder and removes the folder
    lab.py sweep            ends every lab whose starter is gone

Several labs can run beside each other. Nothing outside of the state folder is written. `--keep`
leaves the lab to `stop`; otherwise `sweep` takes it when the process that called `start` is gone.
"""

import argparse
import glob
import json
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request
from base64 import b64encode

import mailboxes

HERE = pathlib.Path(__file__).resolve().parent
# Other users (postgres, sogo, dovecot's) must be able to reach the state: not a private folder.
STATE_PREFIX = "/var/tmp/seg-sogo-"
START_SECONDS = 60
PORTS = ("HTTPS_PORT", "SOGO_PORT", "PG_PORT", "IMAP_PORT", "SMTP_PORT", "MEMCACHED_PORT")
PROGRAMS = {
    "/usr/sbin/sogod": "sogo",
    "/usr/lib/GNUstep/SOGo/ActiveSync.SOGo": "sogo-activesync",
    "/usr/sbin/dovecot": "dovecot-imapd",
    "/usr/bin/memcached": "memcached",
    "/usr/sbin/nginx": "nginx-light",
    "/usr/bin/openssl": "openssl",
    "/usr/lib/postgresql/*/bin/initdb": "postgresql",
}


class LabError(Exception):
    """Why there is no lab, for people."""


def main():
    parser = argparse.ArgumentParser()
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("start").add_argument("--keep", action="store_true")
    verbs.add_parser("stop").add_argument("state", type=pathlib.Path)
    verbs.add_parser("sweep")
    arguments = parser.parse_args()
    # An order to leave is an error like any other: what was started is ended first.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("lab.py: ended by SIGTERM"))
    try:
        match arguments.verb:
            case "start":
                print(json.dumps(start(owner=1 if arguments.keep else os.getppid())))
            case "stop":
                stop(arguments.state)
            case "sweep":
                sweep()
    except LabError as error:
        sys.exit(f"lab.py: {error}")


# --- start ---------------------------------------------------------------------------------------


def start(owner):
    check_machine()
    lab = Lab(pathlib.Path(tempfile.mkdtemp(prefix=STATE_PREFIX)), owner)
    try:
        lab.lay_out()
        lab.start_database()
        lab.start_mail()
        lab.start_sogo()
    except BaseException:
        show_logs(lab.state)
        stop(lab.state)
        raise
    return lab.describe()


def check_machine():
    missing = sorted({package for path, package in PROGRAMS.items() if not glob.glob(path)})
    if missing:
        raise LabError(f"missing packages; mend: apt-get install --no-install-recommends {' '.join(missing)}")
    if os.geteuid() != 0:
        raise LabError("needs root: its daemons run as users of their own")


class Lab:
    def __init__(self, state, owner):
        self.state = state
        self.ports = free_ports()
        self.daemons = state / "daemons.json"
        self.values = {
            **{name: str(port) for name, port in self.ports.items()},
            "STATE": str(state),
            "DATABASE": f"postgresql://sogo:sogo@127.0.0.1:{self.ports['PG_PORT']}/sogo",
        }
        write_json(self.daemons, {"owner": identity(owner), "processes": []})

    def describe(self):
        return {
            "state": str(self.state),
            "https_port": self.ports["HTTPS_PORT"],
            "imap_port": self.ports["IMAP_PORT"],
            "ca": str(self.state / "etc/ca.crt"),
            "sent": str(self.state / "sent"),
        }

    def lay_out(self):
        self.state.chmod(0o755)
        for name in ("etc", "log", "run", "run/dovecot", "sent"):
            (self.state / name).mkdir()
        for name, owner in (("run/postgresql", "postgres"), ("pg", "postgres"), ("run/sogo", "sogo"),
                            ("spool", "sogo"), ("mail", "sogo")):
            (self.state / name).mkdir(mode=0o700 if name == "pg" else 0o755)
            shutil.chown(self.state / name, owner, owner)
        for name in ("dovecot.conf", "nginx.conf", "postgresql.conf"):
            (self.state / "etc" / name).write_text(self.render(name))
        self.write_users()
        self.write_certificate()

    def render(self, name):
        text = (HERE / name).read_text()
        for key, value in self.values.items():
            text = text.replace(f"@{key}@", value)
        return text

    def write_users(self):
        mail = self.state / "mail"
        owner = mail.stat()
        users = self.state / "etc/users"
        users.write_text("".join(
            f"{user}:{{PLAIN}}{mailboxes.password(user)}:{owner.st_uid}:{owner.st_gid}::{mail / user}::\n"
            for user in mailboxes.USERS
        ))
        shutil.chown(users, "root", "dovecot")
        users.chmod(0o640)

    def write_certificate(self):
        """A CA and a leaf below it, so that clients can verify."""
        etc = self.state / "etc"
        extensions = etc / "extensions"
        extensions.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")

        def openssl(*words):
            run(["openssl", *words], cwd=etc)

        key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
        openssl("req", "-x509", *key, "-days", "30", "-subj", "/CN=Lab CA", "-keyout", "ca.key", "-out", "ca.crt")
        openssl("req", *key, "-subj", "/CN=localhost", "-keyout", "server.key", "-out", "server.csr")
        openssl("x509", "-req", "-days", "30", "-in", "server.csr", "-CA", "ca.crt", "-CAkey", "ca.key",
                "-CAcreateserial", "-extfile", "extensions", "-out", "server.crt")

    def start_database(self):
        bin = pathlib.Path(sorted(glob.glob("/usr/lib/postgresql/*/bin"))[-1])
        data = str(self.state / "pg")
        run([bin / "initdb", "-D", data, "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8",
             "--no-sync"], user="postgres")
        self.spawn("postgresql", [bin / "postgres", "-D", data, "-c",
                                  f"config_file={self.state}/etc/postgresql.conf"], user="postgres")
        sql = [bin / "psql", "-qAt", "-v", "ON_ERROR_STOP=1", "-h", str(self.state / "run/postgresql"),
               "-p", str(self.ports["PG_PORT"]), "-U", "postgres"]
        wait("PostgreSQL", lambda: succeeds([*sql, "-c", "select 1"], user="postgres"))
        run([*sql, "-c", "create role sogo login password 'sogo'"], user="postgres")
        run([*sql, "-c", "create database sogo owner sogo"], user="postgres")
        rows = ", ".join(
            f"('{user}', '{user}', '{mailboxes.password(user)}', '{user.title()} Lab', '{user}@{mailboxes.DOMAIN}')"
            for user in mailboxes.USERS
        )
        run([*sql, "-d", "sogo", "-c",
             "set role sogo; create table sogo_users "
             "(c_uid text primary key, c_name text, c_password text, c_cn text, mail text);"
             f"insert into sogo_users values {rows}"], user="postgres")

    def start_mail(self):
        ports = self.ports
        self.spawn("memcached", ["memcached", "-u", "nobody", "-l", "127.0.0.1", "-U", "0", "-m", "64",
                                 "-p", str(ports["MEMCACHED_PORT"])])
        self.spawn("dovecot", ["dovecot", "-F", "-c", str(self.state / "etc/dovecot.conf")])
        self.spawn("smtp_sink", [sys.executable, str(HERE / "smtp_sink.py"), str(ports["SMTP_PORT"]),
                                 str(ports["IMAP_PORT"]), str(self.state / "sent")])
        for name in ("MEMCACHED_PORT", "IMAP_PORT", "SMTP_PORT"):
            wait(name, lambda: is_open(ports[name]))
        mailboxes.seed(ports["IMAP_PORT"])

    def start_sogo(self):
        # Settings on the command line stand above the machine's /etc/sogo, which stays as it is.
        setting = re.compile(r"^  (\w+) = (.*?);\n(?=  [\w/]|\})", re.MULTILINE | re.DOTALL)
        settings = setting.findall(self.render("sogo.conf"))
        self.spawn("sogo", ["/usr/sbin/sogod", "-WONoDetach", "YES", "-WOLogFile", "-",
                            "-WOPidFile", str(self.state / "run/sogo/sogo.pid"),
                            *(word for key, value in settings for word in (f"-{key}", value))],
                   user="sogo", environment={"HOME": str(self.state / "run/sogo")})
        self.spawn("nginx", ["nginx", "-c", str(self.state / "etc/nginx.conf")])
        wait("SOGo", self.answers_options)

    def answers_options(self):
        user = mailboxes.USERS[0]
        request = urllib.request.Request(
            f"https://127.0.0.1:{self.ports['HTTPS_PORT']}/Microsoft-Server-ActiveSync", method="OPTIONS",
            headers={"Authorization": "Basic " + b64encode(f"{user}:{mailboxes.password(user)}".encode()).decode()})
        trust = ssl.create_default_context(cafile=self.state / "etc/ca.crt")
        try:
            with urllib.request.urlopen(request, timeout=10, context=trust) as answer:
                return bool(answer.headers.get("MS-ASProtocolVersions"))
        except OSError:
            return False

    def spawn(self, name, command, user=None, environment=None):
        """Starts a daemon in a session of its own, with all three streams redirected, so that
        nobody waits for its end on a pipe."""
        with open(self.state / "log" / f"{name}.out", "ab") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", start_new_session=True,
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", **(environment or {})},
                **as_user(user))
        record = json.loads(self.daemons.read_text())
        record["processes"].append({"name": name, **identity(process.pid)})
        write_json(self.daemons, record)


# --- stop ----------------------------------------------------------------------------------------

# What a daemon takes as the order to leave quickly; TERM where nothing is said.
LEAVE = {"postgresql": signal.SIGINT}
# sogod's watchdog waits for busy workers, so it gets no time.
LEAVE_SECONDS = {"sogo": 0.2}


def stop(state):
    if not str(state).startswith(STATE_PREFIX):
        raise LabError(f"{state} is no state folder of a lab")
    for daemon in reversed(read_record(state)["processes"]):
        name, leader = daemon.pop("name"), daemon
        # Workers may sit in sessions of their own and outlive their leader: note them first.
        family = [leader, *descendants(leader["pid"])] if lives(leader) else []
        send(family[:1], LEAVE.get(name, signal.SIGTERM))
        deadline = time.monotonic() + LEAVE_SECONDS.get(name, 10)
        while any(map(lives, family)) and time.monotonic() < deadline:
            time.sleep(0.02)
        send(filter(lives, family), signal.SIGKILL)
    shutil.rmtree(state, ignore_errors=True)


def sweep():
    for state in map(pathlib.Path, glob.glob(STATE_PREFIX + "*")):
        owner = read_record(state)["owner"]
        young = time.time() - state.stat().st_mtime < START_SECONDS
        if not (lives(owner) if owner else young):
            stop(state)


def read_record(state):
    try:
        return json.loads((state / "daemons.json").read_text())
    except FileNotFoundError:
        return {"owner": None, "processes": []}


def send(processes, which):
    for process in processes:
        try:
            os.kill(process["pid"], which)
        except ProcessLookupError:
            pass


def descendants(pid):
    found = []
    for path in glob.glob("/proc/[0-9]*"):
        child = int(path.rpartition("/")[2])
        fields = status_fields(child)
        if fields and int(fields[1]) == pid:
            found += [identity(child), *descendants(child)]
    return [process for process in found if process]


def identity(pid):
    """A process id with the time of its start: a recycled id is another process."""
    fields = status_fields(pid)
    return {"pid": pid, "born": int(fields[19])} if fields else None


def lives(process):
    """Whether the process still runs; one that nobody has collected yet (a zombie) does not."""
    fields = status_fields(process["pid"])
    return bool(fields) and int(fields[19]) == process["born"] and fields[0] not in "ZX"


def status_fields(pid):
    """The fields of /proc/PID/stat from the state on; empty where there is no such process."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


# --- small parts ---------------------------------------------------------------------------------


def free_ports():
    """One free port for each name, below those that the system gives to outgoing connections."""
    candidates = iter(random.sample(range(10_000, 20_000), 1000))
    return {name: next(port for port in candidates if not is_taken(port)) for name in PORTS}


def is_taken(port):
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def wait(what, ready):
    deadline = time.monotonic() + START_SECONDS
    while not ready():
        if time.monotonic() > deadline:
            raise LabError(f"{what} was not ready after {START_SECONDS} seconds")
        time.sleep(0.05)


def is_open(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def run(command, user=None, cwd="/"):
    result = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                            cwd=cwd, **as_user(user))
    if result.returncode:
        raise LabError(f"{command[0]} failed: {result.stdout.decode(errors='replace')[-2000:]}")


def succeeds(command, user):
    result = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                            stderr=subprocess.DEVNULL, cwd="/", **as_user(user))
    return result.returncode == 0


def as_user(user):
    return {"user": user, "group": user, "extra_groups": []} if user else {}


def write_json(path, value):
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(value))
    partial.rename(path)


def show_logs(state):
    for log in sorted((state / "log").glob("*")):
        lines = log.read_text(errors="replace").splitlines()[-15:]
        print(f"--- {log.name}", *lines, sep="\n", file=sys.stderr)


if __name__ == "__main__":
    main()
