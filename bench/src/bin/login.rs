#![forbid(unsafe_code)]
//! `bench/run login`: what logging in costs. Whole handshakes with client certificates, beside nginx;
//! and what Kerberos adds to a request whose ticket is at hand, on a domain controller of its own.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, OtherNameValue, SanType,
};
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use seg_bench::{Failure, median, percentile};

/// `szOID_NT_PRINCIPAL_NAME`.
const UPN: [u64; 10] = [1, 3, 6, 1, 4, 1, 311, 20, 2, 3];
/// What nginx answers.
const ANSWER: &str = "served by nginx";
/// Ticks a second of the times in /proc/PID/stat.
const TICKS: f64 = 100.0;
/// How long a program may take to listen.
const START: Duration = Duration::from_secs(20);

/// Measures logins: mutual TLS beside nginx, and Kerberos beside none
#[derive(Parser)]
#[command(name = "bench/run login")]
struct Arguments {
    /// Turns of each; the middle one counts
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=100))]
    rounds: u16,
    /// Seconds of each turn
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=60))]
    seconds: u16,
    /// Clients that shake hands at one time
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    clients: u16,
    /// The gateway; by default the one built beside this program
    #[arg(long)]
    seg: Option<PathBuf>,
    /// Leaves Kerberos out, which needs root, Samba, and a gateway with the feature `kerberos`
    #[arg(long)]
    no_kerberos: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench/run login: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    let seg = match &arguments.seg {
        Some(seg) => seg.clone(),
        None => std::env::current_exe()?.with_file_name("seg"),
    };
    handshakes(arguments, &seg)?;
    if !arguments.no_kerberos {
        kerberos(arguments, &seg)?;
    }
    Ok(())
}

/// Whole handshakes a second, and their CPU time in the server.
fn handshakes(arguments: &Arguments, seg: &Path) -> Result<(), Failure> {
    let folder = tempfile::Builder::new().prefix("seg-bench-").tempdir()?;
    let tls = write_certificates(folder.path())?;
    let servers = [
        nginx(folder.path(), "nginx", true)?,
        gateway(folder.path(), seg, "gateway", &mutual_tls(folder.path()))?,
    ];
    let mut found: [(Vec<f64>, Vec<f64>); 2] = Default::default();
    for _ in 0..arguments.rounds {
        for (server, (rates, cpus)) in servers.iter().zip(&mut found) {
            let (rate, cpu) = shake(server, &tls, arguments)?;
            eprintln!(
                "{:<6} {rate:>8.0} handshakes/s {cpu:>7.1} µs CPU each",
                server.name
            );
            rates.push(rate);
            cpus.push(cpu);
        }
    }
    println!("mutual TLS, TLS 1.3, P-256, no resumption, one thread a server");
    for (server, (rates, cpus)) in servers.iter().zip(&found) {
        println!(
            "  {:<6} {:>8.0} handshakes/s   {:>7.1} µs CPU each",
            server.name,
            median(rates),
            median(cpus)
        );
    }
    let [(_, nginx), (_, seg)] = &found;
    println!("  seg / nginx, CPU: {:.2}", median(seg) / median(nginx));
    Ok(())
}

/// One turn: clients that connect, log in, ask for something small, and leave.
fn shake(
    server: &Server,
    tls: &Arc<ClientConfig>,
    arguments: &Arguments,
) -> Result<(f64, f64), Failure> {
    let (over, done) = (AtomicBool::new(false), AtomicU64::new(0));
    let window = Duration::from_secs(arguments.seconds.into());
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..arguments.clients)
            .map(|_| {
                scope.spawn(|| -> Result<(), Failure> {
                    while !over.load(Ordering::Relaxed) {
                        let mut wire = connect(server.address, tls)?;
                        ask(&mut wire, b"GET /lb-health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(())
                })
            })
            .collect();
        std::thread::sleep(Duration::from_millis(300));
        let (cpu, before, began) = (server.cpu()?, done.load(Ordering::Relaxed), Instant::now());
        std::thread::sleep(window);
        let shaken = (done.load(Ordering::Relaxed) - before) as f64;
        let (cpu, lasted) = (server.cpu()? - cpu, began.elapsed().as_secs_f64());
        over.store(true, Ordering::Relaxed);
        for client in clients {
            client.join().map_err(|_| "a client panicked")??;
        }
        Ok((shaken / lasted, cpu * 1e6 / shaken.max(1.0)))
    })
}

