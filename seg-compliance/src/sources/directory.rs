//! A directory: which people are in which groups, in the protocol of RFC 4511.
//!
//! Groups are named in the definition and read one by one, page by page (RFC 2696), so that what is
//! read is bounded by who is meant. A group that is not there is an error: nobody must lose his
//! groups because somebody renamed one.

use std::collections::HashMap;
use std::sync::Arc;

use ahash::RandomState;
use ldap3::adapters::{Adapter, EntriesOnly, PagedResults};
use ldap3::{Ldap, LdapConnAsync, LdapConnSettings, LdapError, Scope, SearchEntry, ldap_escape};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use super::SourceError;
use super::definition::Directory;

/// LDAP_MATCHING_RULE_IN_CHAIN (MS-ADTS 3.1.1.3.4.4.3): members of members count too.
const IN_CHAIN: &str = ":1.2.840.113556.1.4.1941:";
/// Entries of one page.
const PAGE: i32 = 500;
/// Most names of people that are read.
const NAMES_MAX: usize = 5_000_000;

/// The groups of people, by each of their names in lower case.
#[derive(Debug, Default)]
pub(super) struct People {
    groups: Vec<String>,
    /// Places in `groups`.
    of: HashMap<String, Vec<u16>, RandomState>,
}

impl People {
    /// The groups of a device's user, where `held` are those that its record has: what the directory
    /// was not asked about stays.
    pub(super) fn groups(&self, user: &str, held: &[String]) -> Vec<String> {
        let asked = |name: &String| {
            let mut known = self.groups.iter();
            known.any(|group| group.eq_ignore_ascii_case(name))
        };
        let mut groups: Vec<String> = held.iter().filter(|name| !asked(name)).cloned().collect();
        let his = self.of.get(&user.to_lowercase());
        let names = his.into_iter().flatten();
        groups.extend(names.filter_map(|at| self.groups.get(usize::from(*at)).cloned()));
        groups
    }

    /// How many names of people are in one of the groups.
    pub(super) fn len(&self) -> usize {
        self.of.len()
    }

    fn note(&mut self, name: &str, group: u16) {
        let groups = self.of.entry(name.to_lowercase()).or_default();
        if groups.last() != Some(&group) {
            groups.push(group);
        }
    }
}

/// Reads who is in the groups.
pub(super) fn people(directory: &Directory) -> Result<People, SourceError> {
    let refuse = |reason: String| SourceError::Unreachable {
        url: directory.urls.join(", "),
        reason,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| refuse(error.to_string()))?;
    let tls = Arc::new(client(directory)?);
    runtime.block_on(async {
        let mut ldap = connect(directory, &tls).await.map_err(refuse)?;
        let password = directory.password.read()?;
        let bound = ldap
            .with_timeout(directory.timeout)
            .simple_bind(&directory.user, password.reveal())
            .await
            .and_then(ldap3::LdapResult::success);
        bound.map_err(|error| refuse(format!("refuses the login: {error}")))?;
        let mut people = People {
            groups: directory.groups.clone(),
            ..People::default()
        };
        for (at, group) in (0_u16..).zip(&directory.groups) {
            read(directory, &mut ldap, at, group, &mut people)
                .await
                .map_err(|reason| refuse(format!("group {group:?}: {reason}")))?;
        }
        // All is read: how the connection ends does not matter.
        let _ended = ldap.unbind().await;
        Ok(people)
    })
}

/// Reads the members of one group.
async fn read(
    directory: &Directory,
    ldap: &mut Ldap,
    at: u16,
    group: &str,
    people: &mut People,
) -> Result<(), String> {
    let name = ldap_escape(group);
    let filter = format!(
        "(&(|(objectClass=group)(objectClass=groupOfNames))(|(sAMAccountName={name})(cn={name})))"
    );
    let mut members = false;
    let found = search(directory, ldap, &filter, &["member"], &mut |entry| {
        // A server that cuts a long list names the rest in the attribute: `member;range=0-1499`.
        let names = entry.attrs.iter();
        members |= names
            .filter(|(name, _)| name.to_ascii_lowercase().starts_with("member"))
            .any(|(_, values)| !values.is_empty());
        Ok(())
    })
    .await?;
    let [dn] = found.as_slice() else {
        return Err(format!(
            "{} of that name are below {}",
            found.len(),
            directory.base
        ));
    };
    let rule = if directory.nested { IN_CHAIN } else { "" };
    let filter = format!("(memberOf{rule}={})", ldap_escape(dn.as_str()));
    let attributes = ["userPrincipalName", "mail", "sAMAccountName"];
    let domain = domain(&directory.base);
    let told = search(directory, ldap, &filter, &attributes, &mut |entry| {
        let values = |name: &str| entry.attrs.get(name).into_iter().flatten();
        for name in values("userPrincipalName").chain(values("mail")) {
            people.note(name, at);
        }
        // The implicit principal name stands in no attribute.
        for account in values("sAMAccountName") {
            people.note(&format!("{account}@{domain}"), at);
        }
        if people.len() > NAMES_MAX {
            return Err(format!("more than {NAMES_MAX} names of people"));
        }
        Ok(())
    })
    .await?;
    if members && told.is_empty() {
        return Err(format!(
            "it has members, but nobody below {} has a memberOf that names it (OpenLDAP needs the \
             memberof overlay)",
            directory.base
        ));
    }
    Ok(())
}

