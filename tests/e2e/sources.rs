//! Sources, from the system that knows a device to the phone that has its mail or not.

use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use seg_core::sandbox::Sandbox;
use seg_tests::Gateway;
use seg_tests::ad::Lab;
use seg_tests::authority::Authority;
use seg_tests::openldap::{self, OpenLdap};
use seg_tests::program::program;
use seg_tests::tunnel::{Asked, Tunnel};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::sandbox::{self, folder_sync, is_served};

/// A management system with ten devices; it can lose half of them, and break off.
#[derive(Default)]
struct System {
    half: AtomicBool,
    broken: AtomicBool,
    asked: AtomicUsize,
}

impl System {
    async fn start(self: &Arc<Self>) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("a port");
        let address = listener.local_addr().expect("its address");
        let system = Arc::clone(self);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = vec![0; 8192];
                let length = stream.read(&mut head).await.unwrap_or(0);
                let head = String::from_utf8_lossy(&head[..length]).into_owned();
                system.asked.fetch_add(1, Ordering::SeqCst);
                let _sent = stream.write_all(system.answer(&head).as_bytes()).await;
            }
        });
        address
    }

    fn answer(&self, head: &str) -> String {
        let device = |id: &str| {
            format!(r#"{{"id":"{id}","who":"alice@sandbox.example","state":"compliant"}}"#)
        };
        let list = match head.split("one=").nth(1) {
            Some(rest) => {
                let id = rest.split(' ').next().unwrap_or_default();
                if id == "LATECOMER" {
                    vec![device(id)]
                } else {
                    Vec::new()
                }
            }
            None => {
                let count = if self.half.load(Ordering::SeqCst) {
                    4
                } else {
                    10
                };
                (0..count)
                    .map(|index| device(&format!("SRC{index}")))
                    .collect()
            }
        };
        let body = format!("{{\"devices\":[{}]}}", list.join(","));
        let said = if self.broken.load(Ordering::SeqCst) {
            body.len() + 100
        } else {
            body.len()
        };
        format!("HTTP/1.1 200 OK\r\nContent-Length: {said}\r\nConnection: close\r\n\r\n{body}")
    }
}

fn definition(address: SocketAddr) -> String {
    format!(
        "[[source]]\nname=\"own\"\ntype=\"json\"\nurl=\"http://{address}\"\npath=\"/devices\"\n\
         items=\"$.devices\"\nlookup=\"/devices?one={{device}}\"\non_miss=true\ntries=2\n\
         map={{device_id=\"$.id\",user=\"$.who\",compliant=\"$.state\"}}\n"
    )
}

/// `sync-compliance` with these words: exit code, output and errors together.
pub(crate) async fn called(gateway: &Gateway, words: &[&str]) -> (u8, String) {
    let config = gateway.path("application.properties").display().to_string();
    let token = gateway.token_path().display().to_string();
    let mut all: Vec<OsString> = [
        "sync-compliance",
        "--config",
        &config,
        "--token-file",
        &token,
    ]
    .map(OsString::from)
    .to_vec();
    all.extend(words.iter().map(OsString::from));
    let ran = tokio::task::spawn_blocking(move || {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = seg_compliance::cli::run(all, &mut out, &mut err);
        out.extend(err);
        (code, String::from_utf8(out).expect("text"))
    });
    ran.await.expect("the call ends")
}

