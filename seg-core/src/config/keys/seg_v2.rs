//! Keys that stand in the files of a SEG V2 and do nothing here: accepted with the reason, so
//! that an old file can be carried over without being taken apart first.

/// Name, or start of a name that ends with `*`, and why it has no effect.
const NO_EFFECT: &[(&str, &str)] = &[
    (
        "vac.seg.config.settings.refresh.interval.in.minutes",
        "the configuration is this file; a change takes effect as soon as it is saved",
    ),
    (
        "clientCertTrustStorePath",
        "the CAs of client certificates stand in server.client.ca.path",
    ),
    ("log_level", "the level of all logs is log.level"),
    (
        "enable_krb5_logging",
        "Kerberos has no log file of its own here",
    ),
    (
        "enable_profiling",
        "there is no separate Kerberos process to profile",
    ),
    (
        "groupKey",
        "there are no logger groups; the level of all logs is log.level",
    ),
    (
        "hideFromApi",
        "there are no logger groups; the level of all logs is log.level",
    ),
    (
        "syslog.*",
        "events go to standard output, from where the system's log takes them",
    ),
    (
        "-Dsyslog.*",
        "events go to standard output, from where the system's log takes them",
    ),
    (
        "jdk.tls.*",
        "there is no Java here; see server.tls.min.version and server.tls.cipher.suites",
    ),
    (
        "-Djdk.tls.*",
        "there is no Java here; see server.tls.min.version and server.tls.cipher.suites",
    ),
    (
        "wrapper.java.*",
        "there is no Java here, and no heap to size",
    ),
    (
        "apiServerUrl",
        "no console is asked; device facts come through sync-compliance or the admin API",
    ),
    (
        "apiServerUsername",
        "no console is asked; device facts come through sync-compliance or the admin API",
    ),
    (
        "apiServerPassword",
        "no console is asked; device facts come through sync-compliance or the admin API",
    ),
    (
        "airwatchServerHostname",
        "no console is asked; device facts come through sync-compliance or the admin API",
    ),
    (
        "memConfigurationId",
        "no console is asked; device facts come through sync-compliance or the admin API",
    ),
    (
        "reinitializeGatewayProcess",
        "nothing needs a new start; a change takes effect as soon as it is saved",
    ),
    (
        "pfxCerts",
        "the certificate stands in server.tls.pkcs12.path",
    ),
    (
        "pfxCertsPassword",
        "the password stands in server.tls.pkcs12.password",
    ),
    (
        "pfxCertAlias",
        "a PKCS#12 file holds one certificate with its key here",
    ),
];

/// Why a known SEG V2 key does nothing here; `None` for any other key.
pub(in crate::config) fn no_effect_here(written: &str) -> Option<&'static str> {
    NO_EFFECT
        .iter()
        .find(|(name, _)| match name.strip_suffix('*') {
            Some(start) => written.starts_with(start),
            None => written == *name,
        })
        .map(|(_, reason)| *reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_names_and_families() {
        assert!(no_effect_here("vac.seg.config.settings.refresh.interval.in.minutes").is_some());
        assert!(no_effect_here("wrapper.java.additional.9").is_some());
        assert!(no_effect_here("syslog.host").is_some());
        assert!(no_effect_here("syslogs").is_none());
        assert!(no_effect_here("memConfigurationIds").is_none());
    }

    #[test]
    fn no_known_key_is_called_ineffective() {
        for key in super::super::all() {
            assert_eq!(no_effect_here(key.name), None, "{}", key.name);
        }
    }
}
