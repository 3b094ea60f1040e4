#!/usr/bin/env python3
"""PyPI's pyactivesync at the version that it speaks by itself, 16.1: it searches by Find, and uploads a draft.

    pyactivesync_newest.py --server HOST:PORT --ca FILE

No mail server that speaks 16.1 could be installed; behind the gateway stands one that gives written answers.
Ends with 0 when every step held.
"""

import argparse
import os
import pathlib
import sys
from email.message import EmailMessage

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from eas_scenarios import check  # noqa: E402

SAFE = "https://safe.example/?u=https%3A%2F%2Fevil.example%2Fa"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--server", required=True)
    parser.add_argument("--ca", required=True)
    arguments = parser.parse_args()
    os.environ["REQUESTS_CA_BUNDLE"] = arguments.ca

    import pyactivesync

    client = pyactivesync.Client(
        server=arguments.server, username="alice@sandbox.example", password="Secret-alice-1", device_id="NEWEST1"
    )
    # The server behind has no policy for clients.
    client._provisioned = True

    found = {item.server_id: item.fields["Find.Preview"] for item in client.find_mailbox("plans", folder_id="5").items}
    check("a link in a preview is rewritten", SAFE in found["5:1"] and "//evil.example" not in found["5:1"], found)
    check("a preview of marked mail is withheld", found["5:2"] == "Not here.", found)

    draft = EmailMessage()
    draft["From"], draft["To"], draft["Subject"] = "alice@sandbox.example", "carol@partner.example", "a draft"
    draft.set_content(f"see {SAFE} here\n")
    draft.add_attachment(b"MZPAYLOAD", maintype="application", subtype="octet-stream", filename="v.exe")
    draft.add_attachment(b"harmless", maintype="application", subtype="octet-stream", filename="p.bin")
    result = client.create_email_draft("5", "1", draft, client_id="draft-1")
    check("the draft is taken", result.status == "1", result)


if __name__ == "__main__":
    main()
