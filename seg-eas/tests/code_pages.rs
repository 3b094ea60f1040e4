//! The code page table against the shared one, which was put together from twelve sources.

mod support;

use seg_eas::ProtocolVersion;
use seg_eas::wbxml::pages::{Kind, PAGES};
use serde_json::Value;

const VERSIONS: [&str; 7] = ["2.5", "12.0", "12.1", "14.0", "14.1", "16.0", "16.1"];

/// Aliases of the shared table that are another token's name in the same page: mistakes of one
/// source, which our table leaves out.
const MISTAKEN: [(&str, &str); 4] = [
    ("Contacts", "JobTitle"),
    ("Tasks", "DueDate"),
    ("DocumentLibrary", "CreationDate"),
    ("DocumentLibrary", "LastModifiedDate"),
];

#[test]
fn shared_code_pages() {
    let Some(shared) = support::shared() else {
        return;
    };
    let file = std::fs::read(shared.join("facts/eas-codepages.json")).unwrap();
    let pages: Vec<Value> = serde_json::from_slice(&file).unwrap();
    let mut tokens = 0;
    for (ours, theirs) in PAGES.iter().zip(&pages) {
        assert_eq!(u64::from(ours.number()), theirs["page"].as_u64().unwrap());
        assert_eq!(ours.namespace(), theirs["name"]);
        assert_eq!(
            ours.tokens().len(),
            theirs["tokens"].as_object().unwrap().len()
        );
        for token in ours.tokens() {
            let key = format!("0x{:02X}", token.token());
            let what = format!("{} {key} {}", ours.namespace(), token.name());
            assert_eq!(token.name(), theirs["tokens"][&key], "{what}");
            let column = theirs["versions"][&key].as_str();
            assert_eq!(token.versions().is_legacy(), column.is_none(), "{what}");
            for version in VERSIONS {
                let wanted = column.is_some_and(|column| {
                    column == "All" || column.split(',').any(|one| one.trim() == version)
                });
                let version = ProtocolVersion::from_header(version).unwrap();
                assert_eq!(
                    token.versions().contains(version),
                    wanted,
                    "{what} {version}"
                );
            }
            let opaque = !theirs["opaque"][&key].is_null();
            let maybe = !theirs["opaque_possible"][&key].is_null();
            assert_eq!(token.kind() == Kind::Opaque, opaque, "{what}");
            assert_eq!(token.kind() == Kind::MaybeOpaque, maybe, "{what}");
            for alias in theirs["aliases"][&key]
                .as_object()
                .into_iter()
                .flat_map(|names| names.keys())
            {
                let mistaken = MISTAKEN.contains(&(ours.namespace(), alias));
                assert_eq!(
                    !token.aliases().contains(&alias.as_str()),
                    mistaken,
                    "{what} {alias}"
                );
            }
            tokens += 1;
        }
    }
    println!("code pages: {} with {tokens} tokens", pages.len());
    assert_eq!((pages.len(), tokens), (26, 655));
}
