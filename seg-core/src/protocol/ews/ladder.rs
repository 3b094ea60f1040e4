//! Which device is this? The rungs of a class's ladder, one after the other.

use http::{HeaderMap, Uri, header};
use seg_compliance::{DeviceKey, UserKey};
use seg_ews::authorization::{self, Credentials};
use seg_ews::policy::{ClassPolicy, Rung};

use super::{ClientCertificate, EwsMemory};
use crate::percent;
use crate::route::CanonicalPath;

/// What the ladder looks at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Looking<'a> {
    /// The request target.
    pub uri: &'a Uri,
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// Whether a header that names a device is believed.
    pub header_trusted: bool,
    /// The verified certificate.
    pub certificate: Option<&'a ClientCertificate>,
    /// The authenticated user.
    pub user: &'a UserKey,
    /// What ActiveSync has taught.
    pub memory: &'a EwsMemory,
}

/// Why a request's device can't be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unclear {
    /// A header or parameter twice.
    Doubled,
    /// A device id that is none.
    NoDeviceId,
    /// A device in the path, which the class does not look for there.
    Path,
}

impl Unclear {
    /// The label of `seg_bad_requests_total`.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Doubled => "ews_device_doubled",
            Self::NoDeviceId => "ews_device_id",
            Self::Path => "no_route",
        }
    }
}

/// What the request's event and `explain` call a request that is judged by user.
pub const USER_RUNG: &str = "user";

/// The first rung that names a device, and the device.
///
/// # Errors
/// A rung that could be read in two ways, or that names what is no device.
pub(super) fn climb(
    class: &ClassPolicy,
    looking: &Looking<'_>,
) -> Result<(Option<DeviceKey>, &'static str), Unclear> {
    if in_path(looking.uri).is_some() && !class.rungs.contains(&Rung::Path) {
        return Err(Unclear::Path);
    }
    for rung in &class.rungs {
        let named = match rung {
            Rung::Header(name) if looking.header_trusted => {
                let mut lines = looking.headers.get_all(name.as_str()).iter();
                match (lines.next(), lines.next()) {
                    (None, _) => None,
                    (Some(line), None) => {
                        Some(device(line.to_str().map_err(|_| Unclear::NoDeviceId)?)?)
                    }
                    (Some(_), Some(_)) => return Err(Unclear::Doubled),
                }
            }
            Rung::Header(_) => None,
            Rung::Query(name) => in_query(looking.uri, name)?,
            Rung::Path => in_path(looking.uri).map(|id| device(&id)).transpose()?,
            Rung::Certificate(part) => {
                let text = looking.certificate.and_then(|found| found.part(*part));
                text.and_then(|text| device(text).ok())
            }
            Rung::Claim(name) => claim(looking.headers, name).and_then(|id| device(&id).ok()),
            Rung::Learned => looking.memory.only_device(looking.user),
        };
        if let Some(named) = named {
            return Ok((Some(named), rung.kind()));
        }
    }
    Ok((None, USER_RUNG))
}

fn device(text: &str) -> Result<DeviceKey, Unclear> {
    let id = seg_eas::DeviceId::parse_text(text.trim()).map_err(|_| Unclear::NoDeviceId)?;
    DeviceKey::new(id.as_str()).map_err(|_| Unclear::NoDeviceId)
}

/// `/EWS/d/<device>/…`: the id, percent-decoded as the path is.
fn in_path(uri: &Uri) -> Option<String> {
    let path = CanonicalPath::parse(uri.path()).ok()?;
    let mut segments = path.as_str().split('/').skip(1);
    let is = |segment: Option<&str>, name: &str| {
        segment.is_some_and(|segment| segment.eq_ignore_ascii_case(name))
    };
    (is(segments.next(), "ews") && is(segments.next(), "d"))
        .then(|| segments.next().map(str::to_owned))
        .flatten()
}

fn in_query(uri: &Uri, name: &str) -> Result<Option<DeviceKey>, Unclear> {
    let mut values = parameters(uri.query().unwrap_or_default())
        .filter(|(_, known, _)| known.eq_ignore_ascii_case(name))
        .map(|(_, _, value)| value);
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => {
            let decoded = percent::decoded(value).ok_or(Unclear::NoDeviceId)?;
            device(&decoded).map(Some)
        }
        (Some(_), Some(_)) => Err(Unclear::Doubled),
    }
}

/// Each parameter as it stands, its name and its value.
fn parameters(query: &str) -> impl Iterator<Item = (&str, &str, &str)> {
    query.split('&').map(|whole| {
        let (name, value) = whole.split_once('=').unwrap_or((whole, ""));
        (whole, name, value)
    })
}

