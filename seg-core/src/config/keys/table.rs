//! The keys. Names and defaults are a contract with everybody who has a properties file.

use super::{Group, Key, Kind};
use crate::config::value::{
    AutodiscoverMode, BindingMode, CalloutFailure, CertificateHeader, ClientAuth, ComplianceMode,
    DefaultVerdict, EmptyChallenge, EwsRefusal, HostHeader, LogFormat, LogLevel, RedirectMode,
    StaleAnswer, SuspectAction, TlsVersion, UnknownStanding, UserMismatch, UserMode,
};
use crate::config::value::{KerberosName, UpstreamLogin};

const LISTEN: Kind = Kind::Text("comma list of address:port");
const FILES: Kind = Kind::Text("comma list of files");
const HOSTS: Kind = Kind::Text("comma list of host names");
const ORIGINS: Kind = Kind::Text("comma list of https://host:port");
const ANSWER: Kind = Kind::Text("1 to 20 characters");

/// The keys of one leg towards mail servers. The `ews.` twin is empty by default and then has the
/// value of the key without `ews.`; only its health path has a default of its own, because the
/// two services report their health in different places.
macro_rules! legs {
    ($($name:literal, $default:literal, $twin:literal, $kind:expr, $meaning:literal;)+) => {
        const EAS_LEG: &[Key] = &[
            $(Key::new($name, $default, $kind, $meaning),)+
            Key::new(IGNORE, "false", Kind::Switch,
                "true: the mail server's certificate is not verified, which lets anybody in between read the mail")
                .aliases(&["ignoreSslErrorsWithExch"]),
        ];
        const EWS_LEG: &[Key] = &[
            $(Key::new(concat!("ews.", $name), $twin, $kind, concat!("EWS: ", $meaning)).inherits($name),)+
            Key::new("ews.ignore.ssl.errors.with.exchange", "", Kind::Switch,
                "EWS: true: the mail server's certificate is not verified")
                .inherits(IGNORE),
        ];
    };
}

const IGNORE: &str = "ignore.ssl.errors.with.exchange";

legs! {
    "email.server.host.and.port", "", "", ORIGINS,
        "the mail server, or several in a comma list";
    "email.server.ca.path", "", "", Kind::Path,
        "PEM file with CAs that are trusted for it besides the system's own";
    "email.server.host.header", "upstream", "", Kind::Choice(HostHeader::WORDS),
        "the Host header it sees: its own name, or the one the client sent";
    "email.server.client.certificate.path", "", "", Kind::Path,
        "PEM file with our own certificate towards it";
    "email.server.client.private.key.path", "", "", Kind::Path,
        "PEM file with the private key of that certificate";
    "email.server.login", "pass", "", Kind::Choice(UpstreamLogin::WORDS),
        "kerberos: who came by a certificate, a token or a ticket is logged in by delegation; pass: what he sent goes on";
    "email.server.spn", "HTTP/{host}", "", Kind::Text("a service name"),
        "its Kerberos service name; {host}: the name of the server that was chosen";
    "email.server.client.cert.header", "none", "", Kind::Choice(CertificateHeader::WORDS),
        "the header in which it finds the client's certificate: RFC 9440, nginx', or NetScaler's";
    "email.server.timeout.connect.seconds", "10", "", Kind::Seconds { min: 1, max: 300 },
        "how long a connection to it may take, TLS included";
    "email.server.timeout.response.seconds", "90", "", Kind::Seconds { min: 1, max: 3600 },
        "how long it may take to answer anything but a long poll";
    "email.server.health.path", "/Microsoft-Server-ActiveSync/healthcheck.htm", "/EWS/healthcheck.htm",
        Kind::Text("a path"), "where it is asked for its health";
    "email.server.health.expect", "any", "", Kind::Text("any, or a status"),
        "the healthy answer; any: every complete answer below 500";
    "email.server.health.interval.seconds", "10", "", Kind::Seconds { min: 1, max: 3600 },
        "how often it is asked";
    "email.server.health.threshold", "3", "", Kind::Whole { min: 1, max: 100 },
        "after so many equal answers it counts as down, or as up again";
    "email.server.affinity", "device", "", Kind::AFFINITY,
        "device: a device stays with its server while that one is up; none: the least busy is asked";
    "email.server.slow.start.seconds", "10", "", Kind::Seconds { min: 0, max: 3600 },
        "over how long a server that came back gets its share of requests again";
    "email.server.ejection.failures", "5", "", Kind::Whole { min: 0, max: 1000 },
        "a server on which so many requests in a row fail is left out while there is another; 0: never";
    "email.server.ejection.seconds", "10", "", Kind::Seconds { min: 1, max: 600 },
        "for how long the first time; each further time doubles it, up to ten minutes";
    "email.server.max.connections", "0", "", Kind::Whole { min: 0, max: 1_000_000 },
        "the most connections to one server; further requests wait as long as a connection may take; 0: no limit";
    "email.server.source.addresses", "", "", Kind::Text("comma list of IP addresses"),
        "our own addresses that connections to it leave from, in turn: each has some 28,000 ports; empty: the system chooses";
}