/// The latency of one client's requests with and without a ticket, before the same mail server.
fn kerberos(arguments: &Arguments, seg: &Path) -> Result<(), Failure> {
    let lab = Lab::start()?;
    let folder = tempfile::Builder::new().prefix("seg-bench-").tempdir()?;
    write_certificates(folder.path())?;
    let upstream = nginx(folder.path(), "upstream", false)?;
    let shared = format!(
        "server.client.auth=required\nserver.client.ca.path={}\n\
         email.server.host.and.port=https://localhost:{}\nemail.server.ca.path=ca.pem\n\
         identity.default.domain=corp.example\ncompliance.unknown.device=allow\n",
        lab.path("pki/ca.pem"),
        upstream.address.port()
    );
    let with = format!(
        "{shared}email.server.login=kerberos\nemail.server.spn=HTTP/mail.corp.example\n\
         kerberos.principals=svc-seg@CORP.EXAMPLE\nkerberos.keytab.path={}\n\
         kerberos.kdc=CORP.EXAMPLE={}\nkerberos.cache.seconds=3600\n",
        lab.path("keytabs/seg.keytab"),
        lab.address
    );
    let servers = [
        gateway(folder.path(), seg, "without", &shared)?,
        gateway(folder.path(), seg, "with", &with)?,
    ];
    let tls = client_config(
        &fs::read_to_string(folder.path().join("ca.pem"))?,
        &fs::read_to_string(lab.path("pki/alice.pem"))?,
        &fs::read_to_string(lab.path("pki/alice.key"))?,
    )?;
    let request = b"POST /Microsoft-Server-ActiveSync?Cmd=Sync&User=alice&DeviceId=BENCH1&DeviceType=t HTTP/1.1\r\nHost: localhost\r\nMS-ASProtocolVersion: 14.1\r\nContent-Type: application/vnd.ms-sync.wbxml\r\nContent-Length: 0\r\n\r\n";
    let mut wires = Vec::new();
    for server in &servers {
        let mut wire = connect(server.address, &tls)?;
        // The first request fetches the ticket. The mail server says what nobody else does.
        let answer = ask(&mut wire, request)?;
        if answer != ANSWER.as_bytes() {
            return Err(format!("{} has answered itself", server.name).into());
        }
        wires.push(wire);
    }
    let window = Duration::from_secs(arguments.seconds.into());
    let mut p50: [Vec<f64>; 2] = Default::default();
    for _ in 0..arguments.rounds {
        for ((wire, found), server) in wires.iter_mut().zip(&mut p50).zip(&servers) {
            let (mut latencies, began) = (Vec::new(), Instant::now());
            while began.elapsed() < window {
                let sent = Instant::now();
                ask(wire, request)?;
                latencies.push(sent.elapsed().as_secs_f64() * 1e6);
            }
            let middle = percentile(&mut latencies, 0.5);
            eprintln!(
                "{:<8} {middle:>7.0} µs p50, {} requests",
                server.name,
                latencies.len()
            );
            found.push(middle);
        }
    }
    let [without, with] = &p50;
    let (without, with) = (median(without), median(with));
    println!("Kerberos, ticket at hand, one client, keep-alive");
    println!("  without {without:>7.0} µs p50");
    println!("  with    {with:>7.0} µs p50");
    println!("  adds    {:>7.0} µs p50 (goal: under 300)", with - without);
    Ok(())
}

type Wire = StreamOwned<ClientConnection, TcpStream>;

fn connect(address: SocketAddr, tls: &Arc<ClientConfig>) -> Result<Wire, Failure> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(START))?;
    let name = ServerName::try_from("localhost")?;
    let connection = ClientConnection::new(Arc::clone(tls), name)?;
    Ok(StreamOwned::new(connection, stream))
}

