//! ActiveSync 16.1, which no mail server speaks that could be installed: a real client at that version, and
//! written answers.

use seg_core::sandbox::Filter;
use seg_tests::{Gateway, interop};

use crate::eas_content::{element, gives, page, text};
use crate::sandbox;

const RULES: &str = r#"
[[content]]
id = "clicks"
links = { template = "https://safe.example/?u={url_encoded}" }

[[content]]
id = "no-programs"
attachments = { action = "block-fetch", extensions = ["exe"], text = "GONE {name}" }

[[content]]
id = "secret"
classified = { body = ["TLP:RED"], text = "Not here." }
"#;

/// Find: Status, Response with a Result for each preview.
fn found(previews: &[(&str, &str)]) -> Vec<u8> {
    let results = previews.iter().map(|(id, preview)| {
        let result = [
            page(0),
            text(0x0D, id),
            text(0x12, "5"),
            page(25),
            element(0x13, &text(0x14, preview)),
        ];
        element(0x12, &result.concat())
    });
    let results: Vec<u8> = results.flatten().collect();
    let root = [text(0x0A, "1"), element(0x11, &results)].concat();
    [vec![3, 1, 0x6A, 0], page(25), element(0x05, &root)].concat()
}

/// ItemOperations: the whole texts.
fn whole(texts: &[(&str, &str)]) -> Vec<u8> {
    let fetches = texts.iter().map(|(id, words)| {
        let body = element(0x0A, &[text(0x06, "1"), text(0x0B, words)].concat());
        let fetch = [
            text(0x0D, "1"),
            page(0),
            text(0x12, "5"),
            text(0x0D, id),
            page(20),
            element(0x0B, &[page(17), body].concat()),
            page(20),
        ];
        element(0x06, &fetch.concat())
    });
    let fetches: Vec<u8> = fetches.flatten().collect();
    let root = [text(0x0D, "1"), element(0x0E, &fetches)].concat();
    [vec![3, 1, 0x6A, 0], page(20), element(0x05, &root)].concat()
}

/// Sync: the answer to a draft that was added.
fn added() -> Vec<u8> {
    let add = [text(0x0C, "draft-1"), text(0x0D, "5:9"), text(0x0E, "1")];
    let collection = [
        text(0x0B, "2"),
        text(0x12, "5"),
        text(0x0E, "1"),
        element(0x06, &element(0x07, &add.concat())),
    ];
    let root = element(0x1C, &element(0x0F, &collection.concat()));
    [vec![3, 1, 0x6A, 0], element(0x05, &root)].concat()
}

#[tokio::test]
async fn pyactivesync_searches_and_drafts_at_16_1() {
    let sandbox = sandbox::start();
    let builder = Gateway::before(&sandbox);
    builder.file("policies.toml", RULES);
    let gateway = builder.start().await;
    let link = "see https://evil.example/a ";
    gives(&sandbox, "Find", found(&[("5:1", link), ("5:2", "plans")]));
    let texts = [("5:1", link), ("5:2", "plans, and more: tlp:red")];
    gives(&sandbox, "ItemOperations", whole(&texts));
    gives(&sandbox, "Sync", added());

    let ca = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(ca.path(), &gateway.ca_pem).expect("the file is written");
    let server = format!("localhost:{}", gateway.address.port());
    let ca = ca.path().display().to_string();
    let arguments = ["--server", &server, "--ca", &ca];
    println!(
        "{}",
        interop::run("pyactivesync_newest.py", arguments).await
    );

    let draft = sandbox.last(&Filter::name("Sync")).expect("the draft");
    let head = String::from_utf8_lossy(&draft.head.bytes).to_lowercase();
    assert!(head.contains("ms-asprotocolversion: 16.1"), "{head}");
    let draft = String::from_utf8_lossy(&draft.body).into_owned();
    assert!(draft.contains("see https://evil.example/a here"), "{draft}");
    assert!(!draft.contains("safe.example"), "{draft}");
    // The program in base64, and the harmless file.
    assert!(
        !draft.contains("TVpQQVlMT0FE") && draft.contains("aGFybWxlc3M="),
        "{draft}"
    );
}