#[tokio::test]
async fn a_source_is_pulled_whole_or_not_at_all() {
    let (sandbox, system) = (sandbox::start(), Arc::new(System::default()));
    let address = system.start().await;
    let builder = Gateway::before(&sandbox).set("compliance.unknown.device", "block");
    builder.file(
        "sources.toml",
        definition(address).replace("on_miss=true\n", ""),
    );
    let gateway = builder.start().await;
    assert!(!is_served(&gateway.ask(&folder_sync("SRC9")).await));
    let (code, said) = called(&gateway, &["pull", "--source", "own"]).await;
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("10 read: 10 applied"), "{said}");
    assert!(is_served(&gateway.ask(&folder_sync("SRC9")).await));

    // It breaks off: nothing of it is used.
    system.broken.store(true, Ordering::SeqCst);
    let (code, said) = called(&gateway, &["pull", "--source", "own"]).await;
    assert!(code == 2 && said.contains("after 2 tries"), "{code} {said}");
    assert!(is_served(&gateway.ask(&folder_sync("SRC9")).await));
    system.broken.store(false, Ordering::SeqCst);

    // It has lost most of its devices, as far as it says: somebody has to look.
    system.half.store(true, Ordering::SeqCst);
    let (code, said) = called(&gateway, &["pull", "--source", "own"]).await;
    assert!(code == 2 && said.contains("--force"), "{code} {said}");
    assert!(is_served(&gateway.ask(&folder_sync("SRC9")).await));
    let (code, said) = called(&gateway, &["pull", "--source", "own", "--dry-run"]).await;
    assert_eq!(code, 0, "{said}");
    for part in ["SRC9 ", "-> block", "6 would be removed"] {
        assert!(said.contains(part), "{part}\n{said}");
    }
    assert!(!said.contains("SRC3 "), "{said}");
    assert!(is_served(&gateway.ask(&folder_sync("SRC9")).await));
    let (code, said) = called(&gateway, &["pull", "--source", "own", "--force"]).await;
    assert!(code == 0 && said.contains("6 removed"), "{code} {said}");
    assert!(!is_served(&gateway.ask(&folder_sync("SRC9")).await));

    let (code, said) = called(&gateway, &["pull", "--source", "other"]).await;
    assert!(code == 2 && said.contains("own"), "{code} {said}");
}

// `seg check` is waited for while the system has to answer it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_system_with_a_private_ca_is_asked_through_the_proxy() {
    let (sandbox, authority) = (sandbox::start(), Authority::new());
    let identity = authority.server(&["uem.corp.example"]);
    let body = r#"{"devices":[{"id":"BEHIND","who":"alice@sandbox.example"}]}"#;
    let mut tunnel = Tunnel::start(&identity, body).await;
    let builder = Gateway::before(&sandbox)
        .set("compliance.unknown.device", "block")
        .set("outbound.proxy.url", tunnel.url());
    builder.file("ca.pem", authority.pem());
    builder.file(
        "sources.toml",
        "[[source]]\nname=\"own\"\ntype=\"json\"\nurl=\"https://uem.corp.example\"\npath=\"/devices\"\n\
         items=\"$.devices\"\ntries=1\nca_path=\"ca.pem\"\nmap={device_id=\"$.id\",user=\"$.who\"}\n",
    );
    let gateway = builder.start().await;
    assert!(!is_served(&gateway.ask(&folder_sync("BEHIND")).await));
    let (ok, said) = checked(&gateway, "source own");
    assert!(ok, "{said}");
    let (code, said) = called(&gateway, &["pull", "--source", "own"]).await;
    assert_eq!(code, 0, "{said}");
    assert!(is_served(&gateway.ask(&folder_sync("BEHIND")).await));
    for _ in ["check", "pull"] {
        let Asked { proxy, server } = tunnel.asked().await;
        let connect = "CONNECT uem.corp.example:443 HTTP/1.1\r\n";
        assert!(proxy.starts_with(connect), "{proxy}");
        assert!(proxy.contains("Basic dXNlcjpwYXNz"), "{proxy}");
        assert!(server.starts_with("GET /devices HTTP/1.1\r\n"), "{server}");
    }
    // Its own proxy, whose password stands elsewhere, comes before everybody's.
    let mut own = Tunnel::start(&identity, body).await;
    fs::write(gateway.path("proxy"), own.url()).expect("a file");
    let definitions = fs::read_to_string(gateway.path("sources.toml")).expect("a file");
    let with_proxy = format!("{definitions}proxy=\"file:proxy\"\n");
    fs::write(gateway.path("sources.toml"), with_proxy).expect("a file");
    let (code, said) = called(&gateway, &["pull", "--source", "own"]).await;
    assert_eq!(code, 0, "{said}");
    let Asked { proxy, .. } = own.asked().await;
    assert!(proxy.contains("Basic dXNlcjpwYXNz"), "{proxy}");
    // Nobody else's CA will do.
    fs::write(gateway.path("ca.pem"), Authority::new().pem()).expect("a file");
    let (code, said) = called(&gateway, &["pull", "--source", "own"]).await;
    assert!(code == 2 && said.contains("uem.corp.example"), "{said}");
}

