//! Autodiscover as Exchange answers it: with addresses of its own house, and NTLM.

use super::answer::Answer;
use super::site::Request;

/// The address that this server gives itself in its answers, which no client can reach.
pub const INSIDE: &str = "https://ex01.corp.internal";

pub(super) fn reply(request: &Request<'_>) -> Answer {
    let (path, query) = request.head.path_and_query();
    let path = path.to_ascii_lowercase();
    let body = String::from_utf8_lossy(request.body);
    match (&*path, &*request.head.method) {
        ("/autodiscover/autodiscover.xml", "POST") => {
            Answer::ok("text/xml; charset=utf-8", pox(&body))
        }
        ("/autodiscover/autodiscover.svc", "POST") => {
            Answer::ok("text/xml; charset=utf-8", soap(&body))
        }
        ("/autodiscover/autodiscover.json", "GET") => {
            let eas = query.contains("Protocol=ActiveSync");
            let (name, service) = if eas {
                ("ActiveSync", "/Microsoft-Server-ActiveSync")
            } else {
                ("EWS", "/EWS/Exchange.asmx")
            };
            let text = format!("{{\"Protocol\":\"{name}\",\"Url\":\"{INSIDE}{service}\"}}");
            Answer::ok("application/json; charset=utf-8", text)
        }
        _ => Answer::status(404),
    }
}

fn pox(body: &str) -> String {
    let email = between(body, "<EMailAddress>", "</EMailAddress>");
    let response = if body.contains("mobilesync/responseschema/2006") {
        format!(
            r#"<Response xmlns="http://schemas.microsoft.com/exchange/autodiscover/mobilesync/responseschema/2006"><Culture>en:us</Culture><User><DisplayName>{email}</DisplayName><EMailAddress>{email}</EMailAddress></User><Action><Settings><Server><Type>MobileSync</Type><Url>{INSIDE}/Microsoft-Server-ActiveSync</Url><Name>{INSIDE}/Microsoft-Server-ActiveSync</Name></Server></Settings></Action></Response>"#
        )
    } else {
        format!(
            r#"<Response xmlns="http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a"><User><DisplayName>{email}</DisplayName></User><Account><AccountType>email</AccountType><Action>settings</Action><Protocol><Type>EXCH</Type><Server>ex01.corp.internal</Server><AD>dc01.corp.internal</AD><AuthPackage>Ntlm</AuthPackage>
<ASUrl>{INSIDE}/EWS/Exchange.asmx</ASUrl>
<EwsUrl>{INSIDE}/EWS/Exchange.asmx</EwsUrl>
<EcpUrl>{INSIDE}/ecp/?rfr=olk&amp;x=1</EcpUrl></Protocol></Account></Response>"#
        )
    };
    format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\r\n<Autodiscover xmlns=\"http://schemas.microsoft.com/exchange/autodiscover/responseschema/2006\">{response}</Autodiscover>"
    )
}

fn soap(body: &str) -> String {
    let email = between(body, "Mailbox>", "</");
    let setting = |name: &str, value: &str| {
        format!(
            r#"<UserSetting i:type="StringSetting"><Name>{name}</Name><Value>{value}</Value></UserSetting>"#
        )
    };
    let settings = [
        setting("AutoDiscoverSMTPAddress", email),
        setting("ExternalEwsUrl", &format!("{INSIDE}/EWS/Exchange.asmx")),
        setting("InternalMailboxServer", "ex01.corp.internal"),
        setting("ExternalMailboxServerAuthenticationMethods", "Ntlm"),
        setting(
            "EwsSupportedSchemas",
            "Exchange2007, Exchange2010, Exchange2013_SP1",
        ),
    ]
    .concat();
    format!(
        r#"<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" xmlns:a="http://www.w3.org/2005/08/addressing"><s:Header><a:Action s:mustUnderstand="1">http://schemas.microsoft.com/exchange/2010/Autodiscover/Autodiscover/GetUserSettingsResponse</a:Action></s:Header><s:Body><GetUserSettingsResponseMessage xmlns="http://schemas.microsoft.com/exchange/2010/Autodiscover"><Response xmlns:i="http://www.w3.org/2001/XMLSchema-instance"><ErrorCode>NoError</ErrorCode><ErrorMessage/><UserResponses><UserResponse><ErrorCode>NoError</ErrorCode><ErrorMessage>No error.</ErrorMessage><RedirectTarget i:nil="true"/><UserSettingErrors/><UserSettings>{settings}</UserSettings></UserResponse></UserResponses></Response></GetUserSettingsResponseMessage></s:Body></s:Envelope>"#
    )
}

fn between<'t>(text: &'t str, from: &str, to: &str) -> &'t str {
    let after = text.split_once(from).map_or("", |(_, after)| after);
    after.split_once(to).map_or("", |(value, _)| value)
}
