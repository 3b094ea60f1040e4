//! The XML around every answer.

use super::super::answer::Answer;

/// What stands in front of every body: Exchange 2016's version, as clients look for it.
const BEFORE: &str = "<?xml version=\"1.0\" encoding=\"utf-8\"?>\
    <s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\"><s:Header>\
    <h:ServerVersionInfo MajorVersion=\"15\" MinorVersion=\"2\" MajorBuildNumber=\"1544\" \
    MinorBuildNumber=\"4\" Version=\"V2017_07_11\" \
    xmlns:h=\"http://schemas.microsoft.com/exchange/services/2006/types\" \
    xmlns=\"http://schemas.microsoft.com/exchange/services/2006/types\"/></s:Header>\
    <s:Body xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" \
    xmlns:xsd=\"http://www.w3.org/2001/XMLSchema\">";
const BEHIND: &str = "</s:Body></s:Envelope>";
/// The namespaces of an answer's root.
const NAMESPACES: &str = "xmlns:m=\"http://schemas.microsoft.com/exchange/services/2006/messages\" \
    xmlns:t=\"http://schemas.microsoft.com/exchange/services/2006/types\"";

/// An envelope around `<m:{name}>{inner}</m:{name}>`.
pub(super) fn of(name: &str, inner: &str) -> String {
    format!("{BEFORE}<m:{name} {NAMESPACES}>{inner}</m:{name}>{BEHIND}")
}

/// The envelope of an operation that answers with messages.
pub(super) fn of_messages(operation: &str, messages: &str) -> String {
    let inner = format!("<m:ResponseMessages>{messages}</m:ResponseMessages>");
    of(&format!("{operation}Response"), &inner)
}

/// One message that says that all is well.
pub(super) fn success(operation: &str, inner: &str) -> String {
    format!(
        "<m:{operation}ResponseMessage ResponseClass=\"Success\">\
         <m:ResponseCode>NoError</m:ResponseCode>{inner}</m:{operation}ResponseMessage>"
    )
}

/// One message with an error code of the EWS schema.
pub(super) fn error(operation: &str, code: &str) -> String {
    format!(
        "<m:{operation}ResponseMessage ResponseClass=\"Error\">\
         <m:MessageText>The sandbox says {code}.</m:MessageText>\
         <m:ResponseCode>{code}</m:ResponseCode><m:DescriptiveLinkKey>0</m:DescriptiveLinkKey>\
         </m:{operation}ResponseMessage>"
    )
}

/// 200 with an envelope.
pub(super) fn answer(envelope: String) -> Answer {
    let answer = Answer::status(200)
        .header("Cache-Control", "private")
        .header("Content-Type", CONTENT_TYPE)
        .header("Server", "Microsoft-IIS/10.0")
        .header("X-EwsHandler", "sandbox");
    answer.body(envelope)
}

/// 500 with a SOAP fault.
pub(super) fn fault(code: &str, text: &str) -> Answer {
    let fault = format!(
        "{BEFORE}<s:Fault><faultcode \
         xmlns:a=\"http://schemas.microsoft.com/exchange/services/2006/types\">a:{code}</faultcode>\
         <faultstring xml:lang=\"en-US\">{text}</faultstring><detail><e:ResponseCode \
         xmlns:e=\"http://schemas.microsoft.com/exchange/services/2006/errors\">{code}\
         </e:ResponseCode><e:Message \
         xmlns:e=\"http://schemas.microsoft.com/exchange/services/2006/errors\">{text}</e:Message>\
         </detail></s:Fault>{BEHIND}"
    );
    Answer::status(500)
        .header("Content-Type", CONTENT_TYPE)
        .body(fault)
}

/// Of every EWS answer.
pub(super) const CONTENT_TYPE: &str = "text/xml; charset=utf-8";

/// Text with its entities resolved.
pub(super) fn unescaped(text: &str) -> String {
    text.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&apos;", "'")
        .replace("&amp;", "&")
}

/// Text as it may stand in an element or an attribute.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
