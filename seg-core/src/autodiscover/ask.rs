//! What a client asks of Autodiscover.

use quick_xml::escape::escape;

use super::xml::{self, Malformed};

/// Mailboxes and settings that one request may name.
const MOST: usize = 256;
/// Bytes of what is asked, over all mailboxes: the answer repeats every setting for each of them.
const MOST_REPEATED: usize = 512 * 1024;
/// Bytes of an answer for a setting besides its name and its value, about.
const SETTING: usize = 200;

/// The protocols of version 2 that are answered, in Exchange's spelling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// ActiveSync.
    ActiveSync,
    /// EWS.
    Ews,
    /// The first version of Autodiscover.
    AutodiscoverV1,
}

impl Wanted {
    const ALL: [Self; 3] = [Self::ActiveSync, Self::Ews, Self::AutodiscoverV1];

    /// The name in queries and answers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ActiveSync => "ActiveSync",
            Self::Ews => "EWS",
            Self::AutodiscoverV1 => "AutodiscoverV1",
        }
    }
}

/// A query of version 2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonAsk {
    /// Whose mailbox.
    pub email: Option<String>,
    /// Which protocol's address.
    pub wanted: Wanted,
    /// How often the client was sent on.
    redirects: u8,
}

/// Why a query of version 2 is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadQuery {
    /// A parameter that does not belong there, twice the same, or one without a value.
    #[error("a parameter that is not Email, Protocol or RedirectCount, each once")]
    Parameter,
    /// `Email` is no mail address.
    #[error("Email is no mail address")]
    Email,
    /// `Protocol` is missing, or not on the list.
    #[error("Protocol is not one that is published here")]
    Protocol,
    /// `RedirectCount` is no small number.
    #[error("RedirectCount is no number below 100")]
    Redirects,
}

impl JsonAsk {
    /// Reads a query by its strict grammar. Anything else in it is how Exchange's front end has
    /// been led astray (CVE-2021-34473): a second `@`, a path, a second `?`.
    ///
    /// # Errors
    /// What does not belong.
    pub fn parse(query: Option<&str>, ews: bool) -> Result<Self, BadQuery> {
        let (mut email, mut wanted, mut redirects) = (None, None, None);
        for pair in query.unwrap_or_default().split('&') {
            let (name, value) = pair.split_once('=').ok_or(BadQuery::Parameter)?;
            if name.eq_ignore_ascii_case("email") && email.is_none() {
                email = Some(address(value).ok_or(BadQuery::Email)?);
            } else if name.eq_ignore_ascii_case("protocol") && wanted.is_none() {
                let named = |wanted: &Wanted| wanted.name().eq_ignore_ascii_case(value);
                let known = Wanted::ALL.into_iter().find(named);
                let open = known.filter(|wanted| ews || *wanted != Wanted::Ews);
                wanted = Some(open.ok_or(BadQuery::Protocol)?);
            } else if name.eq_ignore_ascii_case("redirectcount") && redirects.is_none() {
                let digits = (1..=2).contains(&value.len())
                    && value.bytes().all(|digit| digit.is_ascii_digit());
                let count = digits.then(|| value.parse().ok()).flatten();
                redirects = Some(count.ok_or(BadQuery::Redirects)?);
            } else {
                return Err(BadQuery::Parameter);
            }
        }
        Ok(Self {
            email,
            wanted: wanted.ok_or(BadQuery::Protocol)?,
            redirects: redirects.unwrap_or(0),
        })
    }

    /// The query that is forwarded, written anew.
    pub fn query(&self) -> String {
        let mut query = String::new();
        if let Some((local, domain)) = self.email.as_deref().and_then(|it| it.split_once('@')) {
            query.push_str("Email=");
            for byte in local.bytes() {
                if byte.is_ascii_alphanumeric() || b".-_".contains(&byte) {
                    query.push(char::from(byte));
                } else {
                    query.push_str(&format!("%{byte:02X}"));
                }
            }
            query.push_str("%40");
            query.push_str(domain);
            query.push('&');
        }
        query.push_str("Protocol=");
        query.push_str(self.wanted.name());
        if self.redirects > 0 {
            query.push_str(&format!("&RedirectCount={}", self.redirects));
        }
        query
    }
}

