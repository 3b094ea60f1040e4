//! The decision service, as load balancers ask it that send the request's lines: nginx and HAProxy from
//! Debian run the documented configuration.

use std::fs;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use seg_tests::eas::basic;
use seg_tests::gateway::free_address;
use seg_tests::{Gateway, eventually};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{deciding, eas, get, sent};
use crate::sandbox;

#[tokio::test]
async fn the_original_request_in_headers_is_judged_as_if_it_had_come_here() {
    let sandbox = sandbox::start();
    let (_gateway, address) = deciding(&sandbox).await;
    let with = |device: &str, user: &str| {
        format!(
            "X-Original-URI: {}\r\nX-Original-Method: POST\r\nX-Real-IP: 192.0.2.1\r\nAuthorization: {}\r\n",
            eas(device),
            basic(user)
        )
    };
    for (headers, status) in [
        (with("GOOD1", "alice"), 200),
        (with("BAD1", "alice"), 403),
        (with("GOOD1", "bob"), 403),
        (
            with("BAD1", "alice").replace("Method: POST", "Method: OPTIONS"),
            200,
        ),
        (
            with("GOOD1", "alice").replace("DeviceId=GOOD1", "DeviceId=GOOD1&DeviceId=BAD1"),
            403,
        ),
        (
            with("GOOD1", "alice").replace("X-Original", "X-Forwarded"),
            200,
        ),
        // One of the two lines is the client's.
        (
            with("BAD1", "alice") + &format!("X-Forwarded-URI: {}\r\n", eas("GOOD1")),
            403,
        ),
        (
            with("GOOD1", "alice") + &format!("X-Forwarded-URI: {}\r\n", eas("BAD1")),
            403,
        ),
        // Nobody in particular: the mail server will challenge him.
        (format!("X-Original-URI: {}\r\n", eas("BAD1")), 200),
        (String::new(), 403),
    ] {
        let (found, head, _) = get(address, "/authorize", &headers).await;
        assert_eq!(found, status, "{headers}\n{head}");
    }
    let (_, head, _) = get(address, "/authorize", &with("BAD1", "alice")).await;
    assert!(
        head.to_lowercase().contains("x-seg-verdict: block"),
        "{head}"
    );
    // Envoy puts its prefix before the path, and keeps the method.
    let request = format!(
        "POST /envoy{} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nAuthorization: {}\r\nConnection: close\r\n\r\n",
        eas("BAD1"),
        basic("alice")
    );
    assert_eq!(sent(address, &request).await.0, 403);
    assert_eq!(
        sent(address, &request.replace("BAD1", "GOOD1")).await.0,
        200
    );
}

/// A load balancer that ends with the test.
struct Balancer(Child);

impl Drop for Balancer {
    fn drop(&mut self) {
        // Asked, so that it ends its own children too: a killed nginx leaves its worker behind.
        let _asked = Command::new("kill").arg(self.0.id().to_string()).status();
        let _collected = self.0.wait();
    }
}

/// A block of the documentation.
fn documented(language: &str) -> String {
    let page = fs::read_to_string(seg_tests::workspace_root().join("docs/decision-service.md"));
    let page = page.expect("the documentation");
    let begin = format!("```{language}\n");
    let block = page
        .split(&begin)
        .nth(1)
        .and_then(|rest| rest.split("```").next());
    block.expect("a block of the documentation").to_owned()
}