/// A gateway that lets in the members of one group, and three devices that a management system knows.
async fn by_group(sandbox: &Sandbox, sources: &str) -> Gateway {
    let builder = Gateway::before(sandbox).set("identity.alias.path", "aliases.csv");
    // The mail server knows them by another address than the directory.
    builder.file(
        "aliases.csv",
        "alice@sandbox.example,alice@corp.example\nbob@sandbox.example,bob@corp.example\n",
    );
    builder.file("sources.toml", sources);
    builder.file(
        "policies.toml",
        "[[policy]]\nid=\"members\"\nscope={groups=[\"Mobile-Mail-Users\"]}\naction=\"allow\"\n\
         [[policy]]\nid=\"others\"\naction=\"block\"\n",
    );
    let gateway = builder.start().await;
    let records = "{\"device_id\":\"DALICE\",\"user\":\"alice@corp.example\",\"groups\":[\"Shift\"]}\n\
                   {\"device_id\":\"DBOB\",\"user\":\"bob@corp.example\"}\n\
                   {\"device_id\":\"DDAVE\",\"user\":\"dave@corp.example\"}\n";
    gateway
        .admin
        .write("POST", "/v1/devices:import?source=uem", records)
        .await;
    gateway
}

#[tokio::test]
async fn groups_of_people_come_from_their_directory() {
    let (sandbox, lab) = (sandbox::start(), Lab::shared());
    let source = |groups: &str| {
        format!(
            "[[source]]\nname=\"ad\"\ntype=\"ldap\"\nurl=[\"ldaps://127.0.0.1:1\",\"ldap://{}\"]\n\
             user=\"alice@corp.example\"\npassword=\"file:ad\"\nbase=\"DC=corp,DC=example\"\n\
             groups=[{groups}]\nca_path={:?}\n",
            lab.address(),
            lab.path("pki/ca.pem")
        )
    };
    let gateway = by_group(&sandbox, &source("\"Mobile-Mail-Users\"")).await;
    fs::write(gateway.path("ad"), lab.password()).expect("a file");
    assert!(!is_served(&gateway.ask(&folder_sync("DALICE")).await));

    // The first reading changes most of the fleet: somebody has to look.
    let (code, said) = called(&gateway, &["pull", "--source", "ad"]).await;
    assert!(code == 2 && said.contains("--force"), "{code} {said}");
    let (code, said) = called(&gateway, &["pull", "--source", "ad", "--force"]).await;
    assert!(
        code == 0 && said.contains("3 read: 3 applied"),
        "{code} {said}"
    );
    assert!(is_served(&gateway.ask(&folder_sync("DALICE")).await));
    // dave is a member of a member of a member.
    for (device, rule) in [("DBOB", "others"), ("DDAVE", "members")] {
        let shown = gateway.admin.read(&format!("/v1/devices/{device}")).await;
        assert_eq!(shown["decision"]["rule"], rule, "{shown}");
    }
    let shown = gateway.admin.read("/v1/devices/DALICE").await;
    assert_eq!(shown["source"], "uem", "the record stays with its source");
    let groups = serde_json::json!(["Shift", "Mobile-Mail-Users"]);
    assert_eq!(shown["groups"], groups, "{shown}");
    let (code, said) = called(&gateway, &["pull", "--source", "ad"]).await;
    assert!(
        code == 0 && said.contains("3 read: 0 applied"),
        "{code} {said}"
    );

    // A group that is not there, and a password that is not right, take nothing from anybody.
    let definitions = gateway.path("sources.toml");
    fs::write(&definitions, source("\"Mobile-Mail-Users\",\"Renamed\"")).expect("a file");
    let (code, said) = called(&gateway, &["pull", "--source", "ad"]).await;
    assert!(
        code == 2 && said.contains("\"Renamed\": 0"),
        "{code} {said}"
    );
    fs::write(&definitions, source("\"Mobile-Mail-Users\"")).expect("a file");
    fs::write(gateway.path("ad"), "wrong").expect("a file");
    let (code, said) = called(&gateway, &["pull", "--source", "ad"]).await;
    assert!(
        code == 2 && said.contains("refuses the login"),
        "{code} {said}"
    );
    assert!(is_served(&gateway.ask(&folder_sync("DALICE")).await));
}

