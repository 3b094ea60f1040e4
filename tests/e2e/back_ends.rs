//! Servers of three kinds behind one address at once: SOGo for ActiveSync, Apache with its own
//! logins for EWS, nginx for a portal.

use std::fs::Permissions;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use seg_core::sandbox::{Filter, Kind, Sandbox, SandboxOptions, requests};
use seg_tests::eas::{Request, soap};
use seg_tests::gateway::free_address;
use seg_tests::sogo::Lab;
use seg_tests::{Gateway, eventually};

use crate::block::GET_INBOX;
use crate::sandbox::is_served;

/// A server that runs until it is dropped.
struct Server {
    address: SocketAddr,
    child: Child,
}

impl Server {
    async fn start(command: &mut Command, address: SocketAddr) -> Self {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nginx-light and apache2 are installed");
        let server = Self { address, child };
        eventually("a server that listens", || async {
            tokio::net::TcpStream::connect(address).await.ok()
        })
        .await;
        server
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Asked, so that it ends its own children too.
        let _ = Command::new("kill")
            .arg(self.child.id().to_string())
            .status();
        let _ = self.child.wait();
    }
}

/// Apache in front of `behind`, which lets nobody pass without a password of its own list.
async fn apache(folder: &Path, behind: &Sandbox) -> Server {
    let address = free_address();
    let hashed = Command::new("openssl")
        .args(["passwd", "-apr1", "Secret-alice-1"])
        .output()
        .expect("openssl runs");
    let hashed = String::from_utf8_lossy(&hashed.stdout).trim().to_owned();
    let users = folder.join("users");
    std::fs::write(&users, format!("alice@sandbox.example:{hashed}\n")).expect("written");
    let modules = [
        "mpm_event",
        "authn_core",
        "authn_file",
        "authz_core",
        "authz_user",
        "auth_basic",
        "proxy",
        "proxy_http",
    ];
    let modules: String = modules
        .map(|name| format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n"))
        .concat();
    let (place, url) = (folder.display(), behind.url());
    let settings = format!(
        "{modules}ServerName localhost\nListen {address}\nDefaultRuntimeDir {place}\n\
         PidFile {place}/apache.pid\nErrorLog {place}/apache.log\nUser www-data\nGroup www-data\n\
         <Location \"/\">\nAuthType Basic\nAuthName \"corp\"\nAuthUserFile {}\n\
         Require valid-user\nProxyPass {url}/\n</Location>\n",
        users.display()
    );
    let file = folder.join("apache.conf");
    std::fs::write(&file, settings).expect("written");
    let mut command = Command::new("apache2");
    command.arg("-f").arg(file).arg("-DFOREGROUND");
    Server::start(&mut command, address).await
}

/// nginx with a portal of files.
async fn nginx(folder: &Path, large: &[u8]) -> Server {
    let address = free_address();
    let portal = folder.join("html/portal");
    std::fs::create_dir_all(&portal).expect("a folder");
    std::fs::write(portal.join("large"), large).expect("written");
    let place = folder.display();
    let settings = format!(
        "daemon off;\nuser www-data;\nworker_processes 1;\npid {place}/nginx.pid;\n\
         error_log {place}/nginx.log;\nevents {{}}\nhttp {{\naccess_log off;\n\
         client_body_temp_path {place}/body;\nproxy_temp_path {place}/proxy;\n\
         fastcgi_temp_path {place}/fastcgi;\nuwsgi_temp_path {place}/uwsgi;\n\
         scgi_temp_path {place}/scgi;\n\
         server {{ listen {address}; root {place}/html; }}\n}}\n"
    );
    let file = folder.join("nginx.conf");
    std::fs::write(&file, settings).expect("written");
    let mut command = Command::new("nginx");
    command.arg("-c").arg(file).arg("-p").arg(folder);
    Server::start(&mut command, address).await
}

#[tokio::test]
async fn nginx_apache_and_sogo_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    // Their workers run as another user.
    std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("set");
    let lab = Lab::shared();
    let exchange = Sandbox::start(SandboxOptions::plain()).expect("a sandbox");
    let large: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    let apache = apache(folder.path(), &exchange).await;
    let nginx = nginx(folder.path(), &large).await;
    let gateway = Gateway::alone()
        .upstream(&format!("https://localhost:{}", lab.port()), &lab.ca_pem())
        .set("ews.email.server.host.and.port", apache.url())
        .set("route.portal.path", "/portal")
        .set("route.portal.upstream", nginx.url())
        .start()
        .await;

    let mail = Request::eas("FolderSync", "alice", "BACKENDS", requests::FOLDER_SYNC)
        .without("Authorization")
        .header("Authorization", "Basic YWxpY2U6U2VjcmV0LWFsaWNlLTE=");
    let inbox = Request::ews("alice", &soap(GET_INBOX));
    let nameless = inbox.clone().without("Authorization");
    let file = Request::new("GET", "/portal/large");
    let part = file.clone().header("Range", "bytes=1000000-1000999");
    let (mail, inbox, nameless, file, part) = tokio::join!(
        gateway.ask(&mail),
        gateway.ask(&inbox),
        gateway.ask(&nameless),
        gateway.ask(&file),
        gateway.ask(&part),
    );
    assert!(is_served(&mail), "{mail:?}");
    assert_eq!(inbox.status(), 200, "{inbox:?}");
    assert_eq!(exchange.count(&Filter::kind(Kind::Ews)), 1);
    // Apache's own challenge.
    assert_eq!(nameless.status(), 401);
    let challenge = nameless.header("www-authenticate");
    assert_eq!(challenge, Some("Basic realm=\"corp\""));
    assert!(
        file.status() == 200 && file.body == large,
        "{}",
        file.status()
    );
    assert_eq!(part.status(), 206);
    assert_eq!(part.body, large[1_000_000..1_001_000]);

    // Each is told of by its own name.
    let told = gateway.admin.read("/v1/upstreams").await.to_string();
    for url in [apache.url(), format!("https://localhost:{}", lab.port())] {
        assert!(told.contains(&url), "{told}");
    }
}
