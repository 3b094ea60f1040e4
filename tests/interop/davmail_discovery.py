#!/usr/bin/env python3
"""DavMail's own Autodiscover (Debian's davmail-server): its request, its reader of the answer.

    davmail_discovery.py URL USER PASSWORD CAFILE

URL is the address of autodiscover.xml, USER an address, CAFILE a PEM file with the authority to
trust. DavMail's class is driven by a few lines of Java, which the JDK runs from their source.

Prints one line of JSON: {"ok": true, "endpoint": ...} and exits with 0, or {"ok": false, ...} and
exits with 1.
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile

JAR = "/usr/share/davmail/davmail.jar"
LIBRARIES = "/usr/share/java"

SOURCE = """
import davmail.exchange.ews.AutoDiscoverMethod;
import java.util.Base64;
import org.apache.http.client.methods.CloseableHttpResponse;
import org.apache.http.impl.client.CloseableHttpClient;
import org.apache.http.impl.client.HttpClients;

public class Discover {
    public static void main(String[] given) throws Exception {
        AutoDiscoverMethod asked = new AutoDiscoverMethod(given[0], given[1]);
        String login = given[1] + ":" + System.getenv("DISCOVER_PASSWORD");
        String basic = Base64.getEncoder().encodeToString(login.getBytes("UTF-8"));
        asked.setHeader("Authorization", "Basic " + basic);
        try (CloseableHttpClient client = HttpClients.createDefault();
             CloseableHttpResponse answer = client.execute(asked)) {
            System.out.println(answer.getStatusLine().getStatusCode());
            System.out.println(asked.handleResponse(answer));
        }
    }
}
"""


def main():
    url, user, password, authority = sys.argv[1:5]
    with tempfile.TemporaryDirectory(prefix="davmail-") as folder:
        folder = pathlib.Path(folder)
        truststore = folder / "trust.p12"
        subprocess.run(
            ["keytool", "-importcert", "-noprompt", "-alias", "authority", "-file", authority,
             "-keystore", truststore, "-storetype", "PKCS12", "-storepass", "changeit"],
            check=True, capture_output=True,
        )
        source = folder / "Discover.java"
        source.write_text(SOURCE)
        done = subprocess.run(
            ["java", f"-Djavax.net.ssl.trustStore={truststore}",
             "-Djavax.net.ssl.trustStorePassword=changeit",
             "-cp", os.pathsep.join([JAR, f"{LIBRARIES}/*"]), str(source), url, user],
            env={**os.environ, "DISCOVER_PASSWORD": password}, capture_output=True, text=True,
        )
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    endpoint = lines[-1] if lines else ""
    ok = done.returncode == 0 and endpoint.startswith("https://")
    print(json.dumps({"ok": ok, "endpoint": endpoint, "said": (done.stdout + done.stderr)[-800:]}))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