/// Sends a request and reads its answer, which must be 200 with a length; gives its body.
fn ask(wire: &mut Wire, request: &[u8]) -> Result<Vec<u8>, Failure> {
    wire.write_all(request)?;
    wire.flush()?;
    let mut read = Vec::new();
    let mut buffer = [0; 8192];
    loop {
        let count = wire.read(&mut buffer)?;
        if count == 0 {
            return Err("an answer ended early".into());
        }
        read.extend_from_slice(buffer.get(..count).unwrap_or_default());
        let Some(end) = memchr::memmem::find(&read, b"\r\n\r\n") else {
            continue;
        };
        let head = String::from_utf8_lossy(read.get(..end).unwrap_or_default()).to_lowercase();
        if !head.starts_with("http/1.1 200") {
            return Err(format!("an answer that is no 200: {head}").into());
        }
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length:"))
            .and_then(|text| text.trim().parse::<usize>().ok())
            .ok_or("an answer without a length")?;
        if read.len() >= end + 4 + length {
            return Ok(read.split_off(end + 4));
        }
    }
}

/// A server under test; killed when dropped.
struct Server {
    name: &'static str,
    child: Child,
    address: SocketAddr,
}

impl Server {
    /// CPU seconds so far, of it and its threads.
    fn cpu(&self) -> Result<f64, Failure> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // Behind the name, which may hold anything, utime and stime are the 12th and 13th.
        let fields = stat.rsplit(')').next().unwrap_or_default();
        let times = fields.split_ascii_whitespace().skip(11).take(2);
        Ok(times
            .filter_map(|text| text.parse::<f64>().ok())
            .sum::<f64>()
            / TICKS)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

/// Starts a program on the first CPU, where there are several; the load runs on the others.
fn start(
    name: &'static str,
    folder: &Path,
    program: &Path,
    arguments: &[&str],
    address: SocketAddr,
) -> Result<Server, Failure> {
    let log = fs::File::create(folder.join(format!("{name}.log")))?;
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]);
    if std::thread::available_parallelism()?.get() > 1 {
        command.args(["taskset", "-c", "0"]);
    }
    let child = command
        .arg(program)
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()?;
    let mut server = Server {
        name,
        child,
        address,
    };
    let began = Instant::now();
    while TcpStream::connect(address).is_err() {
        let ended = server.child.try_wait()?;
        if ended.is_some() || began.elapsed() > START {
            let log = fs::read_to_string(folder.join(format!("{name}.log"))).unwrap_or_default();
            return Err(format!("{name} does not listen: {log}").into());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(server)
}

/// An nginx that answers everything with 200: under test, asking for certificates, or the mail server,
/// which asks for nothing.
fn nginx(folder: &Path, name: &'static str, asks: bool) -> Result<Server, Failure> {
    let address = free_address()?;
    let place = folder.display();
    let asked = if asks {
        format!("ssl_client_certificate {place}/ca.pem; ssl_verify_client on;")
    } else {
        String::new()
    };
    let configuration = format!(
        "daemon off; master_process off; pid {place}/{name}.pid; error_log stderr error;
        events {{ worker_connections 4096; }}
        http {{
            access_log off; keepalive_requests 100000000;
            client_body_temp_path {place}/{name}-body; proxy_temp_path {place}/{name}-proxy;
            fastcgi_temp_path {place}/{name}-f; uwsgi_temp_path {place}/{name}-u; scgi_temp_path {place}/{name}-s;
            server {{
                listen {address} ssl backlog=4096;
                ssl_certificate {place}/server.pem; ssl_certificate_key {place}/server.key;
                ssl_protocols TLSv1.2 TLSv1.3;
                {asked}
                location / {{ return 200 \"{ANSWER}\"; }}
            }}
        }}\n"
    );
    let file = folder.join(format!("{name}.conf"));
    fs::write(&file, configuration)?;
    let (place, file) = (place.to_string(), file.display().to_string());
    let arguments = ["-p", &place, "-e", "stderr", "-c", &file];
    start(name, folder, Path::new("nginx"), &arguments, address)
}

/// What a gateway needs to ask for client certificates.
fn mutual_tls(folder: &Path) -> String {
    format!(
        "server.client.auth=required\nserver.client.ca.path={}/ca.pem\n\
         email.server.host.and.port=https://127.0.0.1:9\n",
        folder.display()
    )
}

/// A gateway in a folder of its own, with these properties besides the usual ones.
fn gateway(
    folder: &Path,
    seg: &Path,
    name: &'static str,
    properties: &str,
) -> Result<Server, Failure> {
    let (address, admin) = (free_address()?, free_address()?);
    let file = folder.join(format!("{name}.properties"));
    let text = format!(
        "server.listen={address}\nserver.tls.certificate.path=server.pem\n\
         server.tls.private.key.path=server.key\nadmin.listen={admin}\ndata.dir=data-{name}\n{properties}"
    );
    fs::write(&file, text)?;
    let file = file.display().to_string();
    start(name, folder, seg, &["run", "--config", &file], address)
}

/// The Active Directory of the interop tests; it ends when dropped.
struct Lab {
    folder: String,
    address: String,
}

impl Lab {
    fn start() -> Result<Self, Failure> {
        let output = Self::script(&["start"])?;
        let text: serde_json::Value = serde_json::from_slice(&output)?;
        let field = |name: &str| {
            let text = text.get(name).and_then(serde_json::Value::as_str);
            text.map(str::to_owned).ok_or("lab.sh says no such thing")
        };
        Ok(Self {
            folder: field("folder")?,
            address: field("address")?,
        })
    }

    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.folder)
    }

    fn script(arguments: &[&str]) -> Result<Vec<u8>, Failure> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/interop/ad/lab.sh");
        let output = Command::new("bash").arg(script).args(arguments).output()?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        Err(String::from_utf8_lossy(&output.stderr).into_owned().into())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _stopped = Self::script(&["stop", &self.folder]);
    }
}

