//! The three proxies under test and the mail server behind them.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::client::Resumption;
use rustls::pki_types::CertificateDer;
use seg_bench::Failure;

use crate::admin::Admin;
use crate::client::Target;
use crate::process::Process;
use crate::webhook;

/// Who is measured.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub(crate) enum Kind {
    Nginx,
    Haproxy,
    Seg,
}

impl Kind {
    /// The gateway's turn is the one behind nginx's, with which it is compared.
    pub(crate) const ALL: [Self; 3] = [Self::Nginx, Self::Seg, Self::Haproxy];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Haproxy => "HAProxy",
            Self::Seg => "seg",
        }
    }
}

/// What all programs of a run share.
pub(crate) struct Stage {
    folder: tempfile::TempDir,
    /// The gateway's binary; the sandbox is in it too.
    seg: PathBuf,
    /// Threads of each proxy.
    cores: usize,
    /// The CPUs of the proxy under test, and those of everything else.
    proxy_cpus: Option<String>,
    other_cpus: Option<String>,
    tls: Arc<rustls::ClientConfig>,
    sandbox: Option<(Process, SocketAddr)>,
}

/// What a gateway is started with.
struct Before<'a> {
    /// Of its data folder and properties.
    name: &'a str,
    listen: SocketAddr,
    admin: SocketAddr,
    webhook: Option<SocketAddr>,
    upstreams: &'a str,
    /// How the upstreams are trusted: a line of properties.
    trust: &'a str,
    /// What stands in its policies.toml.
    policies: &'a str,
}

/// A proxy in front of the sandbox.
pub(crate) struct Proxy {
    pub(crate) kind: Kind,
    pub(crate) process: Process,
    pub(crate) target: Target,
    /// The gateway's admin API.
    pub(crate) admin: Option<Admin>,
    /// Where it takes webhooks.
    pub(crate) webhook: Option<SocketAddr>,
}

impl Stage {
    /// Makes certificates and starts the sandbox.
    pub(crate) async fn set(
        seg: PathBuf,
        cores: usize,
        proxy_cpus: Option<String>,
        other_cpus: Option<&str>,
    ) -> Result<Self, Failure> {
        let folder = tempfile::Builder::new().prefix("seg-bench-").tempdir()?;
        let tls = write_certificates(folder.path())?;
        let mut stage = Self {
            folder,
            seg,
            cores,
            proxy_cpus,
            other_cpus: other_cpus.map(str::to_owned),
            tls,
            sandbox: None,
        };
        stage.sandbox = Some(stage.server("upstream", Ipv4Addr::LOCALHOST).await?);
        Ok(stage)
    }

    /// Starts a mail server that writes its authority into `<name>-ca.pem`.
    pub(crate) async fn server(
        &self,
        name: &str,
        at: Ipv4Addr,
    ) -> Result<(Process, SocketAddr), Failure> {
        let address = SocketAddr::from((at, free_address()?.port()));
        let ca = self.path(&format!("{name}-ca.pem"));
        let listen = address.to_string();
        let arguments = [
            OsStr::new("sandbox"),
            OsStr::new("--bench"),
            OsStr::new("--listen"),
            OsStr::new(&listen),
            OsStr::new("--ca-out"),
            ca.as_os_str(),
        ];
        let mut process = Process::start(
            "the sandbox",
            self.seg.as_os_str(),
            &arguments,
            self.other_cpus.as_deref(),
            Stdio::null(),
            self.log(name)?,
        )?;
        process.listening(address).await?;
        while !ca.exists() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        Ok((process, address))
    }

    /// Starts a gateway with a folder and policies of its own before these servers.
    pub(crate) async fn gateway_before(
        &self,
        name: &str,
        servers: &[SocketAddr],
        policies: &str,
    ) -> Result<Proxy, Failure> {
        let (address, api) = (free_address()?, free_address()?);
        let urls: Vec<String> = servers.iter().map(|one| format!("https://{one}")).collect();
        let mut process = self.gateway(&Before {
            name,
            listen: address,
            admin: api,
            webhook: None,
            upstreams: &urls.join(","),
            // Its certificate does not name all of these addresses.
            trust: "ignore.ssl.errors.with.exchange=true",
            policies,
        })?;
        process.listening(address).await?;
        process.listening(api).await?;
        let token = self.path(&format!("{name}/admin.token"));
        let tls = Arc::clone(&self.tls);
        Ok(Proxy {
            kind: Kind::Seg,
            process,
            target: Target { address, tls },
            admin: Some(Admin::new(api, &token)?),
            webhook: None,
        })
    }

