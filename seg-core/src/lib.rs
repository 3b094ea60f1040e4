//! The gateway: configuration, TLS, routes, the pipeline that a request walks through, upstreams
//! and administration. ARCHITECTURE.md tells the life of a request; the modules below are named
//! after the rooms that it walks through, in that order.
#![deny(unsafe_code)]

// The way of a request, and its spine.
pub mod pipeline;
pub mod accept;
pub mod handshake;
pub mod message;
pub mod route;
pub mod autodiscover;
pub mod identify;
pub mod directory;
pub mod oauth;
pub mod binding;
pub mod decide;
pub mod enrolment;
pub mod protocol;
pub mod transform;
pub mod delegate;
pub mod redirect;
pub mod forward;
pub mod filter;
pub mod respond;
pub mod record;

// What the rooms stand on.
pub mod callback;
pub mod config;
pub mod runtime;
pub mod servers;
pub mod succession;
pub mod socket;
pub mod secure;
mod tcp;
pub mod telemetry;
mod der;
mod hex;
mod line_file;
mod percent;
pub mod beside;
pub mod decision;
pub mod outbound;
pub mod tls;
pub mod upstream;
pub mod webhook;

// What people and tools talk to.
pub mod admin;
pub mod cli;
pub mod sandbox;
