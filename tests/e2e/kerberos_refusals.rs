//! What Kerberos refuses, each refusal with its own words in the log and the right answer to the
//! phone: 403 where the account is at fault, 503 where it is ours to mend.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use seg_core::sandbox::{Answer, Filter, Kind, Script};
use seg_tests::ad::Lab;
use seg_tests::{GatewayBuilder, eventually};

use crate::directory_lookups::Counter;
use crate::kerberos::{ask_as, bare, before, reason, serial};
use crate::sandbox;

/// Certificates that name somebody else than they say.
fn mapped(lab: &Lab, builder: GatewayBuilder, people: &[(&str, &str)]) -> GatewayBuilder {
    let rows: String = people
        .iter()
        .map(|(certificate, user)| format!("{},{user},\n", serial(lab, certificate)))
        .collect();
    let map = builder.file("map.csv", rows);
    builder.set("identity.certificate.map.path", map.display().to_string())
}

#[tokio::test]
async fn each_refusal_has_its_own_words() {
    let lab = Lab::shared();
    lab.tool(&["user", "create", "gone", lab.password()]);
    lab.tool(&["user", "setexpiry", "gone", "--days=-2"]);
    for user in ["shut", "aged"] {
        lab.tool(&["user", "create", user, lab.password()]);
    }
    // Locked out: too many wrong passwords, the last of them now.
    for _ in 0..6 {
        lab.wrong_password("shut");
    }
    lab.attribute("aged", "pwdLastSet", "0");
    let people = [
        ("bob", "gone@corp.example"),
        ("dave", "shut@corp.example"),
        ("carol", "aged@corp.example"),
    ];
    let gateway = mapped(&lab, before(&lab), &people).start().await;
    // Somebody who may, so that the one who may not can be told from a delegation that is missing.
    assert_eq!(
        ask_as(&gateway, &lab, "alice", &bare("alice"))
            .await
            .status(),
        200
    );
    for (certificate, user, word, said) in [
        ("erin", "erin", "kerberos_account_disabled", "disabled"),
        (
            "frank",
            "frank",
            "kerberos_account_sensitive",
            "cannot be delegated",
        ),
        (
            "nobody",
            "nobody",
            "kerberos_user_unknown",
            "no account has this name",
        ),
        ("bob", "gone", "kerberos_account_expired", "has expired"),
        ("dave", "shut", "kerberos_account_locked", "locked"),
        (
            "carol",
            "aged",
            "kerberos_password_expired",
            "must be changed",
        ),
    ] {
        let answer = ask_as(&gateway, &lab, certificate, &bare(user)).await;
        assert_eq!(answer.status(), 403, "{certificate}: {}", answer.text());
        assert!(!answer.text().contains("Kerberos"), "{}", answer.text());
        let event = gateway
            .event(word, |event| {
                event["reason"] == word && event["user"] == format!("{user}@corp.example")
            })
            .await;
        let detail = event["detail"].as_str().unwrap_or_default().to_owned();
        assert!(detail.contains(said), "{certificate}: {detail}");
    }
}

#[tokio::test]
async fn a_delegation_that_is_missing_is_no_fault_of_the_user() {
    let lab = Lab::shared();
    for (spn, word) in [
        ("HTTP/other.corp.example", "kerberos_delegation_refused"),
        ("HTTP/nowhere.corp.example", "kerberos_spn_missing"),
    ] {
        let gateway = before(&lab).set("email.server.spn", spn).start().await;
        let answer = ask_as(&gateway, &lab, "alice", &bare("alice")).await;
        assert_eq!(answer.status(), 503, "{spn}");
        assert!(answer.header("Retry-After").is_some());
        reason(&gateway, word).await;
    }
}

#[tokio::test]
async fn a_stale_keytab_is_named() {
    let lab = Lab::shared();
    let keytab = lab.path("keytabs/stale.keytab").display().to_string();
    lab.tool(&["user", "create", "svc-stale", "--random-password"]);
    lab.tool(&[
        "domain",
        "exportkeytab",
        &keytab,
        "--principal=svc-stale@CORP.EXAMPLE",
    ]);
    lab.tool(&[
        "user",
        "setpassword",
        "svc-stale",
        "--newpassword=An0ther-Lab-Pass",
    ]);
    let gateway = before(&lab)
        .set("kerberos.principals", "svc-stale@CORP.EXAMPLE")
        .set("kerberos.keytab.path", keytab)
        .start()
        .await;
    let answer = ask_as(&gateway, &lab, "alice", &bare("alice")).await;
    assert_eq!(answer.status(), 503);
    reason(&gateway, "kerberos_keytab_stale").await;
}

