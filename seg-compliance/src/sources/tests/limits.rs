//! What comes from the network is bounded, and goes nowhere else.

use super::*;

#[test]
fn an_answer_about_one_device_is_no_list_of_a_million() {
    let long = "x".repeat(2 * 1024 * 1024);
    let server = StandIn::serving(move |_, _| ok(&json!({"list": [], "padding": long})));
    let text = format!(
        "{GENERIC}url=\"{}\"\nlookup=\"/one?id={{device}}\"\n",
        server.url
    );
    let source = definition(&text);
    let error = asked(&source, "A1").unwrap_err().to_string();
    assert!(error.contains("longer than 1048576 bytes"), "{error}");
    // A page may be that long.
    assert_eq!(pulled(&source, &nowhere()).unwrap().0.items, 0);
}

#[test]
fn json_that_is_nested_too_deep_is_an_error() {
    let deep = "[".repeat(100_000);
    let server = StandIn::serving(move |_, _| answer("200 OK", "", &deep));
    let source = definition(&format!("{GENERIC}url=\"{}\"\n", server.url));
    let error = pulled(&source, &nowhere()).unwrap_err().to_string();
    assert!(error.contains("recursion limit"), "{error}");
}

#[test]
fn a_redirect_takes_no_login_elsewhere() {
    let elsewhere = StandIn::serving(|_, _| ok(&json!({"list": []})));
    let location = format!("location: {}/devices\r\n", elsewhere.url);
    for status in [
        "301 Moved Permanently",
        "302 Found",
        "307 Temporary Redirect",
    ] {
        for redirected in ["GET /devices", "POST /token"] {
            let location = location.clone();
            let server = StandIn::serving(move |_, head| {
                if head.starts_with(redirected) {
                    return answer(status, &location, "");
                }
                ok(&json!({"access_token": "T"}))
            });
            let folder = tempfile::tempdir().unwrap();
            let source = definition(&format!(
                "{GENERIC}url=\"{0}\"\ntoken_url=\"{0}/token\"\nclient_id=\"app\"\nclient_secret=\"{1}\"\n",
                server.url,
                secret(&folder, "client"),
            ));
            let error = pulled(&source, &nowhere()).unwrap_err().to_string();
            assert!(error.contains(&status[..3]), "{error}");
        }
    }
    assert!(elsewhere.seen().is_empty(), "{:?}", elsewhere.seen());
}

#[test]
fn a_system_says_in_a_word_why_it_refuses() {
    for (body, expected) in [
        (
            r#"{"error":{"code":"Forbidden","message":"you"}}"#,
            "answers 403 (Forbidden)",
        ),
        (
            r#"{"error":"invalid_client"}"#,
            "answers 403 (invalid_client)",
        ),
        (r#"{"error":{"code":"two words"}}"#, "answers 403"),
        (r#"{"error":{"code":""}}"#, "answers 403"),
        ("<html>", "answers 403"),
    ] {
        let server = StandIn::serving(move |_, _| answer("403 Forbidden", "", body));
        let source = definition(&format!("{GENERIC}url=\"{}\"\n", server.url));
        let error = pulled(&source, &nowhere()).unwrap_err();
        assert!(error.to_string().ends_with(expected), "{error}");
        assert!(error.mend().contains("right to read"), "{}", error.mend());
    }
}

/// A mapping that leads to something else than a fact reports nothing, and stops nobody.
#[test]
fn what_a_mapping_finds_and_nobody_understands_is_not_reported() {
    let server = StandIn::serving(|_, _| {
        ok(&json!({"list": [
            {"eas": {"id": "G1"}},
            {"eas": ["G2"]},
            {"eas": 3, "owner": {"login": ["a"]}, "state": {"ok": true}, "tags": "none"},
            "G4",
            null,
        ]}))
    });
    let source = definition(&format!("{GENERIC}url=\"{}\"\n", server.url));
    let (pulled, records) = pulled(&source, &nowhere()).unwrap();
    assert_eq!((pulled.items, pulled.skipped), (5, 4));
    assert_eq!(records, [json!({"device_id": "3", "compliant": null})]);
}