/// Hands each entry on; answers their names.
async fn search(
    directory: &Directory,
    ldap: &mut Ldap,
    filter: &str,
    attributes: &[&str],
    each: &mut dyn FnMut(&SearchEntry) -> Result<(), String>,
) -> Result<Vec<String>, String> {
    let said = |error: LdapError| error.to_string();
    let adapters: Vec<Box<dyn Adapter<'_, _, _>>> = vec![
        Box::new(EntriesOnly::new()),
        Box::new(PagedResults::new(PAGE)),
    ];
    let mut stream = ldap
        .with_timeout(directory.timeout)
        .streaming_search_with(
            adapters,
            &directory.base,
            Scope::Subtree,
            filter,
            attributes.to_vec(),
        )
        .await
        .map_err(said)?;
    let mut names = Vec::new();
    while let Some(entry) = stream.next().await.map_err(said)? {
        let entry = SearchEntry::construct(entry);
        each(&entry)?;
        names.push(entry.dn);
    }
    // A size limit, or any other end before the end, is no success.
    stream.finish().await.success().map_err(said)?;
    Ok(names)
}

/// A connection to the first server that answers.
async fn connect(directory: &Directory, tls: &Arc<ClientConfig>) -> Result<Ldap, String> {
    let mut reasons = Vec::new();
    for url in &directory.urls {
        let settings = LdapConnSettings::new()
            .set_conn_timeout(directory.timeout)
            .set_config(Arc::clone(tls))
            .set_starttls(url.starts_with("ldap://"));
        match LdapConnAsync::with_settings(settings, url).await {
            Ok((connection, ldap)) => {
                tokio::spawn(async move {
                    // How it ends is told to whoever asks over it.
                    let _ended = connection.drive().await;
                });
                return Ok(ldap);
            }
            Err(error) => reasons.push(format!("{url}: {error}")),
        }
    }
    Err(reasons.join("; "))
}

/// The system's CAs, and the source's own.
fn client(directory: &Directory) -> Result<ClientConfig, SourceError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = &directory.ca {
        let refuse = |reason: String| SourceError::File {
            path: path.display().to_string(),
            reason,
        };
        let pem = std::fs::read(path).map_err(|error| SourceError::file(path, &error))?;
        let before = roots.len();
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let certificate = certificate.map_err(|error| refuse(error.to_string()))?;
            roots
                .add(certificate)
                .map_err(|error| refuse(error.to_string()))?;
        }
        if roots.len() == before {
            return Err(refuse("holds no certificate in PEM form".to_owned()));
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| SourceError::Unreachable {
            url: directory.urls.join(", "),
            reason: error.to_string(),
        })?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// The DNS name that a distinguished name spells: `DC=corp,DC=example` is `corp.example`.
fn domain(base: &str) -> String {
    let labels = base.split(',').filter_map(|part| {
        let (kind, label) = part.split_once('=')?;
        kind.trim().eq_ignore_ascii_case("dc").then(|| label.trim())
    });
    labels.collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_directory_was_not_asked_about_stays() {
        let mut people = People {
            groups: vec!["Mail".to_owned(), "Sales".to_owned()],
            ..People::default()
        };
        for (name, group) in [
            ("Alice@corp.example", 0),
            ("alice@corp.example", 0),
            ("bob@x", 1),
        ] {
            people.note(name, group);
        }
        let held = ["sales", "Shift", "Mail"].map(str::to_owned);
        assert_eq!(
            people.groups("ALICE@corp.example", &held),
            ["Shift", "Mail"]
        );
        assert_eq!(people.groups("bob@x", &[]), ["Sales"]);
        assert_eq!(people.groups("carol@x", &held), ["Shift"]);
        assert_eq!(people.len(), 2);
    }

    #[test]
    fn a_base_spells_its_domain() {
        assert_eq!(domain("OU=People, dc=corp,DC=example"), "corp.example");
        assert_eq!(domain("O=corp"), "");
    }
}
