//! A mail server's answer, with our address in the place of every other one.

use serde_json::Value;

use super::ask::text;
use super::xml::{self, Malformed};
use crate::config::Origin;

/// What is put in the place of what.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// `server.public.url`.
    pub public: &'a Origin,
    /// NTLM can't work through here, and is not offered.
    pub no_ntlm: bool,
    /// Nor can Negotiate.
    pub no_negotiate: bool,
}

/// What became of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rewritten {
    /// This is told.
    Answer(String),
    /// It sends the client to another Autodiscover service: that is not told.
    Elsewhere,
}

/// Elements that hold a host name.
const HOSTS: [&str; 5] = [
    "Server",
    "PublicFolderServer",
    "AD",
    "Hostname",
    "ServerName",
];

/// Settings of SOAP whose value is a host name.
const HOST_SETTINGS: [&str; 6] = [
    "InternalMailboxServer",
    "ExternalMailboxServer",
    "InternalRpcClientServer",
    "InternalServerName",
    "PublicFolderServer",
    "ActiveDirectoryServer",
];

/// Rewrites POX or SOAP.
///
/// # Errors
/// The answer can't be read; what can't be read can't be told.
pub fn xml(document: &[u8], rules: Rules<'_>) -> Result<Rewritten, Malformed> {
    let mut elsewhere = false;
    // The name that came before a value: `<UserSetting><Name/><Value/></UserSetting>`.
    let mut setting = String::new();
    let edited = xml::edit(text(document)?, |path, value| {
        let name = path.last().copied().unwrap_or_default();
        match name {
            "RedirectAddr" | "RedirectUrl" | "RedirectTarget" | "Redirect" if !value.is_empty() => {
                elsewhere = true;
                None
            }
            "ErrorCode" if matches!(value, "RedirectAddress" | "RedirectUrl") => {
                elsewhere = true;
                None
            }
            "Name" if path.len() >= 2 && path.get(path.len() - 2) == Some(&"UserSetting") => {
                value.clone_into(&mut setting);
                None
            }
            "AuthPackage" => Some(rules.package(value)),
            "Value" if setting == "ExternalMailboxServerAuthenticationMethods" => {
                Some(rules.packages(value))
            }
            "Value" if HOST_SETTINGS.contains(&&*setting) => Some(rules.host(value)),
            "CertPrincipalName" => Some(rules.principal(value)),
            name if HOSTS.contains(&name) => Some(rules.host(value)),
            _ => Some(rules.addresses(value)),
        }
    })?;
    Ok(if elsewhere {
        Rewritten::Elsewhere
    } else {
        Rewritten::Answer(edited)
    })
}

/// Rewrites an answer of version 2.
///
/// # Errors
/// The answer can't be read.
pub fn json(document: &[u8], rules: Rules<'_>) -> Result<Rewritten, Malformed> {
    let mut value: Value =
        serde_json::from_slice(document).map_err(|error| Malformed(error.to_string()))?;
    rules.all(&mut value);
    Ok(Rewritten::Answer(value.to_string()))
}

