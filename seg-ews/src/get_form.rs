//! What a GET on the EWS paths asks for.
//!
//! One of these is an operation without a body: a photo is fetched by URL alone, and must not slip
//! past a policy that looks at bodies only.

/// A GET that EWS clients really send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GetForm {
    /// `/Services.wsdl`.
    Wsdl,
    /// `/messages.xsd`.
    MessagesXsd,
    /// `/types.xsd`.
    TypesXsd,
    /// `/Exchange.asmx/s/GetUserPhoto`: the operation `GetUserPhoto`.
    UserPhoto,
    /// `/Exchange.asmx` itself, by which clients find out whether it is there and how to log in.
    ServiceProbe,
    /// `/healthcheck.htm`, for load balancers.
    HealthCheck,
}

impl GetForm {
    /// Every form.
    pub const ALL: [Self; 6] = [
        Self::ServiceProbe,
        Self::Wsdl,
        Self::MessagesXsd,
        Self::TypesXsd,
        Self::UserPhoto,
        Self::HealthCheck,
    ];

    /// The path below `/EWS` in Exchange's spelling, to be forwarded.
    pub const fn path(self) -> &'static str {
        match self {
            Self::ServiceProbe => "/Exchange.asmx",
            Self::Wsdl => "/Services.wsdl",
            Self::MessagesXsd => "/messages.xsd",
            Self::TypesXsd => "/types.xsd",
            Self::UserPhoto => "/Exchange.asmx/s/GetUserPhoto",
            Self::HealthCheck => "/healthcheck.htm",
        }
    }

    /// Whether it is a file that is the same for everybody.
    pub const fn is_static(self) -> bool {
        matches!(
            self,
            Self::Wsdl | Self::MessagesXsd | Self::TypesXsd | Self::HealthCheck
        )
    }

    /// The operation behind it.
    pub fn operation(self) -> Option<crate::Operation> {
        match self {
            Self::UserPhoto => crate::Operation::from_name("GetUserPhoto"),
            _ => None,
        }
    }
}

/// What a GET of this path asks for; None for everything that has no business there
/// (`/Exchange.asmx/WSSecurity`, `/MRSProxy.svc`, a photo without an address …).
///
/// `path` is canonical already, without `/EWS` in front; case does not matter, and one slash at
/// its end is forgiven. `query` is what follows the question mark, not decoded.
pub fn classify_get(path: &str, query: Option<&str>) -> Option<GetForm> {
    let path = path.strip_suffix('/').unwrap_or(path);
    let form = GetForm::ALL
        .into_iter()
        .find(|form| form.path().eq_ignore_ascii_case(path))?;
    let wants_address = form == GetForm::UserPhoto;
    (!wants_address || query.is_some_and(has_one_email)).then_some(form)
}

/// A photo is asked for by `email`, once, so that nobody can read another one than the next.
fn has_one_email(query: &str) -> bool {
    let mut emails = 0;
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        // An escaped name might be another address for those who decode it.
        if name.contains(['%', '+']) {
            return false;
        }
        if name.eq_ignore_ascii_case("email") {
            if value.is_empty() {
                return false;
            }
            emails += 1;
        }
    }
    emails == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_known_paths_are_found_in_any_case() {
        for form in GetForm::ALL {
            let path = form.path();
            let query = Some("email=ceo@corp.example&size=HR240x240");
            assert_eq!(classify_get(path, query), Some(form));
            assert_eq!(classify_get(&path.to_lowercase(), query), Some(form));
            assert_eq!(classify_get(&path.to_uppercase(), query), Some(form));
        }
        assert_eq!(
            classify_get("/exchange.asmx/", None),
            Some(GetForm::ServiceProbe)
        );
        let photo = GetForm::UserPhoto.operation().map(crate::Operation::name);
        assert_eq!(photo, Some("GetUserPhoto"));
    }

    #[test]
    fn anything_else_is_nothing() {
        for path in [
            "",
            "/",
            "/Exchange.asmx/WSSecurity",
            "/Exchange.asmx/WSSecurity/SymmetricKey",
            "/Exchange.asmx/s",
            "/Exchange.asmx/s/GetItem",
            "/Exchange.asmx//",
            "/MRSProxy.svc",
            "/UM2007Legacy.asmx",
            "/types.xsd/x",
            "/../mapi/emsmdb",
        ] {
            assert_eq!(classify_get(path, None), None, "{path}");
        }
    }

    #[test]
    fn a_photo_needs_exactly_one_address() {
        let photo = |query| classify_get("/Exchange.asmx/s/GetUserPhoto", query);
        assert_eq!(
            photo(Some("size=HR48x48&Email=a%40b")),
            Some(GetForm::UserPhoto)
        );
        for query in [
            None,
            Some(""),
            Some("email="),
            Some("email"),
            Some("email=a&EMAIL=b"),
            Some("email=a&%65mail=b"),
        ] {
            assert_eq!(photo(query), None, "{query:?}");
        }
    }
}
