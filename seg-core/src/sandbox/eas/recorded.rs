//! The bodies that libwbxml made (recorded/make.sh), and filling in their placeholders.

use bytes::Bytes;

/// Declares the bodies: each `NAME` is the bytes of `recorded/<file>.wbxml`.
macro_rules! recorded {
    ($($name:ident = $file:literal;)*) => {
        $(pub(in crate::sandbox) const $name: &[u8] =
            include_bytes!(concat!("recorded/", $file, ".wbxml"));)*

        #[cfg(test)]
        const ALL: &[(&str, &[u8])] = &[$(($file, $name)),*];
    };
}

recorded! {
    FOLDER_SYNC = "answer-folder-sync";
    FOLDER_SYNC_UNCHANGED = "answer-folder-sync-unchanged";
    FOLDER_CREATE = "answer-folder-create";
    FOLDER_DELETE = "answer-folder-delete";
    FOLDER_UPDATE = "answer-folder-update";
    PROVISION_OFFER = "answer-provision-offer";
    PROVISION_AGREED = "answer-provision-agreed";
    SYNC_FIRST = "answer-sync-first";
    SYNC_MAIL = "answer-sync-mail";
    SYNC_FRESH = "answer-sync-fresh";
    SYNC_ACKNOWLEDGED = "answer-sync-acknowledged";
    SYNC_SEND_WHOLE = "answer-sync-send-whole";
    SYNC_2048 = "answer-sync-2048";
    PING_EXPIRED = "answer-ping-expired";
    PING_CHANGES = "answer-ping-changes";
    PING_MISSING_PARAMETERS = "answer-ping-missing-parameters";
    ITEM_OPERATIONS = "answer-item-operations";
    ITEM_OPERATIONS_MULTIPART = "answer-item-operations-multipart";
    ITEM_OPERATIONS_MAIL = "answer-item-operations-mail";
    MOVE_ITEMS = "answer-move-items";
    GET_ITEM_ESTIMATE = "answer-get-item-estimate";
    SEARCH = "answer-search";
    SETTINGS = "answer-settings";
    MEETING_RESPONSE = "answer-meeting-response";
    RESOLVE_RECIPIENTS = "answer-resolve-recipients";
    VALIDATE_CERT = "answer-validate-cert";

    REQUEST_FOLDER_SYNC = "request-folder-sync";
    REQUEST_FOLDER_CREATE = "request-folder-create";
    REQUEST_PROVISION = "request-provision";
    REQUEST_PROVISION_AGREE = "request-provision-agree";
    REQUEST_SYNC = "request-sync";
    REQUEST_SYNC_WAIT = "request-sync-wait";
    REQUEST_SYNC_HEARTBEAT = "request-sync-heartbeat";
    REQUEST_PING = "request-ping";
    REQUEST_ITEM_OPERATIONS = "request-item-operations";
    REQUEST_SEND_MAIL = "request-send-mail";
    REQUEST_SMART_REPLY = "request-smart-reply";
    REQUEST_MOVE_ITEMS = "request-move-items";
    REQUEST_GET_ITEM_ESTIMATE = "request-get-item-estimate";
    REQUEST_SEARCH = "request-search";
    REQUEST_SETTINGS = "request-settings";
    REQUEST_RESOLVE_RECIPIENTS = "request-resolve-recipients";
}

/// Replaces `{name}` by its text everywhere. Inline strings end with a NUL and have no length, so
/// the result is as well-formed as the recording; NULs in the text are left out.
pub(in crate::sandbox) fn fill(recorded: &[u8], texts: &[(&str, &[u8])]) -> Bytes {
    let mut filled = recorded.to_vec();
    for (name, text) in texts {
        let placeholder = format!("{{{name}}}");
        let mut next = Vec::with_capacity(filled.len() + text.len());
        let mut rest = filled.as_slice();
        while let Some(at) = memchr::memmem::find(rest, placeholder.as_bytes()) {
            let (before, behind) = rest.split_at(at);
            next.extend_from_slice(before);
            next.extend(text.iter().filter(|byte| **byte != 0));
            rest = behind.get(placeholder.len()..).unwrap_or_default();
        }
        next.extend_from_slice(rest);
        filled = next;
    }
    Bytes::from(filled)
}

/// The inline string right behind the first open tag `token` (with its content bit), found by its
/// bytes: `token 03 text 00`.
pub(in crate::sandbox) fn text_of(body: &[u8], token: u8) -> Option<&str> {
    let at = memchr::memmem::find(body, &[token, 0x03])?;
    let text = body.get(at + 2..)?;
    let end = memchr::memchr(0, text)?;
    std::str::from_utf8(text.get(..end)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_recording_has_the_header_of_activesync() {
        for (file, bytes) in ALL {
            assert!(bytes.starts_with(&[0x03, 0x01, 0x6a, 0x00]), "{file}");
            assert_eq!(
                bytes.last(),
                Some(&0x01),
                "{file} does not end with an end tag"
            );
        }
    }

    #[test]
    fn placeholders_are_filled_and_read_back() {
        let ping = fill(REQUEST_PING, &[("seconds", b"480")]);
        assert_eq!(text_of(&ping, 0x48), Some("480"));
        assert_eq!(text_of(&ping, 0x7f), None);
        assert_eq!(fill(b"{a}{b}{a}", &[("a", b"1\x002"), ("b", b"")]), "1212");
    }
}