/// The query without the parameters that any class looks for a device in; `None` where it has
/// none of them.
pub fn without_devices(query: &str, names: &[String]) -> Option<String> {
    let is_ours = |name: &str| {
        names
            .iter()
            .any(|known: &String| known.eq_ignore_ascii_case(name))
    };
    if !parameters(query).any(|(_, name, _)| is_ours(name)) {
        return None;
    }
    let kept: Vec<&str> = parameters(query)
        .filter(|(_, name, _)| !is_ours(name))
        .map(|(whole, ..)| whole)
        .collect();
    Some(kept.join("&"))
}

/// A claim of the bearer token. It proves nothing by itself; the server refuses a token that
/// somebody has forged, and nothing it says makes the verdict milder than any other device of the
/// same user would.
fn claim(headers: &HeaderMap, name: &str) -> Option<String> {
    let line = headers.get(header::AUTHORIZATION)?;
    let Some(Credentials::Bearer(token)) = authorization::parse(line.as_bytes()) else {
        return None;
    };
    let claims = seg_ews::bearer::claims(token)?;
    match name {
        "deviceid" => claims.deviceid,
        "oid" => claims.oid,
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use seg_ews::policy::{ClientClass, Policy};

    fn policy(rungs: &str) -> Policy {
        let table = format!("[native]\ndevice = [{rungs}]")
            .parse()
            .expect("TOML");
        Policy::compile(table).expect("a policy")
    }

    fn climbed(
        rungs: &str,
        target: &str,
        headers: &[(&str, &str)],
        header_trusted: bool,
    ) -> Result<(Option<String>, &'static str), Unclear> {
        let memory = EwsMemory::default();
        let user = UserKey::new("alice@corp.example").expect("a user");
        memory.learn(&user, &DeviceKey::new("LEARNED1").expect("a device"));
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name: header::HeaderName = name.parse().expect("a name");
            map.append(name, value.parse().expect("a value"));
        }
        let uri: Uri = target.parse().expect("a target");
        let looking = Looking {
            uri: &uri,
            headers: &map,
            header_trusted,
            certificate: None,
            user: &user,
            memory: &memory,
        };
        climb(policy(rungs).of(ClientClass::Native), &looking)
            .map(|(device, rung)| (device.map(|key| key.to_string()), rung))
    }

    #[test]
    fn the_first_rung_that_names_a_device_counts() {
        let all = "'header:X-Device-Id', 'query:deviceId', 'path', 'learned'";
        let header = [("x-device-id", "HEAD1")];
        let plain = "/EWS/Exchange.asmx";
        let query = "/EWS/Exchange.asmx?a=1&DeviceID=QUERY%31";
        let path = "/ews/d/PATH1/exchange.asmx";
        let some = |id: &str, rung| Ok((Some(id.to_owned()), rung));
        assert_eq!(climbed(all, plain, &header, true), some("HEAD1", "header"));
        assert_eq!(climbed(all, query, &header, false), some("QUERY1", "query"));
        assert_eq!(climbed(all, path, &[], true), some("PATH1", "path"));
        assert_eq!(climbed(all, plain, &[], true), some("LEARNED1", "learned"));
        assert_eq!(climbed("", query, &header, true), Ok((None, USER_RUNG)));
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        let twice = [("x-device-id", "A1"), ("X-Device-Id", "A2")];
        let plain = "/EWS/Exchange.asmx";
        let header = "'header:X-Device-Id'";
        assert_eq!(climbed(header, plain, &twice, true), Err(Unclear::Doubled));
        assert_eq!(climbed(header, plain, &twice, false), Ok((None, USER_RUNG)));
        let target = "/EWS/Exchange.asmx?d=A1&D=A1";
        assert_eq!(
            climbed("'query:d'", target, &[], true),
            Err(Unclear::Doubled)
        );
        for target in [
            "/EWS/Exchange.asmx?d=",
            "/EWS/Exchange.asmx?d=%ff",
            "/EWS/Exchange.asmx?d=%2",
        ] {
            let outcome = climbed("'query:d'", target, &[], true);
            assert_eq!(outcome, Err(Unclear::NoDeviceId), "{target}");
        }
        let path = "/ews/d/PATH1/exchange.asmx";
        assert_eq!(climbed(header, path, &[], true), Err(Unclear::Path));
    }

    #[test]
    fn a_parameter_that_names_a_device_goes_no_further() {
        let names = ["deviceId".to_owned()];
        for (query, left) in [
            ("deviceId=x", Some("")),
            ("a=1&deviceid=x&b", Some("a=1&b")),
            ("a=deviceId", None),
            ("", None),
        ] {
            assert_eq!(without_devices(query, &names).as_deref(), left, "{query}");
        }
    }
}