/// What an administrator takes away holds at once, for those who have no ticket yet; what he gives
/// back does too. Each under an account of the gateway's own, so that nobody else is disturbed.
#[tokio::test]
async fn a_delegation_that_is_taken_away_is_named() {
    let lab = Lab::shared();
    let mail = "HTTP/mail.corp.example";
    for (account, take, give) in [
        (
            "svc-unlisted",
            ["delegation", "del-service", "svc-unlisted", mail],
            ["delegation", "add-service", "svc-unlisted", mail],
        ),
        (
            "svc-no-protocol",
            ["delegation", "for-any-protocol", "svc-no-protocol", "off"],
            ["delegation", "for-any-protocol", "svc-no-protocol", "on"],
        ),
    ] {
        let keytab = lab.service(account);
        lab.tool(&["delegation", "for-any-protocol", account, "on"]);
        lab.tool(&["delegation", "add-service", account, mail]);
        let gateway = before(&lab)
            .set("kerberos.principals", format!("{account}@CORP.EXAMPLE"))
            .set("kerberos.keytab.path", keytab.display().to_string())
            .start()
            .await;
        let status = async |user: &str| ask_as(&gateway, &lab, user, &bare(user)).await.status();
        assert_eq!(status("alice").await, 200, "{account}");
        lab.tool(&take);
        let answer = ask_as(&gateway, &lab, "bob", &bare("bob")).await;
        assert_eq!(answer.status(), 503, "{account}: {}", answer.text());
        assert!(answer.header("Retry-After").is_some());
        let event = reason(&gateway, "kerberos_delegation_missing").await;
        let detail = event["detail"].as_str().unwrap_or_default();
        for words in ["may not delegate to", mail, "any authentication protocol"] {
            assert!(detail.contains(words), "{account}: {detail}");
        }
        lab.tool(&give);
        eventually("the delegation is back", || async {
            (status("bob").await == 200).then_some(())
        })
        .await;
    }
}

