//! What the book remembers, and whom it takes for a copy.

use std::sync::Arc;

use super::*;
use crate::config::binding_table::BindingTable;
use crate::config::{self, BindingMode, SuspectAction};
use crate::identify::{CertificateMapping, IdentityRules};

fn rules(compare: &[BindingPart]) -> BindingRules {
    BindingRules {
        config: config::Binding {
            mode: BindingMode::FirstUse,
            path: None,
            compare: compare.to_vec(),
            suspect: SuspectAction::Block,
            renewal: std::time::Duration::from_secs(10 * 86_400),
            place_changes: 4,
            place_window: std::time::Duration::from_secs(600),
        },
        table: BindingTable::default(),
    }
}

fn user(name: &str) -> UserKey {
    UserKey::new(name).expect("a user")
}

fn device(name: &str) -> DeviceKey {
    DeviceKey::new(name).expect("a device")
}

fn seen<'s>(device: &'s DeviceKey, user: &'s UserKey) -> Seen<'s> {
    Seen {
        device,
        user,
        owner: None,
        certificate: None,
        protocol: Protocol::Eas,
        agent: "Apple-iPhone15C2/1",
        device_type: "iPhone",
        hello: None,
        address: "192.0.2.1".parse().expect("an address"),
        now: Timestamp::UNIX_EPOCH,
        is_real: true,
    }
}

fn certificate(
    issuer: &rcgen::Issuer<'_, rcgen::KeyPair>,
    from: i32,
    until: i32,
) -> Arc<ClientCertificate> {
    let mut params = rcgen::CertificateParams::default();
    params.not_before = rcgen::date_time_ymd(from, 1, 1);
    params.not_after = rcgen::date_time_ymd(until, 1, 1);
    let key = rcgen::KeyPair::generate().expect("a key");
    let signed = params.signed_by(&key, issuer).expect("a certificate");
    let rules = config::load(None, std::iter::empty())
        .expect("the defaults")
        .config
        .identity
        .certificate;
    let mapping = CertificateMapping::new(rules, Default::default());
    let read =
        ClientCertificate::read(&[signed.der().clone()], &mapping, &IdentityRules::default());
    Arc::new(read.expect("a certificate"))
}

#[test]
fn a_restart_forgets_nothing_but_a_torn_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let rules = rules(&[BindingPart::User]);
    let (alice, bob) = (user("alice@corp.example"), user("bob@corp.example"));
    let phones = [device("ONE"), device("TWO")];
    {
        let book = Bindings::default();
        book.open(folder.path()).expect("a book");
        for phone in &phones {
            assert_eq!(book.witness(&rules, &seen(phone, &alice)), None);
        }
        let told = book.witness(&rules, &seen(&phones[0], &bob));
        assert_eq!(told, Some(Suspicion::AnotherUser));
        assert!(book.forget(&phones[1]) && !book.forget(&phones[1]));
    }
    let file = folder.path().join("bindings.ndjson");
    let mut text = std::fs::read_to_string(&file).expect("a file");
    text.push_str("{\"device\":\"THREE\",\"bou");
    std::fs::write(&file, text).expect("a torn line");
    for _ in 0..2 {
        let book = Bindings::default();
        book.open(folder.path()).expect("a book");
        let suspect = |phone, user| book.suspect(&rules, &seen(phone, user));
        assert_eq!(suspect(&phones[0], &bob), Some(Suspicion::AnotherUser));
        assert_eq!(suspect(&phones[0], &alice), None);
        assert_eq!(suspect(&phones[1], &bob), None);
        let view = book.view(&rules, &phones[0]).expect("a binding");
        assert_eq!(view.suspect.map(|suspect| suspect.user), Some(bob.clone()));
    }
    // The damaged line was cleared away.
    let text = std::fs::read_to_string(&file).expect("a file");
    assert!(!text.contains("THREE"), "{text}");
}

#[test]
fn nobody_fills_the_book_alone() {
    let (book, rules) = (Bindings::default(), rules(&[BindingPart::User]));
    let (alice, bob) = (user("alice"), user("bob"));
    for number in 0..OF_ONE_USER + 5 {
        let phone = device(&format!("D{number}"));
        book.witness(&rules, &seen(&phone, &alice));
    }
    let bound = |number: u32| {
        let phone = device(&format!("D{number}"));
        book.suspect(&rules, &seen(&phone, &bob)).is_some()
    };
    assert!(bound(OF_ONE_USER - 1) && !bound(OF_ONE_USER));
    book.forget(&device("D0"));
    let late = device("LATE");
    book.witness(&rules, &seen(&late, &alice));
    assert!(book.suspect(&rules, &seen(&late, &bob)).is_some());
}

#[test]
fn a_renewal_is_no_copy_and_a_second_certificate_is() {
    let key = rcgen::KeyPair::generate().expect("a key");
    let issuer = |name: &str| {
        let mut params = rcgen::CertificateParams::default();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, name);
        let key = rcgen::KeyPair::from_pem(&key.serialize_pem()).expect("the key");
        rcgen::Issuer::new(params, key)
    };
    let (ours, others) = (issuer("ours"), issuer("others"));
    let first = certificate(&ours, 2025, 2026);
    let (renewed, older) = (
        certificate(&ours, 2026, 2027),
        certificate(&ours, 2024, 2027),
    );
    let foreign = certificate(&others, 2026, 2027);
    let at = |text: &str| text.parse::<Timestamp>().expect("a time");
    let (early, late) = (at("2025-06-01T00:00:00Z"), at("2025-12-28T00:00:00Z"));
    let (alice, phone) = (user("alice"), device("PHONE"));
    let rules = rules(&[BindingPart::Certificate]);
    let book = Bindings::default();
    let with = |certificate, now| Seen {
        certificate: Some(certificate),
        now,
        ..seen(&phone, &alice)
    };
    assert_eq!(book.witness(&rules, &with(&first, early)), None);
    let another = Some(Suspicion::AnotherCertificate);
    for (certificate, now, expected) in [
        (&renewed, early, another),
        (&older, late, another),
        (&foreign, late, another),
        (&renewed, late, None),
    ] {
        assert_eq!(book.suspect(&rules, &with(certificate, now)), expected);
    }
    let without = Seen {
        now: late,
        ..seen(&phone, &alice)
    };
    assert_eq!(
        book.suspect(&rules, &without),
        Some(Suspicion::NoCertificate)
    );
    // From its first use on, the old one is the wrong one.
    assert_eq!(book.witness(&rules, &with(&renewed, late)), None);
    assert_eq!(book.suspect(&rules, &with(&first, late)), another);
}
