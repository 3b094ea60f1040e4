//! `directory.device.*`: how the directory tells to which device a certificate belongs.

use ldap3::{ldap_escape, parse_filter};

use crate::tls::DeviceSource;

/// Which entry names the device, and in which attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceLookup {
    /// `directory.device.filter`.
    pub filter: DeviceFilter,
    /// `directory.device.attribute`.
    pub attribute: String,
}

/// A filter (RFC 4515) with parts of a certificate to be filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceFilter(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Field(Field),
}

/// What of a certificate may be filled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// Each form in which `altSecurityIdentities` may name it.
    Identity,
    /// Its serial number in hexadecimal.
    Serial,
    /// Its SHA-256 in hexadecimal.
    Fingerprint,
    /// The user whom it names.
    User,
    /// A name that stands in it.
    Name(DeviceSource),
}

const FIELDS: [(&str, Field); 9] = [
    ("identity", Field::Identity),
    ("serial", Field::Serial),
    ("fingerprint", Field::Fingerprint),
    ("user", Field::User),
    ("cn", Field::Name(DeviceSource::SubjectCn)),
    ("subject.serial", Field::Name(DeviceSource::SubjectSerial)),
    ("dns", Field::Name(DeviceSource::Dns)),
    ("uri", Field::Name(DeviceSource::Uri)),
    ("email", Field::Name(DeviceSource::Email)),
];

impl DeviceFilter {
    /// Reads one.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once('{') {
            let (word, after) = behind
                .split_once('}')
                .ok_or_else(|| "has a { without its }".to_owned())?;
            let field = FIELDS.iter().find(|(name, _)| *name == word);
            let (_, field) = field.ok_or_else(|| {
                let known: Vec<&str> = FIELDS.iter().map(|(name, _)| *name).collect();
                format!("holds {{{word}}}, expected one of {}", known.join(", "))
            })?;
            parts.push(Part::Text(before.to_owned()));
            parts.push(Part::Field(*field));
            rest = after;
        }
        parts.push(Part::Text(rest.to_owned()));
        let filter = Self(parts);
        if !filter.0.iter().any(|part| matches!(part, Part::Field(_))) {
            return Err("says nothing of the certificate; put in such as {serial}".to_owned());
        }
        let example = filter.with(&|_| vec!["x".to_owned()]).unwrap_or_default();
        match parse_filter(&example) {
            Ok(_) => Ok(filter),
            Err(()) => Err("is no LDAP filter, such as (serialNumber={serial})".to_owned()),
        }
    }

    /// The filter for one certificate; `None` where it lacks what is to be filled in. `values`: what
    /// it has of a field.
    pub fn with(&self, values: &dyn Fn(Field) -> Vec<String>) -> Option<String> {
        let asks_identity = self.0.contains(&Part::Field(Field::Identity));
        let identities = if asks_identity {
            values(Field::Identity)
        } else {
            vec![String::new()]
        };
        let of = |identity: &String| {
            let parts = self.0.iter().map(|part| match part {
                Part::Text(text) => Some(text.clone()),
                Part::Field(Field::Identity) => Some(ldap_escape(identity.as_str()).into_owned()),
                Part::Field(field) => {
                    let value = values(*field).into_iter().next()?;
                    Some(ldap_escape(value).into_owned())
                }
            });
            parts.collect::<Option<String>>()
        };
        let mut filters = identities.iter().map(of).collect::<Option<Vec<_>>>()?;
        match filters.len() {
            0 | 1 => filters.pop(),
            _ => Some(format!("(|{})", filters.concat())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(field: Field) -> Vec<String> {
        match field {
            Field::Identity => vec!["X509:<I>a".to_owned(), "X509:<SKI>b".to_owned()],
            Field::Serial => vec!["0a".to_owned()],
            Field::Name(DeviceSource::SubjectCn) => vec!["*)(uid=*".to_owned()],
            _ => Vec::new(),
        }
    }

    #[test]
    fn parts_of_a_certificate_are_filled_in_and_stay_text() {
        for (text, filled) in [
            ("(serialNumber={serial})", Some("(serialNumber=0a)")),
            (
                "(&(objectClass=device)(cn={cn}))",
                Some("(&(objectClass=device)(cn=\\2a\\29\\28uid=\\2a))"),
            ),
            (
                "(altSecurityIdentities={identity})",
                Some("(|(altSecurityIdentities=X509:<I>a)(altSecurityIdentities=X509:<SKI>b))"),
            ),
            // The certificate has no such name.
            ("(|(cn={cn})(mail={email}))", None),
        ] {
            let filter = DeviceFilter::parse(text).expect(text);
            assert_eq!(filter.with(&known).as_deref(), filled, "{text}");
        }
    }

    #[test]
    fn what_is_no_filter_is_refused() {
        for (text, part) in [
            ("(cn=x)", "nothing of the certificate"),
            ("(cn={name})", "expected one of identity, serial"),
            ("(cn={serial)", "without its }"),
            ("cn={serial})", "no LDAP filter"),
        ] {
            let error = DeviceFilter::parse(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