/// A mail address out of a query: of the characters that people have in theirs.
fn address(value: &str) -> Option<String> {
    let plain = value
        .replace("%40", "@")
        .replace("%2B", "+")
        .replace("%2b", "+");
    let (local, domain) = plain.split_once('@')?;
    let good_local = (1..=64).contains(&local.len())
        && local
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b".-_+'".contains(&byte));
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let good_domain = domain.len() <= 253 && domain.split('.').all(label);
    (good_local && good_domain).then_some(plain)
}

/// What a POX request asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoxAsk {
    /// Whose mailbox.
    pub email: String,
    /// The schema of the answer that the client understands.
    pub schema: String,
}

impl PoxAsk {
    /// Reads a request.
    ///
    /// # Errors
    /// It is not well-formed.
    pub fn parse(document: &[u8]) -> Result<Self, Malformed> {
        let mut ask = Self::default();
        xml::edit(text(document)?, |path, value| {
            match path {
                [.., "Request", "EMailAddress"] => ask.email = value.to_owned(),
                [.., "Request", "AcceptableResponseSchema"] => ask.schema = value.to_owned(),
                _ => {}
            }
            None
        })?;
        Ok(ask)
    }
}

/// What a SOAP request asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SoapAsk {
    /// Whose mailboxes.
    pub mailboxes: Vec<String>,
    /// Which settings of them.
    pub settings: Vec<String>,
    /// It is `GetUserSettings`.
    pub of_users: bool,
}

impl SoapAsk {
    /// Reads a request.
    ///
    /// # Errors
    /// It is not well-formed, or names too much.
    pub fn parse(document: &[u8]) -> Result<Self, Malformed> {
        let mut ask = Self::default();
        xml::edit(text(document)?, |path, value| {
            let many = match path {
                [.., "Users", "User", "Mailbox"] => &mut ask.mailboxes,
                [.., "RequestedSettings", "Setting"] => &mut ask.settings,
                _ => return None,
            };
            ask.of_users |= path.contains(&"GetUserSettingsRequestMessage");
            if many.len() <= MOST {
                many.push(value.to_owned());
            }
            None
        })?;
        if ask.mailboxes.len().max(ask.settings.len()) > MOST {
            return Err(Malformed(
                "it names too many mailboxes or settings".to_owned(),
            ));
        }
        if ask.repeated() > MOST_REPEATED {
            return Err(Malformed(
                "it names too many settings of too many mailboxes".to_owned(),
            ));
        }
        Ok(ask)
    }

    /// About how much is said in the answer.
    fn repeated(&self) -> usize {
        let bytes = |names: &[String]| {
            names
                .iter()
                .map(|name| escape(name.as_str()).len())
                .sum::<usize>()
        };
        let settings = bytes(&self.settings) + self.settings.len() * SETTING;
        self.mailboxes.len() * settings + self.settings.len() * bytes(&self.mailboxes)
    }
}