/// Two people, of whom one is in a group whose members the directory tells of; and a group whose
/// members it does not.
const PEOPLE: &str = "\
dn: ou=groups,dc=corp,dc=example
objectClass: organizationalUnit
ou: groups

dn: uid=alice,dc=corp,dc=example
objectClass: inetOrgPerson
uid: alice
cn: Alice
sn: Alice
mail: alice@corp.example

dn: uid=bob,dc=corp,dc=example
objectClass: inetOrgPerson
uid: bob
cn: Bob
sn: Bob
mail: bob@corp.example

dn: cn=Mobile-Mail-Users,ou=groups,dc=corp,dc=example
objectClass: groupOfNames
cn: Mobile-Mail-Users
member: uid=alice,dc=corp,dc=example
";

/// What `seg check` says of one part.
pub(crate) fn checked(gateway: &Gateway, part: &str) -> (bool, String) {
    let output = std::process::Command::new(program("seg"))
        .args(["check", "--json", "--config"])
        .arg(gateway.path("application.properties"))
        .output()
        .expect("seg runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let parts = text.lines().map(|line| {
        serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|_| panic!("{text}"))
    });
    let found = parts.into_iter().find(|line| line["part"] == part);
    let found = found.unwrap_or_else(|| panic!("{part} is not in {text}"));
    (found["state"] == "ok", found.to_string())
}

#[tokio::test]
async fn groups_come_from_openldap_over_tls_from_the_first_byte_and_from_later_on() {
    let (sandbox, authority) = (sandbox::start(), Authority::new());
    let directory = OpenLdap::start(&authority, PEOPLE).await;
    let source = |url: &str, base: &str| {
        format!(
            "[[source]]\nname=\"people\"\ntype=\"ldap\"\nurl=[\"{url}\"]\nuser=\"{}\"\npassword=\"file:people\"\n\
             base=\"{base}\"\ngroups=[\"Mobile-Mail-Users\"]\nnested=false\nca_path=\"ca.pem\"\n",
            openldap::MANAGER
        )
    };
    for url in [directory.ldaps(), directory.ldap()] {
        let gateway = by_group(&sandbox, &source(&url, openldap::BASE)).await;
        fs::write(gateway.path("people"), openldap::PASSWORD).expect("a file");
        fs::write(gateway.path("ca.pem"), authority.pem()).expect("a file");
        assert!(
            !is_served(&gateway.ask(&folder_sync("DALICE")).await),
            "{url}"
        );
        let (ok, said) = checked(&gateway, "source people");
        assert!(ok && said.contains("1 names of people"), "{said}");
        let (code, said) = called(&gateway, &["pull", "--source", "people", "--force"]).await;
        assert!(
            code == 0 && said.contains("3 read: 3 applied"),
            "{code} {said}"
        );
        assert!(
            is_served(&gateway.ask(&folder_sync("DALICE")).await),
            "{url}"
        );

        // What can't be read takes nothing from anybody: members that the directory does not tell
        // of, and a server that is not who it should be.
        let definitions = gateway.path("sources.toml");
        let elsewhere = source(&url, &format!("ou=groups,{}", openldap::BASE));
        fs::write(&definitions, elsewhere).expect("a file");
        let (code, said) = called(&gateway, &["pull", "--source", "people"]).await;
        assert!(code == 2 && said.contains("memberOf"), "{code} {said}");
        fs::write(&definitions, source(&url, openldap::BASE)).expect("a file");
        fs::write(gateway.path("ca.pem"), Authority::new().pem()).expect("a file");
        let (code, said) = called(&gateway, &["pull", "--source", "people"]).await;
        assert!(code == 2 && said.contains(&url), "{code} {said}");
        let (ok, said) = checked(&gateway, "source people");
        assert!(!ok && said.contains("ca_path"), "{said}");
        assert!(
            is_served(&gateway.ask(&folder_sync("DALICE")).await),
            "{url}"
        );
    }
}

