//! A directory that is not Active Directory: OpenLDAP's slapd, which takes no password in the clear.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use crate::authority::Authority;
use crate::eventually;
use crate::gateway::free_address;

/// The base of its tree.
pub const BASE: &str = "dc=corp,dc=example";
/// Who may read and write everything.
pub const MANAGER: &str = "cn=manager,dc=corp,dc=example";
/// His password.
pub const PASSWORD: &str = "the-manager-of-the-test";

/// A running slapd with a folder of its own; it ends with this.
#[derive(Debug)]
pub struct OpenLdap {
    folder: tempfile::TempDir,
    process: Child,
    plain: SocketAddr,
    tls: SocketAddr,
}

impl OpenLdap {
    /// Starts it with a certificate of `authority`, and adds `entries` (LDIF, below [`BASE`]).
    ///
    /// # Panics
    /// When it does not start or take the entries; the message says why.
    pub async fn start(authority: &Authority, entries: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        let write = |name: &str, text: &str| std::fs::write(path(name), text).expect("a file");
        let identity = authority.server(&["127.0.0.1"]);
        write("ca.pem", &authority.pem());
        write("slapd.pem", &identity.certificate);
        write("slapd.key", &identity.key);
        std::fs::create_dir(path("db")).expect("a folder");
        let home = folder.path().display();
        write(
            "slapd.conf",
            &format!(
                "include /etc/ldap/schema/core.schema\n\
                 include /etc/ldap/schema/cosine.schema\n\
                 include /etc/ldap/schema/inetorgperson.schema\n\
                 modulepath /usr/lib/ldap\nmoduleload back_mdb\nmoduleload memberof\n\
                 pidfile {home}/slapd.pid\n\
                 TLSCACertificateFile {home}/ca.pem\nTLSCertificateFile {home}/slapd.pem\n\
                 TLSCertificateKeyFile {home}/slapd.key\n\
                 security simple_bind=128\n\
                 database mdb\nsuffix \"{BASE}\"\nrootdn \"{MANAGER}\"\nrootpw {PASSWORD}\n\
                 directory {home}/db\noverlay memberof\n"
            ),
        );
        let (plain, tls) = (free_address(), free_address());
        let process = Command::new("slapd")
            .args(["-d", "0", "-h", &format!("ldap://{plain}/ ldaps://{tls}/")])
            .arg("-f")
            .arg(path("slapd.conf"))
            .stderr(Stdio::inherit())
            .spawn()
            .expect("slapd runs; mend: apt-get install --no-install-recommends slapd");
        let directory = Self {
            folder,
            process,
            plain,
            tls,
        };
        eventually("slapd", || async {
            tokio::net::TcpStream::connect(tls).await.ok()
        })
        .await;
        let root = format!(
            "dn: {BASE}\nobjectClass: dcObject\nobjectClass: organization\no: corp\ndc: corp\n\n"
        );
        let added = directory.add(&(root + entries));
        let said = String::from_utf8_lossy(&added.stderr);
        assert!(added.status.success(), "{said}");
        directory
    }

    fn add(&self, entries: &str) -> Output {
        let file = self.path("entries.ldif");
        std::fs::write(&file, entries).expect("a file");
        Command::new("ldapadd")
            .args([
                "-x",
                "-H",
                &self.ldaps(),
                "-D",
                MANAGER,
                "-w",
                PASSWORD,
                "-f",
            ])
            .arg(file)
            .env("LDAPTLS_CACERT", self.path("ca.pem"))
            .output()
            .expect("ldapadd runs; mend: apt-get install --no-install-recommends ldap-utils")
    }

    /// Where it speaks TLS from the first byte.
    #[must_use]
    pub fn ldaps(&self) -> String {
        format!("ldaps://{}", self.tls)
    }

    /// Where it speaks StartTLS.
    #[must_use]
    pub fn ldap(&self) -> String {
        format!("ldap://{}", self.plain)
    }

    /// A file of its folder: `ca.pem` is its authority.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Drop for OpenLdap {
    fn drop(&mut self) {
        // It may have ended already; either way nothing is left to do here.
        let _gone = self.process.kill();
        let _gone = self.process.wait();
    }
}