/// Every key but those of routes.
pub(in crate::config) static GROUPS: &[Group] = &[
    Group { title: "Listeners", keys: &[
        Key::new("server.listen", "0.0.0.0:8443", LISTEN,
            "where phones and mail clients connect, with TLS").restart(),
        Key::new("server.http.listen", "", LISTEN,
            "plain HTTP: pass-through routes, everything else is sent to https").restart(),
        Key::new("server.public.url", "", Kind::Text("https://host:port"),
            "our own address as clients know it, for Autodiscover, 451 and callbacks"),
        Key::new("server.allowed.hosts", "", HOSTS,
            "Host headers that are served; empty: any"),
        Key::new("server.trusted.proxies", "", Kind::Text("comma list of networks"),
            "load balancers whose forwarded headers and PROXY protocol are believed"),
        Key::new("server.proxy.protocol", "false", Kind::Switch,
            "true: connections from trusted proxies start with the PROXY protocol"),
        Key::new("server.forwarded.headers", "on", Kind::TOGGLE,
            "off: the client's address is not told to mail servers"),
    ] },
    Group { title: "TLS towards clients", keys: &[
        Key::new("server.tls.certificate.path", "", FILES,
            "PEM files with a certificate and its chain each: clients see the one for the host they ask for, \
             else the first; empty: a self-signed one is made at start"),
        Key::new("server.tls.private.key.path", "", FILES,
            "PEM files with the private keys, in the same order"),
        Key::new("server.tls.pkcs12.path", "", Kind::Path,
            "certificate, chain and key in one PKCS#12 file, instead of the two above"),
        Key::new("server.tls.pkcs12.password", "", Kind::Text("text"),
            "the password of the PKCS#12 file").secret(),
        Key::new("server.tls.min.version", "1.2", Kind::Choice(TlsVersion::WORDS),
            "the oldest TLS version that is spoken"),
        Key::new("server.tls.cipher.suites", "", Kind::Text("comma list of suite names"),
            "the cipher suites in order of preference; empty: rustls' own choice"),
        Key::new("server.client.auth", "none", Kind::Choice(ClientAuth::WORDS),
            "whether clients show a certificate"),
        Key::new("server.client.auth.hosts", "", Kind::Text("comma list such as mail.example.com=required"),
            "host names with a rule of their own, instead of server.client.auth"),
        Key::new("server.client.auth.listeners", "", Kind::Text("comma list such as 0.0.0.0:9443=required"),
            "listeners with a rule of their own, where the host name has none"),
        Key::new("server.client.ca.path", "", Kind::Path,
            "PEM file with the CAs that sign client certificates, any number of them"),
        Key::new("enable.upn.lookup.from.subject.cn", "false", Kind::Switch,
            "true: a client certificate without a UPN names its user by the subject's common name"),
        Key::new("enable.cert.revocation.validation", "false", Kind::Switch,
            "true: client certificates are checked against revocation lists"),
        Key::new("cert.based.auth.crl.files.parent.dir.path", "/config/crls", Kind::Path,
            "the folder with revocation lists, PEM or DER; one that is missing is an empty one"),
        Key::new("remote.crl.distribution.http.uris", "", Kind::Text("comma list of http:// addresses"),
            "where revocation lists are fetched; the last good one is kept in data.dir"),
        Key::new("remote.crl.fetch.interval.in.minutes", "1440", Kind::Whole { min: 1, max: 525_600 },
            "how often they are fetched, in minutes"),
        Key::new("fail.hard.on.crl.download.failure.during.server.startup", "false", Kind::Switch,
            "true: no start while a revocation list can't be fetched"),
        Key::new("revocation.unknown", "allow", Kind::Choice(UnknownStanding::WORDS),
            "a certificate of which no current list and no responder knows: let in, or refused"),
        Key::new("revocation.ocsp", "", Kind::Text("comma list: aia, http://address, or such with `CA name=` before it"),
            "responders that are asked (OCSP); aia: the one that the certificate names; empty: none"),
        Key::new("revocation.ocsp.max.age.seconds", "3600", Kind::Seconds { min: 1, max: 604_800 },
            "how long a responder's answer is believed at most"),
        Key::new("revocation.ocsp.timeout.seconds", "5", Kind::Seconds { min: 1, max: 60 },
            "how long a responder is waited for"),
    ] },
    Group { title: "Limits and times towards clients", keys: &[
        Key::new("server.body.max.bytes", "0", Kind::Whole { min: 0, max: u64::MAX },
            "longer request bodies are refused with 413; 0: no limit"),
        Key::new("server.header.max.bytes", "65536", Kind::Whole { min: 8192, max: 1_048_576 },
            "longer request heads are refused"),
        Key::new("server.timeout.handshake.seconds", "10", Kind::Seconds { min: 1, max: 3600 },
            "how long a TLS handshake may take"),
        Key::new("server.timeout.header.seconds", "10", Kind::Seconds { min: 1, max: 3600 },
            "how long a request head may take to arrive"),
        Key::new("server.timeout.body.seconds", "60", Kind::Seconds { min: 1, max: 3600 },
            "how long a request body may stand still"),
        Key::new("server.timeout.idle.seconds", "120", Kind::Seconds { min: 1, max: 86_400 },
            "how long a connection may wait for its next request"),
        Key::new("server.drain.seconds", "30", Kind::Seconds { min: 0, max: 3600 },
            "over how long open polls are ended at shutdown"),
    ] },
    Group { title: "The mail server: ActiveSync", keys: EAS_LEG },
    Group { title: "The mail server: EWS (empty: as for ActiveSync)", keys: EWS_LEG },
    Group { title: "What is opened, and which ways to log in are offered", keys: &[
        Key::new("enable.boxer.ens.ews.proxy", "false", Kind::Switch,
            "true: /EWS is open too, for Boxer, its notification service and other EWS clients"),
        Key::new("remove.unsupported.auth", "", Kind::Switch,
            "sets both of the next two keys"),
        Key::new("remove.unsupported.auth.for.ews", "true", Kind::Switch,
            "EWS: true: NTLM is never offered, Negotiate only to those a certificate or token has named"),
        Key::new("remove.unsupported.auth.for.eas", "true", Kind::Switch,
            "ActiveSync: true: NTLM is never offered, Negotiate only to those a certificate or token has named"),
        Key::new("remove.unsupported.auth.empty", "403", Kind::Choice(EmptyChallenge::WORDS),
            "what a 401 becomes when none of its ways to log in is left"),
    ] },
    Group { title: "ActiveSync", keys: &[
        Key::new("eas.heartbeat.margin.seconds", "60", Kind::Seconds { min: 0, max: 3600 },
            "how long a mail server may be late with the end of a long poll"),
        Key::new("eas.heartbeat.max.seconds", "3540", Kind::Seconds { min: 1, max: 86_400 },
            "the longest long poll that is waited for"),
        Key::new("content.buffer.limit.bytes", "33554432", Kind::Whole { min: 65_536, max: 1_073_741_824 },
            "how much of a mail or an answer is held for [[content]] of policies.toml"),
    ] },
    Group { title: "EWS", keys: &[
        Key::new("ews.refusal", "response", Kind::Choice(EwsRefusal::WORDS),
            "how a refusal looks: the operation's own response with ErrorAccessDenied, or a bare 403"),
        // A refusal carries the server version the mail server last named. This one stands in
        // until the first answer was seen: Exchange 2016, which every client in use accepts.
        Key::new("ews.refusal.server.version", "15.1.2507.6", Kind::Text("major.minor.build.revision"),
            "the Exchange version a refusal names before the mail server has named its own"),
        Key::new("ews.ntlm.pinning", "false", Kind::Switch,
            "true: NTLM is offered on EWS, each client connection with a server connection of its own; fails where the server wants Extended Protection"),
        Key::new("ens.callback.interposition", "false", Kind::Switch,
            "true: Exchange calls the gateway instead of push subscribers, who are told while their device is compliant"),
        Key::new("ens.callback.key.path", "", Kind::Path,
            "file with the keys of callback URLs, one in base64 a line, the first seals; the same on every node; empty: callback.keys in data.dir, made at the first start"),
        Key::new("ens.callback.ca.path", "", Kind::Path,
            "PEM file with CAs that are trusted for push subscribers besides the system's own"),
        Key::new("ens.callback.days", "30", Kind::Whole { min: 1, max: 366 },
            "how many days a callback URL is good"),
    ] },
    Group { title: "Autodiscover", keys: &[
        Key::new("autodiscover.mode", "rewrite", Kind::Choice(AutodiscoverMode::WORDS),
            "rewrite: the mail server's answer with every address turned into server.public.url; answer: one of our own; deny: 404"),
    ] },
    Group { title: "Redirects", keys: &[
        Key::new("redirect.mode", "follow", Kind::Choice(RedirectMode::WORDS),
            "what is done when a mail server sends a user to another one (451, 302): followed here, told with our own address, or refused"),
        Key::new("redirect.allowed.hosts", "", Kind::Text("comma list of hosts, *.domains, networks"),
            "where to: hosts, host:port, *.domain (public addresses only), http://host, addresses and networks"),
        Key::new("redirect.remember.seconds", "86400", Kind::Seconds { min: 1, max: 31_536_000 },
            "how long it is remembered where a user has moved"),
    ] },
    Group { title: "Identity", keys: &[
        Key::new("identity.domain.map", "", Kind::Text("comma list such as CORP=corp.example"),
            "makes CORP\\alice and alice@corp.example one user"),
        Key::new("identity.default.domain", "", Kind::Text("a domain"),
            "the domain of users that name none"),
        Key::new("identity.alias.path", "", Kind::Path,
            "CSV file with the columns alias,user, for mail addresses and other UPN suffixes"),
        Key::new("identity.user.mismatch", "log", Kind::Choice(UserMismatch::WORDS),
            "a request whose User parameter isn't the user who logged in"),
    ] },
    Group { title: "Client certificates: whose they are", keys: &[
        Key::new("identity.certificate.user", "upn", Kind::Text("comma list of upn, email, cn, directory"),
            "where a certificate names its user; the first that is there; directory, the last: the account whose altSecurityIdentities name the certificate"),
        Key::new("identity.certificate.user.pattern", "", Kind::Text("a regular expression"),
            "what that name must look like as a whole; a certificate with another one names nobody"),
        Key::new("identity.certificate.user.as", "", Kind::Text("text with $1 for the first group"),
            "the user made of what the pattern found; empty: the name as it stands"),
        Key::new("identity.certificate.device", "none", Kind::Text("none, cn, serial, dns, uri, email or directory"),
            "where a certificate names its device: then no other DeviceId is served with it; directory: directory.device.*"),
        Key::new("identity.certificate.device.pattern", "", Kind::Text("a regular expression"),
            "its first group is the DeviceId"),
        Key::new("identity.certificate.map.path", "", Kind::Path,
            "CSV file with the columns serial,user,device, for single certificates, before all of the above"),
        Key::new("identity.certificate.mismatch", "refuse", Kind::Choice(UserMismatch::WORDS),
            "a certificate and credentials, or a DeviceId, that name different users or devices"),
    ] },
    Group { title: "Whose a device is: copies of a DeviceId", keys: &[
        Key::new("binding.mode", "off", Kind::Choice(BindingMode::WORDS),
            "first-use: a device belongs to whom it is first used by, where binding.path does not say it; configured: binding.path alone says it"),
        Key::new("binding.path", "", Kind::Path,
            "CSV file with the columns device,user,certificate,agent: the certificate by its SHA-256, the agent with * for anything"),
        Key::new("binding.compare", "user,certificate,agent", Kind::Text("comma list of user, certificate, agent, tls, places"),
            "what must agree; tls: what the client offers in its handshake, which changes with its system; places: no two networks at once"),
        Key::new("binding.suspect", "report", Kind::Choice(SuspectAction::WORDS),
            "what is done with a request that may come from a copy of a device; an override and the management system's word come first"),
        Key::new("binding.certificate.renewal.days", "45", Kind::Whole { min: 0, max: 3650 },
            "so long before its end a certificate may be followed by a younger one of the same CA"),
        Key::new("binding.places.changes", "8", Kind::Whole { min: 2, max: 100 },
            "so many changes between networks make a device one that is in two places at once"),
        Key::new("binding.places.seconds", "600", Kind::Seconds { min: 1, max: 86_400 },
            "within this time"),
    ] },
    Group { title: "Enrolment: people fetch their mail profile at /eas", keys: &[
        Key::new("enrolment.profiles.path", "", Kind::Path,
            "folder with <user>.mobileconfig, or a folder <user> with several, one a device; signed and encrypted ones are given as they are"),
        Key::new("enrolment.template.path", "", Kind::Path,
            "a profile with {{user}}, {{account}}, {{domain}}, {{mail}}, {{name}}, {{host}}, {{pkcs12}}, {{uuid:WORD}} to fill in, for whom the folder holds none; both empty: /eas is closed"),
        Key::new("enrolment.pkcs12.path", "", Kind::Path,
            "folder with <user>.p12, for {{pkcs12}}"),
        Key::new("enrolment.signing.certificate.path", "", Kind::Path,
            "PEM file with the certificate that signs profiles, and its chain; empty: they are not signed"),
        Key::new("enrolment.signing.private.key.path", "", Kind::Path,
            "PEM file with its key: RSA, or ECDSA P-256"),
    ] },
    Group { title: "Kerberos delegation (builds with the feature `kerberos`)", keys: &[
        Key::new("kerberos.principals", "", Kind::Text("comma list such as svc-seg@CORP.EXAMPLE"),
            "the gateway's own account in each realm; the first realm is the default"),
        Key::new("kerberos.keytab.path", "", Kind::Path,
            "the keytab with the keys of those accounts"),
        Key::new("kerberos.kdc", "", Kind::Text("comma list such as CORP.EXAMPLE=dc1.corp.example"),
            "the domain controllers; those that don't answer are passed over; empty: found by DNS"),
        Key::new("kerberos.user.name", "principal", Kind::Choice(KerberosName::WORDS),
            "principal: alice@CORP.EXAMPLE for alice@corp.example; enterprise: the domain controller looks every UPN up"),
        Key::new("kerberos.accept", "false", Kind::Switch,
            "true: Negotiate is taken from clients, and a proxy before us may delegate to us"),
        Key::new("kerberos.channel.binding", "true", Kind::Switch,
            "true: tickets are bound to the TLS connection to the mail server"),
        Key::new("kerberos.cache.seconds", "300", Kind::Seconds { min: 1, max: 36_000 },
            "how long a ticket is used; so long a disabled account gets mail"),
        Key::new("kerberos.timeout.seconds", "10", Kind::Seconds { min: 1, max: 120 },
            "how long a request waits for its ticket"),
        Key::new("kerberos.threads", "8", Kind::Whole { min: 1, max: 256 },
            "how many tickets are fetched at once"),
    ] },
    Group { title: "Directory: passwords, accounts and groups in Active Directory", keys: &[
        Key::new("directory.url", "", Kind::Text("comma list of ldaps:// or ldap:// addresses"),
            "the directory, which is asked before the mail server; ldap:// is spoken with StartTLS; empty: nobody is asked"),
        Key::new("directory.ca.path", "", Kind::Path,
            "PEM file with CAs that are trusted for it besides the system's own"),
        Key::new("directory.base", "", Kind::Text("a distinguished name such as DC=corp,DC=example"),
            "where accounts and groups are searched"),
        Key::new("directory.bind.user", "", Kind::Text("text"),
            "the gateway's own account: it finds mail addresses, and people who come without a password"),
        Key::new("directory.bind.password", "", Kind::Text("text"),
            "the password of that account").secret(),
        Key::new("directory.groups.permitted", "", Kind::Text("comma list of groups, each also as group=/path or group=host/path"),
            "whose members are let in, and where; groups in groups count; empty: everybody"),
        Key::new("directory.groups.denied", "", Kind::Text("comma list of groups"),
            "whose members are not let in"),
        Key::new("directory.cache.seconds", "300", Kind::Seconds { min: 1, max: 86_400 },
            "how long a right password, and an account, is believed without asking again"),
        Key::new("directory.lockout.failures", "3", Kind::Whole { min: 0, max: 16 },
            "after so many different wrong passwords nobody is asked about the user; keep it below the directory's own limit; 0: never"),
        Key::new("directory.lockout.seconds", "1800", Kind::Seconds { min: 1, max: 86_400 },
            "for how long, and how long a wrong password is remembered; at least as long as the directory counts"),
        Key::new("directory.lockout.network.failures", "100", Kind::Whole { min: 0, max: 1_000_000 },
            "after so many failures from one network in ten minutes it is not listened to; 0: never"),
        Key::new("directory.timeout.seconds", "5", Kind::Seconds { min: 1, max: 60 },
            "how long one of its servers is waited for"),
        Key::new("directory.device.attribute", "", Kind::Text("an attribute such as msExchDeviceID"),
            "which holds the DeviceId, for identity.certificate.device=directory"),
        Key::new("directory.device.filter", "(altSecurityIdentities={identity})", Kind::Text("an LDAP filter with {identity}, {serial}, {fingerprint}, {user}, {cn}, {subject.serial}, {dns}, {uri} or {email} of the certificate"),
            "which entry holds it"),
    ] },
    Group { title: "OAuth: tokens that the gateway checks itself", keys: &[
        Key::new("oauth.issuers", "", Kind::Text("comma list of issuer and address of its keys, a blank between"),
            "whose tokens count; empty: tokens are the mail server's business"),
        Key::new("oauth.audiences", "", Kind::Text("comma list"),
            "for whom a token must be"),
        Key::new("oauth.applications", "", Kind::Text("comma list of application ids"),
            "whose tokens are let in; empty: every application's"),
        Key::new("oauth.keys.ca.path", "", Kind::Path,
            "PEM file with CAs that are trusted for the issuers besides the system's own"),
        Key::new("oauth.challenge", "pass", Kind::Text("pass, remove, or a challenge that begins with Bearer"),
            "what clients see of the mail server's own Bearer challenge: where to fetch a token"),
        Key::new("oauth.leeway.seconds", "60", Kind::Seconds { min: 0, max: 600 },
            "how far the issuer's clock may differ"),
        Key::new("oauth.keys.refresh.seconds", "3600", Kind::Seconds { min: 1, max: 604_800 },
            "how often an issuer's keys are fetched; an unknown key is asked for at once"),
        Key::new("oauth.keys.offline.seconds", "259200", Kind::Seconds { min: 60, max: 2_592_000 },
            "how long they serve when the issuer can't be reached"),
    ] },
    Group { title: "Compliance", keys: &[
        Key::new("data.dir", "data", Kind::Path,
            "the folder of the store and its exports").restart(),
        Key::new("compliance.policies.path", "policies.toml", Kind::Path,
            "the policies; a missing file is an empty one"),
        Key::new("compliance.sources.path", "sources.toml", Kind::Path,
            "the systems that know about devices; a missing file is an empty one"),
        Key::new("compliance.mode", "enforce", Kind::Choice(ComplianceMode::WORDS),
            "observe: decide, log and count, but refuse nobody"),
        Key::new("compliance.unknown.device", "block", Kind::Choice(DefaultVerdict::WORDS),
            "the verdict for devices nobody has reported"),
        Key::new("compliance.known.device", "allow", Kind::Choice(DefaultVerdict::WORDS),
            "the verdict for reported devices where nothing else decides"),
        Key::new("compliance.user.mode", "any-compliant", Kind::Choice(UserMode::WORDS),
            "how requests that carry no device are judged, by their user's devices"),
        Key::new("compliance.stale.max.minutes", "2880", Kind::Whole { min: 0, max: 5_256_000 },
            "how long a source may be silent before what it reported is too old; 0: for ever, which fails open"),
        Key::new("compliance.stale.answer", "block", Kind::Choice(StaleAnswer::WORDS),
            "what holds then for its devices, where a policy does not say so itself"),
        Key::new("compliance.import.max.change.percent", "50", Kind::Whole { min: 0, max: 100 },
            "a snapshot that would change more of the devices that it concerns stops and asks; 100: none does"),
    ] },
    Group { title: "The decision service, for those who keep their load balancer", keys: &[
        Key::new("decision.listen", "", Kind::Text("address:port"),
            "where load balancers ask whether a request may pass; empty: nowhere").restart(),
        Key::new("decision.allowed.networks", "127.0.0.0/8,::1/128", Kind::Text("comma list of networks"),
            "who may ask"),
        Key::new("decision.client.ca.path", "", Kind::Path,
            "PEM file with the CA of those who may ask: it then speaks TLS and wants their certificate"),
        Key::new("decision.answer.json.allow", r#"{"result":"allow"}"#, ANSWER,
            "NetScaler's callout: the answer in JSON to a request that may pass"),
        Key::new("decision.answer.json.deny", r#"{"result":"deny"}"#, ANSWER,
            "NetScaler's callout: the answer in JSON to one that may not"),
        Key::new("decision.answer.text.allow", "allow", ANSWER,
            "NetScaler's callout: the answer in text to a request that may pass"),
        Key::new("decision.answer.text.deny", "deny", ANSWER,
            "NetScaler's callout: the answer in text to one that may not"),
        Key::new("callout.url", "", Kind::Text("an address such as http://host/services/ActiveSync/Authorize"),
            "a decision service that the gateway itself asks, after its own verdict"),
        Key::new("callout.timeout.seconds", "2", Kind::Seconds { min: 1, max: 60 },
            "how long it may take"),
        Key::new("callout.failure", "block", Kind::Choice(CalloutFailure::WORDS),
            "what holds while it does not answer"),
        Key::new("callout.cache.seconds", "60", Kind::Seconds { min: 0, max: 86_400 },
            "how long an answer holds for the same question"),
    ] },
    Group { title: "Webhooks of management systems", keys: &[
        Key::new("webhook.listen", "", Kind::Text("address:port"),
            "where management systems tell of a device the moment it changes; empty: nowhere").restart(),
        Key::new("webhook.allowed.networks", "0.0.0.0/0,::/0", Kind::Text("comma list of networks"),
            "who may connect"),
        Key::new("webhook.client.ca.path", "", Kind::Path,
            "PEM file with the CA of those who may connect: it then speaks TLS and wants their certificate"),
    ] },
    Group { title: "Administration", keys: &[
        Key::new("admin.listen", "127.0.0.1:44444", Kind::Text("address:port"),
            "where the admin API, health and metrics listen").restart(),
        Key::new("admin.token.path", "", Kind::Path,
            "the file with the admin API's token, made on first start; empty: admin.token in data.dir").restart(),
        Key::new("admin.tokens.path", "", Kind::Path,
            "TOML file with named tokens, a role each (read, operate, import, admin) and only their hashes"),
        Key::new("admin.audit.retention.days", "365", Kind::Whole { min: 1, max: 36_500 },
            "how long it is kept who changed what"),
        Key::new("outbound.proxy.url", "", Kind::Text("http://user:password@host:port"),
            "a proxy for the gateway's own requests to device management, keys and revocation lists")
            .secret(),
    ] },
    Group { title: "Log", keys: &[
        Key::new("log.format", "json", Kind::Choice(LogFormat::WORDS),
            "json: one object a line; text: for people"),
        // Beyond the names every gateway needs: how much, and whether people stay recognisable.
        Key::new("log.level", "info", Kind::Choice(LogLevel::WORDS),
            "how much is logged"),
        Key::new("log.pseudonym.key.path", "", Kind::Path,
            "a file with a key: device ids and users are logged as pseudonyms made with it"),
    ] },
];