/// One authority for both sides; the client is its Alice.
fn write_certificates(folder: &Path) -> Result<Arc<ClientConfig>, Failure> {
    let mut authority = CertificateParams::default();
    authority.distinguished_name = named("bench authority");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate()?;
    let authority_pem = authority.self_signed(&authority_key)?.pem();
    let issuer = Issuer::new(authority, authority_key);
    fs::write(folder.join("ca.pem"), &authority_pem)?;

    let key = KeyPair::generate()?;
    let server = CertificateParams::new(vec!["localhost".to_owned()])?;
    let server = server.signed_by(&key, &issuer)?;
    fs::write(folder.join("server.pem"), server.pem())?;
    fs::write(folder.join("server.key"), key.serialize_pem())?;

    let mut client = CertificateParams::default();
    client.distinguished_name = named("alice");
    client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    client.subject_alt_names = vec![SanType::OtherName((
        UPN.to_vec(),
        OtherNameValue::Utf8String("alice@corp.example".to_owned()),
    ))];
    let key = KeyPair::generate()?;
    let client = client.signed_by(&key, &issuer)?;
    client_config(&authority_pem, &client.pem(), &key.serialize_pem())
}

/// A subject of its own for each: OpenSSL takes a certificate that is named like its issuer for one
/// that has signed itself.
fn named(name: &str) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    subject
}

/// A client that trusts this authority only and resumes no session, so that every handshake is a
/// whole one.
fn client_config(ca: &str, certificate: &str, key: &str) -> Result<Arc<ClientConfig>, Failure> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.as_bytes())?)?;
    let chain = CertificateDer::pem_slice_iter(certificate.as_bytes()).collect::<Result<_, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes())?;
    let mut tls = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)?;
    tls.resumption = Resumption::disabled();
    Ok(Arc::new(tls))
}

/// A free port of 127.0.0.1.
fn free_address() -> Result<SocketAddr, Failure> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}
