//! End-to-end tests, one binary: it links once. Each module is a promise of the gateway, kept or
//! broken before a mail server: the sandbox, which counts what reaches it, or a real one.

mod autodiscover;
mod bad_input;
mod block;
mod certificates;
mod client_certificates;
mod credentials;
mod dependencies;
mod dev;
mod directory;
mod drain;
mod eas_content;
mod eas_firewall;
mod eas_orders;
mod ens;
mod ews_clients;
mod ews_policy;
mod ews_streams;
mod fuzz_targets;
mod headers;
mod journal;
mod kerberos;
mod limits;
mod ntlm;
mod oauth;
mod paths;
mod passing;
mod power_cut;
mod programs;
mod redirects;
mod reload;
mod replay;
mod sandbox;
mod sogo;
mod upstream_nonsense;
mod upstreams;