/// The keys of a pass-through route.
pub(in crate::config) static ROUTE_KEYS: &[Key] = &[
    Key::new(
        "route.<name>.host",
        "",
        HOSTS,
        "Host headers the route serves; empty: any",
    ),
    Key::new(
        "route.<name>.path",
        "/",
        Kind::Text("a path"),
        "the start of the paths it serves",
    ),
    Key::new(
        "route.<name>.upstream",
        "",
        ORIGINS,
        "where its requests go; a route needs one",
    ),
    Key::new(
        "route.<name>.priority",
        "0",
        Kind::Whole { min: 0, max: 1000 },
        "of several routes that fit, the one with the highest priority serves",
    ),
    Key::new(
        "route.<name>.host.header",
        "preserve",
        Kind::Choice(HostHeader::WORDS),
        "the Host header its upstream sees: the one the client sent, or its own name",
    ),
    Key::new(
        "route.<name>.ca.path",
        "",
        Kind::Path,
        "PEM file with CAs that are trusted for its upstream besides the system's own",
    ),
    Key::new(
        "route.<name>.timeout.response.seconds",
        "90",
        Kind::Seconds { min: 1, max: 3600 },
        "how long its upstream may take to answer, and to pause",
    ),
    Key::new(
        "route.<name>.body.max.bytes",
        "0",
        Kind::Whole {
            min: 0,
            max: u64::MAX,
        },
        "longer request bodies are refused with 413; 0: as server.body.max.bytes says",
    ),
    Key::new(
        "route.<name>.client.cert.header",
        "",
        Kind::Text("a header name"),
        "the header in which the upstream finds the client's certificate",
    ),
    Key::new(
        "route.<name>.websocket",
        "false",
        Kind::Switch,
        "true: a request may go on as a WebSocket; any other upgrade is refused",
    ),
];