impl Rules<'_> {
    /// The text with our origin in the place of every `http://…` and `https://…` origin; paths
    /// and queries stay.
    fn addresses(self, value: &str) -> String {
        let lower = value.to_ascii_lowercase();
        let mut told = String::with_capacity(value.len());
        let mut done = 0;
        while let Some((at, scheme)) = next_scheme(lower.get(done..).unwrap_or_default()) {
            told.push_str(value.get(done..done + at).unwrap_or_default());
            told.push_str(&self.public.to_string());
            let authority = value.get(done + at + scheme..).unwrap_or_default();
            let length = authority
                .find(|c: char| "/\\?#,;\"'<>".contains(c) || c.is_whitespace())
                .unwrap_or(authority.len());
            done += at + scheme + length;
        }
        told.push_str(value.get(done..).unwrap_or_default());
        told
    }

    /// A host name becomes ours; what only looks like one (a mailbox's identifier) stays.
    fn host(self, value: &str) -> String {
        if value.contains("://") {
            return self.addresses(value);
        }
        let names_a_host = !value.is_empty()
            && value
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b".-:[]_".contains(&byte));
        if names_a_host {
            self.public.host.clone()
        } else {
            value.to_owned()
        }
    }

    /// `msstd:host`.
    fn principal(self, value: &str) -> String {
        match value.split_once(':') {
            Some((kind, _)) if kind.eq_ignore_ascii_case("msstd") => {
                format!("{kind}:{}", self.public.host)
            }
            _ => value.to_owned(),
        }
    }

    fn removes(self, package: &str) -> bool {
        let is = |name: &str| package.eq_ignore_ascii_case(name);
        (self.no_ntlm && is("ntlm"))
            || (self.no_negotiate && (is("kerb") || is("negotiate") || is("nego2")))
            || ((self.no_ntlm || self.no_negotiate) && is("kerbntlm"))
    }

    /// One way to log in: Basic instead of what can't work.
    fn package(self, value: &str) -> String {
        if self.removes(value) {
            "basic".to_owned()
        } else {
            value.to_owned()
        }
    }

    /// A list of them.
    fn packages(self, value: &str) -> String {
        let kept: Vec<&str> = value
            .split(',')
            .map(str::trim)
            .filter(|package| !package.is_empty() && !self.removes(package))
            .collect();
        if kept.is_empty() {
            "Basic".to_owned()
        } else {
            kept.join(", ")
        }
    }

    fn all(self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.addresses(text),
            Value::Array(values) => values.iter_mut().for_each(|value| self.all(value)),
            Value::Object(fields) => fields.values_mut().for_each(|value| self.all(value)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

/// Where the next scheme begins, and how long it is.
fn next_scheme(lower: &str) -> Option<(usize, usize)> {
    let at = |scheme: &str| lower.find(scheme).map(|at| (at, scheme.len()));
    match (at("https://"), at("http://")) {
        (Some(one), Some(other)) => Some(if one.0 < other.0 { one } else { other }),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rules(public: &Origin) -> Rules<'_> {
        Rules {
            public,
            no_ntlm: true,
            no_negotiate: true,
        }
    }

    fn ours() -> Origin {
        Origin::parse("https://mail.public.example").expect("an origin")
    }

    #[test]
    fn every_address_becomes_ours_and_paths_stay() {
        let ours = ours();
        for (before, after) in [
            (
                "https://ex01.corp.local/EWS/Exchange.asmx",
                "https://mail.public.example/EWS/Exchange.asmx",
            ),
            ("HTTP://ex01:8080", "https://mail.public.example"),
            (
                "https://user@evil.example\\@x/ecp/?a=1&b=2",
                "https://mail.public.example\\@x/ecp/?a=1&b=2",
            ),
            (
                "a https://one/x, http://two/y",
                "a https://mail.public.example/x, https://mail.public.example/y",
            ),
            ("15.1.2507", "15.1.2507"),
        ] {
            assert_eq!(rules(&ours).addresses(before), after);
        }
    }

    #[test]
    fn an_answer_keeps_all_but_addresses_and_ways_to_log_in() {
        let ours = ours();
        let answer = "<A xmlns=\"http://schemas.example/\"><Protocol><Type>EXCH</Type>\
            <Server>0d1-2@corp.local</Server><ServerDN>/o=x/cn=ex01</ServerDN><AD>dc01.corp.local</AD>\
            <AuthPackage>Ntlm</AuthPackage><EwsUrl>https://ex01.corp.local/EWS/Exchange.asmx</EwsUrl>\
            <EcpUrl>https://ex01/ecp/?a=1&amp;b=2</EcpUrl><CertPrincipalName>msstd:ex01.corp.local</CertPrincipalName>\
            </Protocol></A>";
        let expected = "<A xmlns=\"http://schemas.example/\"><Protocol><Type>EXCH</Type>\
            <Server>0d1-2@corp.local</Server><ServerDN>/o=x/cn=ex01</ServerDN><AD>mail.public.example</AD>\
            <AuthPackage>basic</AuthPackage><EwsUrl>https://mail.public.example/EWS/Exchange.asmx</EwsUrl>\
            <EcpUrl>https://mail.public.example/ecp/?a=1&amp;b=2</EcpUrl><CertPrincipalName>msstd:mail.public.example</CertPrincipalName>\
            </Protocol></A>";
        let rewritten = xml(answer.as_bytes(), rules(&ours)).expect("well-formed");
        assert_eq!(rewritten, Rewritten::Answer(expected.to_owned()));
    }

    #[test]
    fn settings_of_soap_are_known_by_the_name_beside_them() {
        let ours = ours();
        let setting = |name: &str, value: &str| {
            format!("<S><UserSetting><Name>{name}</Name><Value>{value}</Value></UserSetting></S>")
        };
        for (name, before, after) in [
            (
                "ExternalEwsUrl",
                "https://ex01/EWS/Exchange.asmx",
                "https://mail.public.example/EWS/Exchange.asmx",
            ),
            (
                "InternalMailboxServer",
                "ex01.corp.local",
                "mail.public.example",
            ),
            (
                "ExternalMailboxServerAuthenticationMethods",
                "Ntlm, Negotiate",
                "Basic",
            ),
            (
                "ExternalMailboxServerAuthenticationMethods",
                "Basic, Ntlm",
                "Basic",
            ),
            ("UserDisplayName", "ex01.corp.local", "ex01.corp.local"),
        ] {
            let rewritten = xml(setting(name, before).as_bytes(), rules(&ours));
            assert_eq!(rewritten, Ok(Rewritten::Answer(setting(name, after))));
        }
    }

    #[test]
    fn an_answer_that_leads_elsewhere_is_not_told() {
        let ours = ours();
        for answer in [
            "<A><Account><Action>redirectAddr</Action><RedirectAddr>a@tenant.example</RedirectAddr></Account></A>",
            "<A><Account><Action>redirectUrl</Action><RedirectUrl>https://x/</RedirectUrl></Account></A>",
            "<A><Response><Action><Redirect>a@tenant.example</Redirect></Action></Response></A>",
            "<A><UserResponse><ErrorCode>RedirectAddress</ErrorCode></UserResponse></A>",
        ] {
            assert_eq!(
                xml(answer.as_bytes(), rules(&ours)),
                Ok(Rewritten::Elsewhere)
            );
        }
        let no =
            "<A><UserResponse><ErrorCode>NoError</ErrorCode><RedirectTarget/></UserResponse></A>";
        assert_eq!(
            xml(no.as_bytes(), rules(&ours)),
            Ok(Rewritten::Answer(no.to_owned()))
        );
    }

    proptest! {
        #[test]
        fn no_origin_but_ours_is_left(text in "(https?://|HTTPS://|[a-z.@:/\\\\?, é]){0,30}") {
            let ours = ours();
            let told = rules(&ours).addresses(&text);
            let mut rest = told.to_ascii_lowercase();
            while let Some((at, scheme)) = next_scheme(&rest) {
                let authority = rest.split_off(at + scheme);
                prop_assert!(authority.starts_with("mail.public.example"), "{told}");
                rest = authority;
            }
        }
    }
}
