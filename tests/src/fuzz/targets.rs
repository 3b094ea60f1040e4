//! The table of targets, the same as in `tests/fuzz/fuzz_targets`; a test compares them.

/// What a target is: total over any bytes; it panics where a property does not hold.
pub type Entry = fn(&[u8]);

/// Name and entry function of each target.
pub const TARGETS: [(&str, Entry); 31] = [
    ("accept_proxy_header", seg_core::accept::fuzz::proxy_header),
    (
        "compliance_journal_changes",
        seg_compliance::fuzz::journal_changes,
    ),
    (
        "compliance_journal_frame",
        seg_compliance::fuzz::journal_frame,
    ),
    ("compliance_policies", seg_compliance::fuzz::policies),
    (
        "compliance_policy_expression",
        seg_compliance::fuzz::policy_expression,
    ),
    ("compliance_record_csv", seg_compliance::fuzz::record_csv),
    (
        "compliance_record_ndjson",
        seg_compliance::fuzz::record_ndjson,
    ),
    ("delegate_kdc_answer", seg_core::delegate::fuzz::kdc_answer),
    ("delegate_negotiate", seg_core::delegate::fuzz::negotiate),
    ("eas_bodies", seg_eas::fuzz::bodies),
    ("eas_content", seg_eas::fuzz::content),
    ("eas_firewall", seg_eas::fuzz::firewall),
    ("eas_folders", seg_eas::fuzz::folders),
    ("eas_multipart", seg_eas::fuzz::multipart),
    ("eas_request_line", seg_eas::fuzz::request_line),
    ("eas_wbxml_reader", seg_eas::fuzz::wbxml_reader),
    ("eas_wbxml_text", seg_eas::fuzz::wbxml_text),
    ("ews_authorization", seg_ews::fuzz::authorization),
    ("ews_challenge_lines", seg_ews::fuzz::challenge_lines),
    ("ews_document", seg_ews::fuzz::document),
    ("ews_framer", seg_ews::fuzz::framer),
    ("ews_get_form", seg_ews::fuzz::get_form),
    ("ews_push_url", seg_ews::fuzz::push_url),
    ("ews_redactor", seg_ews::fuzz::redactor),
    ("ews_scanner", seg_ews::fuzz::scanner),
    ("ews_server_version", seg_ews::fuzz::server_version),
    (
        "tls_client_certificate",
        seg_core::tls::fuzz::client_certificate,
    ),
    ("tls_ocsp_answer", seg_core::tls::fuzz::ocsp_answer),
    ("tls_revocation_list", seg_core::tls::fuzz::revocation_list),
    ("upstream_chunked", seg_core::upstream::fuzz::chunked),
    (
        "upstream_response_head",
        seg_core::upstream::fuzz::response_head,
    ),
];

/// The entry function of a target.
#[must_use]
pub fn entry(target: &str) -> Option<Entry> {
    TARGETS
        .iter()
        .find_map(|(name, entry)| (*name == target).then_some(*entry))
}