#[tokio::test]
async fn groups_that_would_change_most_of_the_fleet_are_looked_at_first() {
    let sandbox = sandbox::start();
    let gateway = by_group(&sandbox, "").await;
    let target = "/v1/devices:import?source=ad&supplement=true";
    let members = |force: &str| {
        let line =
            |id: &str| format!("{{\"device_id\":\"{id}\",\"groups\":[\"Mobile-Mail-Users\"]}}\n");
        let body = line("DALICE") + &line("DBOB") + &line("NOBODYS");
        (format!("{target}{force}"), body)
    };
    let (target, body) = members("");
    let (status, answer) = gateway.admin.request("POST", &target, &body).await;
    assert_eq!(status, 409, "{answer}");
    assert!(!is_served(&gateway.ask(&folder_sync("DALICE")).await));
    let (target, body) = members("&force=true");
    let answer = gateway.admin.write("POST", &target, &body).await;
    assert_eq!(
        (&answer["applied"], &answer["unchanged"]),
        (&2.into(), &1.into())
    );
    assert!(is_served(&gateway.ask(&folder_sync("DALICE")).await));
    let (status, _) = gateway
        .admin
        .request("GET", "/v1/devices/NOBODYS", "")
        .await;
    assert_eq!(status, 404, "a supplement makes no record");
    let wrong = format!("{target}&mode=snapshot");
    assert_eq!(gateway.admin.request("POST", &wrong, &body).await.0, 400);
}

#[tokio::test]
async fn a_device_that_nobody_reported_is_asked_for_once() {
    let (sandbox, system) = (sandbox::start(), Arc::new(System::default()));
    let address = system.start().await;
    let builder = Gateway::before(&sandbox).set("compliance.unknown.device", "block");
    builder.file("sources.toml", definition(address));
    let gateway = builder.start().await;
    // Nobody without a password makes the gateway ask.
    let wrong = folder_sync("LATECOMER").without("Authorization").header(
        "Authorization",
        "Basic YWxpY2VAc2FuZGJveC5leGFtcGxlOndyb25n",
    );
    assert_eq!(gateway.ask(&wrong).await.status(), 401);
    assert_eq!(system.asked.load(Ordering::SeqCst), 0);
    assert!(is_served(&gateway.ask(&folder_sync("LATECOMER")).await));
    assert_eq!(system.asked.load(Ordering::SeqCst), 1);
    let shown = gateway.admin.read("/v1/devices/LATECOMER").await;
    assert_eq!(shown["source"], "own", "{shown}");
    for _ in 0..3 {
        assert!(!is_served(&gateway.ask(&folder_sync("STRANGER")).await));
    }
    assert_eq!(system.asked.load(Ordering::SeqCst), 2, "a no is remembered");
    // Who brought the record, and when, is on record.
    let trail = gateway.admin.text("/v1/audit").await;
    let entries: Vec<serde_json::Value> = trail
        .lines()
        .map(|line| serde_json::from_str(line).expect("an entry"))
        .collect();
    let [entry] = &entries[..] else {
        panic!("{trail}");
    };
    assert_eq!(
        (&entry["who"], &entry["action"]),
        (&"own".into(), &"look-up".into())
    );
    assert_eq!(
        (&entry["target"], &entry["detail"]["applied"]),
        (&"LATECOMER".into(), &1.into())
    );
}
