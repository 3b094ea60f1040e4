//! What operators see of the gateway: metrics, one log event a request, and pseudonyms for the
//! names of people and devices in that log.

pub mod log;
pub mod metrics;
pub mod pseudonym;