/// Asks the load balancer until it answers, and once more when nobody tells it any verdict.
async fn asks_before_it_forwards(balancer: SocketAddr, gateway: Gateway) {
    let request = |device: &str| {
        format!(
            "POST {} HTTP/1.1\r\nHost: mail\r\nAuthorization: {}\r\nUser-Agent: e2e/1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            eas(device),
            basic("alice")
        )
    };
    eventually("a load balancer", || async {
        TcpStream::connect(balancer).await.ok()
    })
    .await;
    let agent = "User-Agent: e2e/1\r\n";
    let authorization = format!("Authorization: {}\r\n", basic("alice"));
    for (request, expected) in [
        (request("GOOD1"), 200),
        (request("BAD1"), 403),
        (request("UNKNOWN1"), 403),
        // Who does not say what he is is asked about all the same.
        (request("GOOD1").replace(agent, ""), 200),
        (request("BAD1").replace(agent, ""), 403),
        // The mail server is to challenge whoever has not said who he is, and to answer OPTIONS.
        (request("BAD1").replace(&authorization, ""), 200),
        (request("BAD1").replace("POST", "OPTIONS"), 200),
        ("OPTIONS /Microsoft-Server-ActiveSync HTTP/1.1\r\nHost: mail\r\nConnection: close\r\n\r\n".to_owned(), 200),
        // Whoever writes the load balancer's lines himself is not believed.
        (
            request("BAD1").replace(
                agent,
                &format!("X-Original-URI: {0}\r\nX-Forwarded-Uri: {0}\r\nX-Original-Method: OPTIONS\r\nX-Forwarded-Method: OPTIONS\r\n", eas("GOOD1")),
            ),
            403,
        ),
        // EWS is judged by user.
        (request("GOOD1").replace(&eas("GOOD1"), "/EWS/Exchange.asmx"), 200),
        (
            request("GOOD1")
                .replace(&eas("GOOD1"), "/EWS/Exchange.asmx")
                .replace(&basic("alice"), &basic("bob")),
            403,
        ),
    ] {
        let (status, head, body) = sent(balancer, &request).await;
        assert_eq!(status, expected, "{request}\n{head}");
        assert_eq!(body == "mail", expected == 200, "{request}\n{head}");
    }
    drop(gateway);
    let (status, head, body) = sent(balancer, &request("GOOD1")).await;
    assert!(matches!(status, 403 | 500) && body != "mail", "{head}");
}

/// A mail server that says one word.
async fn mail_server() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let address = listener.local_addr().expect("its address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = vec![0; 8192];
                let _read = stream.read(&mut head).await;
                let answer =
                    b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nmail";
                let _sent = stream.write_all(answer).await;
            });
        }
    });
    address
}

#[tokio::test]
async fn nginx_asks_as_documented() {
    let sandbox = sandbox::start();
    let (gateway, decision) = deciding(&sandbox).await;
    let (balancer, mail) = (free_address(), mail_server().await);
    let locations = documented("nginx")
        .replace("127.0.0.1:9080", &decision.to_string())
        .replace("https://exchange.corp.example", &format!("http://{mail}"));
    let folder = gateway.path("nginx");
    fs::create_dir(&folder).expect("a folder");
    let folder = folder.display();
    let text = format!(
        "daemon off; pid {folder}/pid; error_log stderr;\nevents {{}}\nhttp {{\naccess_log off;\n\
         client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;\n\
         uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;\nserver {{\nlisten {balancer};\n{locations}\n}}\n}}\n"
    );
    let config = gateway.path("nginx.conf");
    fs::write(&config, text).expect("a file");
    let child = Command::new("/usr/sbin/nginx")
        .args(["-p", &folder.to_string(), "-c"])
        .arg(&config)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("nginx starts; Debian: apt-get install nginx-light");
    let _balancer = Balancer(child);
    asks_before_it_forwards(balancer, gateway).await;
}

#[tokio::test]
async fn haproxy_asks_as_documented() {
    let sandbox = sandbox::start();
    let (gateway, decision) = deciding(&sandbox).await;
    let (balancer, mail) = (free_address(), mail_server().await);
    let lua = gateway.path("seg.lua");
    let script = documented("lua").replace("127.0.0.1:9080", &decision.to_string());
    fs::write(&lua, script).expect("a file");
    let text = documented("haproxy")
        .replace("/etc/haproxy/seg.lua", &lua.display().to_string())
        .replace(
            "bind :443 ssl crt /etc/haproxy/mail.pem",
            &format!("bind {balancer}"),
        );
    let text = format!(
        "{text}\nbackend exchange\n    server mail {mail}\n\
         defaults\n    mode http\n    timeout connect 5s\n    timeout client 10s\n    timeout server 10s\n"
    );
    // Defaults hold for what stands below them.
    let (head, defaults) = text.split_once("defaults\n").expect("defaults");
    let (global, rest) = head.split_once("frontend").expect("a frontend");
    let text = format!("{global}defaults\n{defaults}\nfrontend{rest}");
    let config = gateway.path("haproxy.cfg");
    fs::write(&config, text).expect("a file");
    let child = Command::new("/usr/sbin/haproxy")
        .args(["-db", "-f"])
        .arg(&config)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("haproxy starts; Debian: apt-get install haproxy");
    let _balancer = Balancer(child);
    asks_before_it_forwards(balancer, gateway).await;
}