    /// Starts a proxy.
    pub(crate) async fn proxy(&self, kind: Kind) -> Result<Proxy, Failure> {
        let upstream = self.sandbox.as_ref().map(|(_, address)| *address);
        let upstream = upstream.ok_or("the sandbox is not there")?;
        let address = free_address()?;
        let (mut admin, mut webhook) = (None, None);
        let mut process = match kind {
            Kind::Nginx => self.nginx(address, upstream)?,
            Kind::Haproxy => self.haproxy(address, upstream)?,
            Kind::Seg => {
                let (api, hook) = (free_address()?, free_address()?);
                let process = self.gateway(&Before {
                    name: "data",
                    listen: address,
                    admin: api,
                    webhook: Some(hook),
                    upstreams: &format!("https://{upstream}"),
                    trust: "email.server.ca.path=upstream-ca.pem",
                    policies: "",
                })?;
                (admin, webhook) = (Some(api), Some(hook));
                process
            }
        };
        process.listening(address).await?;
        let admin = match admin {
            None => None,
            Some(api) => {
                process.listening(api).await?;
                Some(Admin::new(api, &self.path("data/admin.token"))?)
            }
        };
        let tls = Arc::clone(&self.tls);
        Ok(Proxy {
            kind,
            process,
            target: Target { address, tls },
            admin,
            webhook,
        })
    }

    fn nginx(&self, listen: SocketAddr, upstream: SocketAddr) -> Result<Process, Failure> {
        let folder = self.folder.path().display();
        // A single worker needs no master; nginx knows it as the mode for one process.
        let (master, cores) = (if self.cores > 1 { "on" } else { "off" }, self.cores);
        let configuration = format!(
            "daemon off; master_process {master}; worker_processes {cores};
            pid {folder}/nginx.pid; error_log stderr error;
            events {{ worker_connections 19000; }}
            http {{
                access_log off; keepalive_timeout 3600s; keepalive_requests 100000000;
                client_body_temp_path {folder}/nginx-body; proxy_temp_path {folder}/nginx-proxy;
                fastcgi_temp_path {folder}/nginx-f; uwsgi_temp_path {folder}/nginx-u; scgi_temp_path {folder}/nginx-s;
                upstream mail {{ server {upstream}; keepalive 64; keepalive_requests 100000000; }}
                server {{
                    listen {listen} ssl backlog=4096;
                    ssl_certificate {folder}/server.pem; ssl_certificate_key {folder}/server.key;
                    ssl_protocols TLSv1.2 TLSv1.3;
                    location / {{
                        proxy_pass https://mail; proxy_http_version 1.1; proxy_buffering off;
                        proxy_set_header Connection \"\"; proxy_set_header X-Forwarded-For $remote_addr;
                        proxy_read_timeout 3600s;
                        proxy_ssl_protocols TLSv1.2 TLSv1.3; proxy_ssl_verify on; proxy_ssl_name localhost;
                        proxy_ssl_trusted_certificate {folder}/upstream-ca.pem;
                    }}
                }}
            }}
            "
        );
        let file = self.write("nginx.conf", &configuration)?;
        let arguments = [
            OsStr::new("-p"),
            self.folder.path().as_os_str(),
            OsStr::new("-e"),
            OsStr::new("stderr"),
            OsStr::new("-c"),
            file.as_os_str(),
        ];
        self.start(Kind::Nginx, OsStr::new("nginx"), &arguments)
    }