/// The mail server's account names ours, and ours names nothing: this domain controller does not
/// go by that.
#[tokio::test]
async fn a_delegation_that_only_the_service_allows_is_refused() {
    let lab = Lab::shared();
    let _keytab = lab.service("rbcd");
    lab.tool(&["delegation", "add-principal", "rbcd", "svc-seg"]);
    let gateway = before(&lab)
        .set("email.server.spn", "HTTP/rbcd.corp.example")
        .start()
        .await;
    let answer = ask_as(&gateway, &lab, "alice", &bare("alice")).await;
    assert_eq!(answer.status(), 503, "{}", answer.text());
    assert!(answer.header("Retry-After").is_some());
    let event = reason(&gateway, "kerberos_delegation_refused").await;
    let detail = event["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("resource-based"), "{detail}");
}

/// Whom another forest knows, or none: nobody of ours, and no ticket of ours is asked for him.
#[tokio::test]
async fn somebody_of_another_realm_is_not_let_in() {
    let lab = Lab::shared();
    let people = [
        ("alice", "alice@elsewhere.example"),
        ("bob", "ELSEWHERE\\bob"),
    ];
    let gateway = mapped(&lab, before(&lab), &people).start().await;
    for (certificate, words) in [
        (
            "alice",
            "alice@elsewhere.example is no account here, and its domain is none of our realms",
        ),
        (
            "bob",
            "elsewhere\\bob is of a domain that belongs to no realm",
        ),
    ] {
        let answer = ask_as(&gateway, &lab, certificate, &bare(certificate)).await;
        assert_eq!(answer.status(), 403, "{certificate}: {}", answer.text());
        let event = gateway
            .event(words, |event| {
                event["target"] == "seg::request"
                    && event["status"] == 403
                    && event["user"]
                        .as_str()
                        .is_some_and(|user| words.starts_with(user))
            })
            .await;
        assert_eq!(event["reason"], "kerberos_user_realm", "{event}");
        let detail = event["detail"].as_str().unwrap_or_default();
        assert!(detail.contains(words), "{detail}");
    }
}

/// Other keys in the file count at once, for better or worse: nothing that was fetched with the ones
/// before is used any more.
#[tokio::test]
async fn a_new_keytab_needs_no_restart() {
    let lab = Lab::shared();
    let (good, stale) = (lab.service("svc-rekeyed"), lab.path("keytabs/rekeyed.old"));
    std::fs::rename(&good, &stale).expect("a keytab");
    lab.tool(&[
        "user",
        "setpassword",
        "svc-rekeyed",
        "--newpassword=An0ther-Lab-Pass",
    ]);
    let (path, principal) = (
        good.display().to_string(),
        "--principal=svc-rekeyed@CORP.EXAMPLE",
    );
    lab.tool(&["domain", "exportkeytab", &path, principal]);
    lab.tool(&["delegation", "for-any-protocol", "svc-rekeyed", "on"]);
    let mail = "HTTP/mail.corp.example";
    lab.tool(&["delegation", "add-service", "svc-rekeyed", mail]);
    let read = |path: &std::path::Path| std::fs::read(path).expect("a keytab");
    let (good, stale) = (read(&good), read(&stale));
    let builder = before(&lab);
    let keytab = builder.file("own.keytab", &good);
    let gateway = builder
        .set("kerberos.principals", "svc-rekeyed@CORP.EXAMPLE")
        .set("kerberos.keytab.path", keytab.display().to_string())
        .start()
        .await;
    for (keys, status) in [(&good, 200), (&stale, 503), (&good, 200)] {
        std::fs::write(&keytab, keys).expect("a file");
        eventually("the keys count", || async {
            let answer = ask_as(&gateway, &lab, "alice", &bare("alice")).await;
            (answer.status() == status).then_some(())
        })
        .await;
    }
    reason(&gateway, "kerberos_keytab_stale").await;
}

/// A server that is not whom we meant, or that does not take what we bring: the phone is told to come
/// again, or nothing of the answer, and never asked for a password.
#[tokio::test]
async fn a_server_that_is_not_who_it_should_be_is_named() {
    let lab = Lab::shared();
    let sandbox = sandbox::start();
    let ca = sandbox.ca_pem().unwrap_or_default().to_owned();
    let gateway = before(&lab).upstream(&sandbox.url(), &ca).start().await;
    // A token of SPNEGO (RFC 4178 4.2.2) with an answer of Kerberos that nobody has made.
    let forged = BASE64_STANDARD.encode(
        b"\xa1\x20\x30\x1e\xa0\x03\x0a\x01\x00\xa2\x17\x04\x15\x60\x13\x06\x09\x2a\x86\x48\x86\xf7\x12\x01\x02\x02\x02\x00\x6f\x04\x30\x02\x05\x00",
    );
    for (answer, status, word, words) in [
        (
            Answer::ok("text/plain", "mail")
                .header("WWW-Authenticate", format!("Negotiate {forged}")),
            502,
            "kerberos_failed",
            "did not prove its identity",
        ),
        (
            Answer::status(401).header("WWW-Authenticate", "Negotiate"),
            503,
            "kerberos_refused_by_server",
            "refuses the ticket",
        ),
        (
            Answer::status(401).header("WWW-Authenticate", "Basic realm=\"x\""),
            503,
            "kerberos_refused_by_server",
            "does not offer Negotiate",
        ),
    ] {
        sandbox.clear_scripts();
        sandbox.script(Script::answer(Filter::kind(Kind::Eas), answer).always());
        let answer = ask_as(&gateway, &lab, "alice", &bare("alice")).await;
        assert_eq!(answer.status(), status, "{words}");
        assert_eq!(answer.all("WWW-Authenticate").count(), 0, "{words}");
        assert!(
            !answer.text().contains("mail\n") && answer.text() != "mail",
            "{words}"
        );
        let event = gateway
            .event(words, |event| {
                event["reason"] == word
                    && event["detail"]
                        .as_str()
                        .is_some_and(|detail| detail.contains(words))
            })
            .await;
        assert_eq!(event["status"], status);
    }
}

/// The next ticket is asked for while the one at hand still serves: what the domain controller says of
/// it, here no, stands in the log before any request has met it.
#[tokio::test]
async fn a_ticket_is_renewed_before_its_end() {
    let lab = Lab::shared();
    let (account, mail) = ("svc-renewed", "HTTP/mail.corp.example");
    let keytab = lab.service(account);
    lab.tool(&["delegation", "for-any-protocol", account, "on"]);
    lab.tool(&["delegation", "add-service", account, mail]);
    let gateway = before(&lab)
        .set("kerberos.principals", format!("{account}@CORP.EXAMPLE"))
        .set("kerberos.keytab.path", keytab.display().to_string())
        .set("kerberos.cache.seconds", "12")
        .start()
        .await;
    let status = async || {
        ask_as(&gateway, &lab, "alice", &bare("alice"))
            .await
            .status()
    };
    // What was allowed a moment ago may not be known at once.
    eventually("a ticket", || async {
        (status().await == 200).then_some(())
    })
    .await;
    let refused = || {
        let events = gateway.events();
        let told = events.iter().filter_map(|event| event["message"].as_str());
        told.filter(|text| text.starts_with("no Kerberos ticket"))
            .count()
    };
    let before = refused();
    lab.tool(&["delegation", "del-service", account, mail]);
    eventually("the domain controller has been asked again", || async {
        assert_eq!(status().await, 200, "the ticket ended before that");
        (refused() > before).then_some(())
    })
    .await;
}

/// Whoever asks while a ticket is being fetched waits for that one, and those who come later have it.
#[tokio::test]
async fn a_ticket_is_fetched_once() {
    let lab = Lab::shared();
    let counter = Counter::before(lab.address(), 0, 88).await;
    let kdc = format!("CORP.EXAMPLE={}", counter.address);
    let gateway = before(&lab).set("kerberos.kdc", kdc).start().await;
    let status = async |user: &str| ask_as(&gateway, &lab, user, &bare(user)).await.status();
    // The gateway's own ticket is there.
    assert_eq!(status("alice").await, 200);
    let before = counter.came();
    let mut phones = Vec::new();
    for _ in 0..12 {
        let mut phone = gateway.connect_as(&lab.identity("bob")).await;
        phone.send(bare("bob").bytes()).await;
        phones.push(phone);
    }
    for phone in &mut phones {
        assert_eq!(phone.answer().await.status(), 200);
    }
    for _ in 0..3 {
        assert_eq!(status("bob").await, 200);
    }
    // Two exchanges, and the probes that come now and then.
    let came = counter.came() - before;
    assert!(came < 12, "{came} questions for one ticket");
}
