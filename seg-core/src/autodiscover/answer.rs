//! Answers of our own: they name our address and nothing else.

use quick_xml::escape::escape;

use super::ask::{JsonAsk, PoxAsk, SoapAsk, Wanted};
use crate::config::Origin;
use crate::route::{EAS_PATH, EWS_PATH};

/// What an answer is made of.
#[derive(Clone, Copy, Debug)]
pub struct Own<'a> {
    /// `server.public.url`.
    pub public: &'a Origin,
    /// EWS is open.
    pub ews: bool,
}

const MOBILE: &str =
    "http://schemas.microsoft.com/exchange/autodiscover/mobilesync/responseschema/2006";
const OUTLOOK: &str =
    "http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a";
const ENVELOPE: &str = "http://schemas.microsoft.com/exchange/autodiscover/responseschema/2006";
const SOAP: &str = "http://schemas.microsoft.com/exchange/2010/Autodiscover";

impl Own<'_> {
    fn eas_url(self) -> String {
        format!("{}{EAS_PATH}", self.public)
    }

    fn ews_url(self) -> String {
        format!("{}{EWS_PATH}", self.public)
    }

    /// The answer to a POX request. Elements stand one a line: DavMail reads them that way.
    pub fn pox(self, ask: &PoxAsk) -> String {
        let email = escape(ask.email.as_str());
        let response = if ask.schema == MOBILE {
            let url = self.eas_url();
            format!(
                "  <Response xmlns=\"{MOBILE}\">\n    <Culture>en:us</Culture>\n    <User>\n      \
                 <DisplayName>{email}</DisplayName>\n      <EMailAddress>{email}</EMailAddress>\n    \
                 </User>\n    <Action>\n      <Settings>\n        <Server>\n          \
                 <Type>MobileSync</Type>\n          <Url>{url}</Url>\n          <Name>{url}</Name>\n        \
                 </Server>\n      </Settings>\n    </Action>\n  </Response>\n"
            )
        } else if ask.schema == OUTLOOK && self.ews {
            let url = self.ews_url();
            let protocol = |kind: &str| {
                format!(
                    "      <Protocol>\n        <Type>{kind}</Type>\n        <Server>{host}</Server>\n        \
                     <SSL>On</SSL>\n        <AuthPackage>Basic</AuthPackage>\n        \
                     <ASUrl>{url}</ASUrl>\n        <EwsUrl>{url}</EwsUrl>\n        \
                     <OOFUrl>{url}</OOFUrl>\n      </Protocol>\n",
                    host = self.public.host
                )
            };
            format!(
                "  <Response xmlns=\"{OUTLOOK}\">\n    <User>\n      <DisplayName>{email}</DisplayName>\n      \
                 <AutoDiscoverSMTPAddress>{email}</AutoDiscoverSMTPAddress>\n    </User>\n    <Account>\n      \
                 <AccountType>email</AccountType>\n      <Action>settings</Action>\n{}{}    </Account>\n  \
                 </Response>\n",
                protocol("EXCH"),
                protocol("EXPR")
            )
        } else {
            // MS-OXDSCLI 2.2.4.1.1: nobody here provides what was asked for.
            "  <Response>\n    <Error>\n      <ErrorCode>601</ErrorCode>\n      \
             <Message>Provider is not available</Message>\n      <DebugData />\n    </Error>\n  \
             </Response>\n"
                .to_owned()
        };
        format!(
            "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<Autodiscover xmlns=\"{ENVELOPE}\">\n{response}</Autodiscover>\n"
        )
    }

    /// The answer to a SOAP request.
    pub fn soap(self, ask: &SoapAsk) -> String {
        let (operation, responses) = if ask.of_users {
            let users = ask.mailboxes.iter().map(|mailbox| self.user(mailbox, ask));
            ("GetUserSettings", users.collect::<String>())
        } else {
            ("GetDomainSettings", String::new())
        };
        let list = if ask.of_users {
            "UserResponses"
        } else {
            "DomainResponses"
        };
        let (code, message) = if ask.of_users {
            ("NoError", "")
        } else {
            ("InvalidRequest", "Ask for the settings of a user.")
        };
        format!(
            "<?xml version=\"1.0\" encoding=\"utf-8\"?>\
             <s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" xmlns:a=\"http://www.w3.org/2005/08/addressing\">\
             <s:Header><a:Action s:mustUnderstand=\"1\">{SOAP}/Autodiscover/{operation}Response</a:Action></s:Header>\
             <s:Body><{operation}ResponseMessage xmlns=\"{SOAP}\">\
             <Response xmlns:i=\"http://www.w3.org/2001/XMLSchema-instance\"><ErrorCode>{code}</ErrorCode>\
             <ErrorMessage>{message}</ErrorMessage><{list}>{responses}</{list}></Response>\
             </{operation}ResponseMessage></s:Body></s:Envelope>"
        )
    }

    fn user(self, mailbox: &str, ask: &SoapAsk) -> String {
        let (mut told, mut missing) = (String::new(), String::new());
        for setting in &ask.settings {
            let name = escape(setting.as_str());
            match self.setting(setting, mailbox) {
                Some(value) => told.push_str(&format!(
                    "<UserSetting i:type=\"StringSetting\"><Name>{name}</Name><Value>{}</Value></UserSetting>",
                    escape(value.as_str())
                )),
                None => missing.push_str(&format!(
                    "<UserSettingError><ErrorCode>SettingIsNotAvailable</ErrorCode>\
                     <ErrorMessage>It is not published here.</ErrorMessage>\
                     <SettingName>{name}</SettingName></UserSettingError>"
                )),
            }
        }
        format!(
            "<UserResponse><ErrorCode>NoError</ErrorCode><ErrorMessage>No error.</ErrorMessage>\
             <RedirectTarget i:nil=\"true\"/><UserSettingErrors>{missing}</UserSettingErrors>\
             <UserSettings>{told}</UserSettings></UserResponse>"
        )
    }

    /// A setting of MS-OXWSADISC 3.1.4.2.4.14 that can be told without asking anybody.
    fn setting(self, name: &str, mailbox: &str) -> Option<String> {
        match name {
            "ExternalEwsUrl" | "InternalEwsUrl" if self.ews => Some(self.ews_url()),
            "EwsSupportedSchemas" if self.ews => Some(
                "Exchange2007, Exchange2007_SP1, Exchange2010, Exchange2010_SP1, Exchange2010_SP2, \
                 Exchange2013, Exchange2013_SP1"
                    .to_owned(),
            ),
            "AutoDiscoverSMTPAddress" | "UserDisplayName" => Some(mailbox.to_owned()),
            "ExternalMailboxServer" | "InternalMailboxServer" => Some(self.public.host.clone()),
            "ExternalMailboxServerRequiresSSL" => Some("True".to_owned()),
            "ExternalMailboxServerAuthenticationMethods" => Some("Basic".to_owned()),
            _ => None,
        }
    }

    /// The answer of version 2.
    pub fn json(self, ask: &JsonAsk) -> String {
        let url = match ask.wanted {
            Wanted::ActiveSync => self.eas_url(),
            Wanted::Ews => self.ews_url(),
            Wanted::AutodiscoverV1 => {
                format!("{}{}", self.public, super::Form::Pox.path())
            }
        };
        serde_json::json!({ "Protocol": ask.wanted.name(), "Url": url }).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::super::xml;
    use super::*;

    #[test]
    fn every_answer_is_well_formed_and_names_us_alone() {
        let public = Origin::parse("https://mail.public.example").expect("an origin");
        let own = Own {
            public: &public,
            ews: true,
        };
        let email = "a&b<c>@corp.example".to_owned();
        let pox = |schema: &str| {
            own.pox(&PoxAsk {
                email: email.clone(),
                schema: schema.to_owned(),
            })
        };
        let soap = |of_users| {
            own.soap(&SoapAsk {
                mailboxes: vec![email.clone()],
                settings: ["ExternalEwsUrl", "UserDN", "<x>"]
                    .map(str::to_owned)
                    .to_vec(),
                of_users,
            })
        };
        let answers = [pox(MOBILE), pox(OUTLOOK), pox("?"), soap(true), soap(false)];
        for answer in &answers {
            xml::edit(answer, |_, value| {
                assert!(
                    !value.contains("://")
                        || value.starts_with("https://mail.public.example/")
                        || value.starts_with(SOAP),
                    "{value}"
                );
                None
            })
            .expect("well-formed");
        }
        assert!(
            answers[0]
                .contains("<Url>https://mail.public.example/Microsoft-Server-ActiveSync</Url>")
        );
        assert!(
            answers[1].contains("<EwsUrl>https://mail.public.example/EWS/Exchange.asmx</EwsUrl>")
        );
        assert!(answers[2].contains("<ErrorCode>601</ErrorCode>"));
        assert!(answers[3].contains("<Name>ExternalEwsUrl</Name><Value>https://mail.public.example/EWS/Exchange.asmx</Value>"));
        let closed = Own { ews: false, ..own };
        let outlook = closed.pox(&PoxAsk {
            email,
            schema: OUTLOOK.to_owned(),
        });
        assert!(outlook.contains("601"), "{outlook}");
    }
}