/// A document as text: UTF-8, with or without its mark.
pub(super) fn text(document: &[u8]) -> Result<&str, Malformed> {
    let text = std::str::from_utf8(document)
        .map_err(|_| Malformed("it is not written in UTF-8".to_owned()))?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::answer::Own;
    use super::*;
    use crate::config::Origin;

    #[test]
    fn the_grammar_of_version_two_is_strict() {
        let good = [
            ("Protocol=ActiveSync", "Protocol=ActiveSync"),
            (
                "Email=alice%40corp.example&Protocol=activesync&RedirectCount=1",
                "Email=alice%40corp.example&Protocol=ActiveSync&RedirectCount=1",
            ),
            (
                "email=a.b+c@corp.example&protocol=Ews",
                "Email=a.b%2Bc%40corp.example&Protocol=EWS",
            ),
        ];
        for (query, forwarded) in good {
            let ask = JsonAsk::parse(Some(query), true).expect(query);
            assert_eq!(ask.query(), forwarded);
            assert_eq!(JsonAsk::parse(Some(forwarded), true), Ok(ask));
        }
        for query in [
            "",
            "@evil.example/powershell",
            "@evil.example/mapi/nspi/?&Email=autodiscover/autodiscover.json%3f@evil.example",
            "Email=autodiscover/autodiscover.json%3f@evil.example&Protocol=ActiveSync",
            "Email=a@b@c.example&Protocol=ActiveSync",
            "Email=alice%2540corp.example&Protocol=ActiveSync",
            "Email=alice&Protocol=ActiveSync",
            "Protocol=powershell",
            "Protocol=ActiveSync/mapi",
            "Protocol=ActiveSync&Protocol=ActiveSync",
            "Protocol=ActiveSync&x=1",
            "Protocol=ActiveSync&",
            "Protocol=ActiveSync&RedirectCount=100",
            "Protocol=ActiveSync&RedirectCount=-1",
            "Protocol=ActiveSync&RedirectCount=",
            "Email=alice@corp.example",
        ] {
            assert!(JsonAsk::parse(Some(query), true).is_err(), "{query}");
        }
        assert_eq!(
            JsonAsk::parse(Some("Protocol=EWS"), false),
            Err(BadQuery::Protocol)
        );
    }

    #[test]
    fn what_exchangelib_asks_is_read() {
        let ask = SoapAsk::parse(
            br#"<?xml version='1.0' encoding='utf-8'?>
<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" xmlns:a="http://schemas.microsoft.com/exchange/2010/Autodiscover"><s:Body><a:GetUserSettingsRequestMessage><a:Request><a:Users><a:User><a:Mailbox>alice@corp.example</a:Mailbox></a:User></a:Users><a:RequestedSettings><a:Setting>ExternalEwsUrl</a:Setting><a:Setting>UserDN</a:Setting></a:RequestedSettings></a:Request></a:GetUserSettingsRequestMessage></s:Body></s:Envelope>"#,
        )
        .expect("well-formed");
        assert!(ask.of_users);
        assert_eq!(ask.mailboxes, ["alice@corp.example"]);
        assert_eq!(ask.settings, ["ExternalEwsUrl", "UserDN"]);
    }

    /// What comes is a few times what was asked, however it is divided.
    #[test]
    fn a_small_question_gets_no_large_answer() {
        let ask = |mailboxes: usize, mailbox: &str, settings: usize, setting: &str| {
            let mailboxes = format!("<User><Mailbox>{mailbox}</Mailbox></User>").repeat(mailboxes);
            let settings = format!("<Setting>{setting}</Setting>").repeat(settings);
            let ask = format!(
                "<GetUserSettingsRequestMessage><Request><Users>{mailboxes}</Users>\
                 <RequestedSettings>{settings}</RequestedSettings></Request></GetUserSettingsRequestMessage>"
            );
            SoapAsk::parse(ask.as_bytes())
        };
        let long = "x".repeat(60_000);
        for large in [
            ask(256, "a@b.example", 256, "UserDN"),
            ask(256, "a@b.example", 1, &long),
            ask(1, &long, 256, "UserDisplayName"),
            ask(200, "a@b.example", 1, &"\"".repeat(1_000)),
        ] {
            assert!(large.is_err());
        }
        // What mail programs ask: many settings of one, a few of many.
        for usual in [
            ask(1, "a@b.example", 256, "ExternalMailboxServerRequiresSSL"),
            ask(100, "a@b.example", 16, "ExternalMailboxServerRequiresSSL"),
        ] {
            let public = Origin::parse("https://mail.public.example").expect("an origin");
            let own = Own {
                public: &public,
                ews: true,
            };
            assert!(own.soap(&usual.expect("usual")).len() < 2 * MOST_REPEATED);
        }
    }

    proptest! {
        #[test]
        fn a_query_that_is_read_is_written_and_read_the_same(query in "(Email=|Protocol=|ActiveSync|EWS|&|RedirectCount=|[a-z0-9@%./?]){0,20}") {
            if let Ok(ask) = JsonAsk::parse(Some(&query), true) {
                let again = JsonAsk::parse(Some(&ask.query()), true);
                prop_assert_eq!(again.as_ref(), Ok(&ask));
                prop_assert!(ask.query().matches('@').count() == 0);
            }
        }
    }
}