    fn haproxy(&self, listen: SocketAddr, upstream: SocketAddr) -> Result<Process, Failure> {
        let (folder, cores) = (self.folder.path().display(), self.cores);
        let configuration = format!(
            "global
                nbthread {cores}
                maxconn 9000
            defaults
                mode http
                option http-keep-alive
                option forwardfor
                timeout connect 10s
                timeout client 3600s
                timeout server 3600s
                timeout http-keep-alive 3600s
            frontend phones
                bind {listen} ssl crt {folder}/server-both.pem backlog 4096
                default_backend mail
            backend mail
                server mail {upstream} ssl verify required ca-file {folder}/upstream-ca.pem verifyhost localhost
            "
        );
        let file = self.write("haproxy.cfg", &configuration)?;
        let arguments = [OsStr::new("-db"), OsStr::new("-f"), file.as_os_str()];
        self.start(Kind::Haproxy, OsStr::new("haproxy"), &arguments)
    }

    /// The gateway with its defaults: every request identified, judged against a record, filtered
    /// and written to the log.
    fn gateway(&self, before: &Before<'_>) -> Result<Process, Failure> {
        let Before {
            name,
            listen,
            admin,
            webhook: hook,
            upstreams,
            trust,
            policies,
        } = before;
        let data = self.path(name);
        if data.exists() {
            fs::remove_dir_all(&data)?;
        }
        let mut properties = format!(
            "server.listen={listen}\n\
             server.tls.certificate.path=server.pem\n\
             server.tls.private.key.path=server.key\n\
             email.server.host.and.port={upstreams}\n\
             {trust}\n\
             enable.boxer.ens.ews.proxy=true\n\
             admin.listen={admin}\n\
             compliance.policies.path={name}-policies.toml\n\
             data.dir={name}\n"
        );
        self.write(&format!("{name}-policies.toml"), policies)?;
        if let Some(address) = hook {
            self.write("webhook.secret", webhook::SECRET)?;
            let source = format!(
                "[[source]]\nname=\"{}\"\ntype=\"csv\"\npath=\"none.csv\"\nwebhook_secret=\"file:webhook.secret\"\n",
                webhook::SOURCE
            );
            self.write("sources.toml", &source)?;
            properties.push_str(&format!("webhook.listen={address}\n"));
        }
        let file = self.write(&format!("{name}.properties"), &properties)?;
        let arguments = [OsStr::new("run"), OsStr::new("--config"), file.as_os_str()];
        self.start(Kind::Seg, self.seg.as_os_str(), &arguments)
    }

    fn start(&self, kind: Kind, program: &OsStr, arguments: &[&OsStr]) -> Result<Process, Failure> {
        let cpus = self.proxy_cpus.as_deref();
        let errors = self.log(kind.name())?;
        Process::start(kind.name(), program, arguments, cpus, Stdio::null(), errors)
    }

    /// Where a program's complaints go; shown by nobody unless the folder is kept.
    fn log(&self, name: &str) -> Result<Stdio, Failure> {
        Ok(File::create(self.path(&format!("{name}.log")))?.into())
    }

    /// The complaints so far, for the report of a failure.
    pub(crate) fn complaints(&self, name: &str) -> String {
        fs::read_to_string(self.path(&format!("{name}.log"))).unwrap_or_default()
    }

    fn write(&self, name: &str, content: &str) -> Result<PathBuf, Failure> {
        let path = self.path(name);
        // HAProxy wants its last line ended.
        fs::write(&path, content.trim_end().to_owned() + "\n")?;
        Ok(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// One certificate for all three proxies, and a client that trusts its authority only and resumes
/// no session, so that every handshake is a whole one.
fn write_certificates(folder: &Path) -> Result<Arc<rustls::ClientConfig>, Failure> {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate()?;
    let authority_certificate = authority.self_signed(&authority_key)?;
    let issuer = Issuer::new(authority, authority_key);

    let key = KeyPair::generate()?;
    let server = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()])?;
    let server = server.signed_by(&key, &issuer)?;
    fs::write(folder.join("server.pem"), server.pem())?;
    fs::write(folder.join("server.key"), key.serialize_pem())?;
    let both = server.pem() + &key.serialize_pem();
    fs::write(folder.join("server-both.pem"), both)?;

    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from(authority_certificate.der().to_vec()))?;
    let mut tls = rustls::ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.resumption = Resumption::disabled();
    Ok(Arc::new(tls))
}

/// A free port of 127.0.0.1.
fn free_address() -> Result<SocketAddr, Failure> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}
