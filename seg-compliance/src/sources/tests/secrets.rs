//! Secrets are sent to whom they are for, and shown to nobody.

use super::*;

/// The words that nobody may see.
const SECRETS: [&str; 5] = [
    "password-value",
    "tenant-value",
    "client-value",
    "header-value",
    "TOKEN",
];

fn shows_none(text: &str) {
    for secret in SECRETS {
        assert!(!text.contains(secret), "{secret} is in {text}");
    }
}

#[test]
fn headers_and_tenant_code_come_from_their_files() {
    let server = StandIn::serving(|_, _| ok(&json!({"list": []})));
    let folder = tempfile::tempdir().unwrap();
    let source = definition(&format!(
        "{GENERIC}url=\"{}\"\ntenant_code=\"{}\"\nheaders={{X-Api-Key=\"{}\",X-Site=\"north\"}}\n\
         user=\"api\"\npassword=\"{}\"\n",
        server.url,
        secret(&folder, "tenant"),
        secret(&folder, "header"),
        secret(&folder, "password"),
    ));
    shows_none(&format!("{source:?}"));
    pulled(&source, &nowhere()).unwrap();
    let head = server.seen()[0].to_lowercase();
    for line in [
        "aw-tenant-code: tenant-value\r\n",
        "x-api-key: header-value\r\n",
        "x-site: north\r\n",
    ] {
        assert!(head.contains(line), "{head}");
    }
    // A secret that has gone is named, and nobody is asked without it.
    std::fs::remove_file(folder.path().join("tenant")).unwrap();
    let error = pulled(&source, &nowhere()).unwrap_err();
    assert!(matches!(error, SourceError::Secret { .. }), "{error}");
    assert_eq!(server.seen().len(), 1);
}

#[test]
fn no_error_repeats_what_was_sent() {
    // Each answers with what it got.
    let statuses = [
        "200 OK",
        "400 Bad Request",
        "403 Forbidden",
        "500 Oh",
        "302 Found",
    ];
    for status in statuses {
        for echoing in ["POST /token", "GET /devices"] {
            let server = StandIn::serving(move |_, head| {
                if head.starts_with(echoing) {
                    let body = json!({"error": head, "error_description": head});
                    return answer(status, "", &body.to_string());
                }
                ok(&json!({"access_token": "TOKEN"}))
            });
            let folder = tempfile::tempdir().unwrap();
            let source = definition(&format!(
                "{GENERIC}url=\"{0}\"\ntoken_url=\"{0}/token\"\nclient_id=\"app\"\nclient_secret=\"{1}\"\n\
                 headers={{X-Api-Key=\"{2}\"}}\ntries=1\n",
                server.url,
                secret(&folder, "client"),
                secret(&folder, "header"),
            ));
            shows_none(&format!("{source:?}"));
            let error = pulled(&source, &nowhere()).unwrap_err();
            shows_none(&format!("{error} {error:?}"));
        }
    }
    // Neither does one about a header that can't be sent, or a proxy that is none.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("odd");
    std::fs::write(&path, "header-value\u{7f}").unwrap();
    let text = format!("{GENERIC}url=\"http://127.0.0.1:1\"\ntries=1\n");
    let odd = path.display();
    let source = definition(&format!("{text}headers={{X-Api-Key=\"file:{odd}\"}}\n"));
    let error = pulled(&source, &nowhere()).unwrap_err();
    shows_none(&format!("{error} {error:?}"));
    std::fs::write(&path, "http://user:password-value@").unwrap();
    let source = definition(&format!("{text}proxy=\"file:{odd}\"\n"));
    let error = pulled(&source, &nowhere()).unwrap_err();
    assert!(error.to_string().contains("outbound proxy"), "{error}");
    shows_none(&format!("{error} {error:?}"));
    let mut source = definition(&text);
    source.default_proxy(Some("http://user:password-value@127.0.0.1:1"));
    shows_none(&format!("{source:?}"));
    let error = pulled(&source, &nowhere()).unwrap_err();
    shows_none(&format!("{error} {error:?}"));
}
