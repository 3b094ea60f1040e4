//! A real Active Directory is asked before the mail server: passwords, accounts, groups, and that
//! nobody outside can lock an account in it.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use seg_core::sandbox::{Answer, Filter, Kind, Sandbox, Script};
use seg_tests::ad::Lab;
use seg_tests::eas::{Request, soap};
use seg_tests::{Gateway, GatewayBuilder};

use crate::block::GET_INBOX;
use crate::sandbox::{self, folder_sync};

/// A sandbox that takes every password: what is refused was refused before it.
pub(crate) fn trusting() -> Sandbox {
    let sandbox = sandbox::start();
    for kind in [Kind::Eas, Kind::Ews] {
        let welcome = Answer::ok("text/plain", "welcome");
        sandbox.script(Script::answer(Filter::kind(kind), welcome).always());
    }
    sandbox
}

fn before(sandbox: &Sandbox, lab: &Lab) -> GatewayBuilder {
    Gateway::before(sandbox).directory(lab)
}

fn by(name: &str, password: &str, device: &str) -> Request {
    let pair = BASE64_STANDARD.encode(format!("{name}:{password}"));
    folder_sync(device)
        .without("Authorization")
        .header("Authorization", &format!("Basic {pair}"))
}

async fn reason(gateway: &Gateway, reason: &str) {
    gateway
        .event(reason, |event| event["reason"] == reason)
        .await;
}

#[tokio::test]
async fn a_password_is_checked_before_the_server_sees_it() {
    let lab = Lab::shared();
    let sandbox = trusting();
    for scheme in ["ldaps", "ldap"] {
        // The first server of the list is down.
        let urls = format!("ldaps://127.0.0.1:1, {scheme}://{}", lab.address());
        let gateway = before(&sandbox, &lab)
            .set("directory.url", urls)
            .start()
            .await;
        for name in [
            "alice@corp.example",
            "CORP\\alice",
            "alice",
            "Alice@CORP.example",
        ] {
            let answer = gateway.ask(&by(name, lab.password(), "DIRGOOD")).await;
            assert_eq!(answer.status(), 200, "{scheme} {name}");
        }
    }
    let gateway = before(&sandbox, &lab).start().await;
    lab.tool(&["user", "create", "wanda", lab.password()]);
    for (name, password, why) in [
        ("wanda", "wrong", "password_wrong"),
        ("wanda", "", "password_empty"),
        ("erin", lab.password(), "account_disabled"),
        ("stranger", lab.password(), "password_wrong"),
        ("OTHER\\alice", lab.password(), "domain_unknown"),
        ("al*", lab.password(), "password_wrong"),
    ] {
        let answer = gateway.ask(&by(name, password, "DIRBAD")).await;
        assert_eq!(answer.status(), 401, "{name}");
        // One answer for all of them.
        let offered: Vec<&str> = answer.all("WWW-Authenticate").collect();
        assert_eq!(
            offered,
            ["Basic realm=\"seg\", charset=\"UTF-8\""],
            "{name}"
        );
        assert!(answer.body.is_empty(), "{name}");
        reason(&gateway, why).await;
    }
    assert_eq!(sandbox.count(&Filter::any().device("DIRBAD")), 0);
}

#[tokio::test]
async fn autodiscover_is_no_place_to_guess_passwords() {
    let lab = Lab::shared();
    let sandbox = trusting();
    for mode in ["rewrite", "answer"] {
        let gateway = before(&sandbox, &lab)
            .set("server.public.url", "https://mail.public.example")
            .set("autodiscover.mode", mode)
            .start()
            .await;
        let ask = |password: &str| {
            let pair = BASE64_STANDARD.encode(format!("alice:{password}"));
            Request::new(
                "GET",
                "/autodiscover/autodiscover.json?Email=alice@corp.example&Protocol=ActiveSync",
            )
            .header("Authorization", &format!("Basic {pair}"))
        };
        assert_eq!(gateway.ask(&ask("guessed")).await.status(), 401, "{mode}");
        reason(&gateway, "password_wrong").await;
        assert_eq!(
            sandbox.count(&Filter::kind(Kind::Autodiscover)),
            0,
            "{mode}"
        );
        if mode == "answer" {
            let right = gateway.ask(&ask(lab.password())).await;
            assert_eq!(right.status(), 200, "{}", right.text());
        }
    }
}

#[tokio::test]
async fn groups_let_in_and_say_where() {
    let lab = Lab::shared();
    let sandbox = trusting();
    let gateway = before(&sandbox, &lab)
        .set(
            "directory.groups.permitted",
            "Mobile-Mail-Users=/Microsoft-Server-ActiveSync, Sales-Team",
        )
        .start()
        .await;
    let ews = |name: &str| {
        let pair = BASE64_STANDARD.encode(format!("{name}:{}", lab.password()));
        Request::ews("x", &soap(GET_INBOX))
            .without("Authorization")
            .header("Authorization", &format!("Basic {pair}"))
    };
    // dave is in a group in a group in a group.
    for (name, eas, ews_status) in [
        ("alice", 200, 403),
        ("CORP\\csmith", 200, 403),
        ("carol.smith@corp.example", 200, 403),
        ("dave", 200, 200),
        ("bob", 403, 403),
    ] {
        let answer = gateway.ask(&by(name, lab.password(), "DIRGROUP")).await;
        assert_eq!(answer.status(), eas, "{name}, ActiveSync");
        let answer = gateway.ask(&ews(name)).await;
        assert_eq!(answer.status(), ews_status, "{name}, EWS");
    }
    reason(&gateway, "group_missing").await;
    reason(&gateway, "group_not_here").await;
    let denying = before(&sandbox, &lab)
        .set("directory.groups.denied", "Sales-Team")
        .start()
        .await;
    assert_eq!(
        denying
            .ask(&by("dave", lab.password(), "DIRGROUP"))
            .await
            .status(),
        403
    );
    assert_eq!(
        denying
            .ask(&by("bob", lab.password(), "DIRGROUP"))
            .await
            .status(),
        200
    );
    // A group that keeps out and is not there keeps everybody out, and the log says why.
    let misspelt = before(&sandbox, &lab)
        .set("directory.groups.denied", "Sales-Taem")
        .start()
        .await;
    let answer = misspelt.ask(&by("bob", lab.password(), "DIRGROUP")).await;
    assert_eq!(answer.status(), 503);
    misspelt
        .event("the group", |event| {
            event.to_string().contains("names Sales-Taem")
        })
        .await;
}

#[tokio::test]
async fn a_changed_password_is_known_at_once() {
    let lab = Lab::shared();
    let sandbox = trusting();
    let gateway = before(&sandbox, &lab).start().await;
    lab.tool(&["user", "create", "paula", lab.password()]);
    assert_eq!(
        gateway
            .ask(&by("paula", lab.password(), "CHANGE"))
            .await
            .status(),
        200
    );
    lab.tool(&[
        "user",
        "setpassword",
        "paula",
        "--newpassword=Fresh-Lab-Pass-1",
    ]);
    assert_eq!(
        gateway
            .ask(&by("paula", "Fresh-Lab-Pass-1", "CHANGE"))
            .await
            .status(),
        200
    );
    // The new one has taken the old one's place.
    assert_eq!(
        gateway
            .ask(&by("paula", lab.password(), "CHANGE"))
            .await
            .status(),
        401
    );
    // A server that refuses what we believe is believed.
    lab.tool(&[
        "user",
        "setpassword",
        "paula",
        "--newpassword=Fresh-Lab-Pass-2",
    ]);
    sandbox.clear_scripts();
    let refused = Answer::status(401).header("WWW-Authenticate", "Basic realm=\"x\"");
    sandbox.script(Script::answer(Filter::any().device("CHANGE"), refused));
    assert_eq!(
        gateway
            .ask(&by("paula", "Fresh-Lab-Pass-1", "CHANGE"))
            .await
            .status(),
        401
    );
    let before = sandbox.count(&Filter::any().device("CHANGE"));
    assert_eq!(
        gateway
            .ask(&by("paula", "Fresh-Lab-Pass-1", "CHANGE"))
            .await
            .status(),
        401
    );
    assert_eq!(sandbox.count(&Filter::any().device("CHANGE")), before);
}

/// The directory locks an account after five wrong passwords.
#[tokio::test]
async fn a_spray_locks_nobody_out() {
    const PHONES: usize = 40;
    const EACH: usize = 25;
    let lab = Lab::shared();
    let sandbox = trusting();
    lab.tool(&["user", "create", "sprayed", lab.password()]);
    let gateway = before(&sandbox, &lab)
        .set("directory.lockout.network.failures", "0")
        .start()
        .await;
    let mut phones = Vec::with_capacity(PHONES);
    for _ in 0..PHONES {
        phones.push(gateway.connect().await);
    }
    for round in 0..EACH {
        for (phone, wire) in phones.iter_mut().enumerate() {
            let guess = format!("guess-{round}-{phone}");
            // Refused requests close their connection: their body has not been read.
            *wire = gateway.connect().await;
            wire.send(by("sprayed", &guess, "SPRAY").bytes()).await;
        }
        for wire in &mut phones {
            assert_eq!(wire.answer().await.status(), 401);
        }
    }
    assert_eq!(sandbox.count(&Filter::any().device("SPRAY")), 0);
    reason(&gateway, "lockout_user").await;
    // Another gateway, which remembers nothing, asks the directory itself.
    let fresh = before(&sandbox, &lab).start().await;
    let answer = fresh.ask(&by("sprayed", lab.password(), "SPRAY")).await;
    assert_eq!(answer.status(), 200, "the directory has locked the account");
}

/// A network that fails with many names is not listened to for a while; nobody is asked for it.
#[tokio::test]
async fn a_network_that_guesses_is_not_listened_to() {
    let lab = Lab::shared();
    let sandbox = trusting();
    let gateway = before(&sandbox, &lab)
        .set("directory.lockout.network.failures", "5")
        .start()
        .await;
    for n in 0..6 {
        let answer = gateway.ask(&by(&format!("guessed{n}"), "x", "NET")).await;
        assert_eq!(answer.status(), 401);
    }
    reason(&gateway, "lockout_network").await;
    assert_eq!(sandbox.count(&Filter::any().device("NET")), 0);
}

#[tokio::test]
async fn without_the_directory_nobody_with_a_password_comes_in() {
    let lab = Lab::shared();
    let sandbox = trusting();
    let gateway = before(&sandbox, &lab)
        .set("directory.url", "ldaps://127.0.0.1:1")
        .start()
        .await;
    let answer = gateway.ask(&by("alice", lab.password(), "DIRDOWN")).await;
    assert_eq!(answer.status(), 503);
    assert!(answer.header("Retry-After").is_some());
    reason(&gateway, "directory_unavailable").await;
}

/// Autodiscover is a way to try passwords, too.
#[tokio::test]
async fn autodiscover_is_no_way_around_the_directory() {
    let lab = Lab::shared();
    let sandbox = trusting();
    let welcome = Answer::ok("text/xml", "<welcome/>");
    sandbox.script(Script::answer(Filter::kind(Kind::Autodiscover), welcome).always());
    let gateway = before(&sandbox, &lab)
        .set("server.public.url", "https://mail.public.example")
        .set("directory.groups.permitted", "Mobile-Mail-Users")
        .start()
        .await;
    let discover = |name: &str, password: &str| {
        let pair = BASE64_STANDARD.encode(format!("{name}:{password}"));
        Request::new(
            "GET",
            "/autodiscover/autodiscover.json?Email=alice@corp.example&Protocol=ActiveSync",
        )
        .header("Authorization", &format!("Basic {pair}"))
    };
    for (name, password, status, why) in [
        ("alice", "wrong", 401, "password_wrong"),
        ("bob", lab.password(), 403, "group_missing"),
    ] {
        let answer = gateway.ask(&discover(name, password)).await;
        assert_eq!(answer.status(), status, "{name}");
        reason(&gateway, why).await;
    }
    assert_eq!(sandbox.count(&Filter::kind(Kind::Autodiscover)), 0);
    let answer = gateway.ask(&discover("alice", lab.password())).await;
    assert_ne!(answer.status(), 401);
    assert_eq!(sandbox.count(&Filter::kind(Kind::Autodiscover)), 1);
}

/// An account has many names, and one counter in the directory.
#[tokio::test]
async fn guesses_under_every_name_count_for_one_account() {
    let lab = Lab::shared();
    let sandbox = trusting();
    lab.tool(&[
        "user",
        "create",
        "manynames",
        lab.password(),
        "--mail-address=many.names@corp.example",
    ]);
    lab.attribute("manynames", "userPrincipalName", "m.names@alias.example");
    let by_ourselves = |builder: GatewayBuilder| {
        builder
            .directory_account(&lab)
            .set("directory.lockout.network.failures", "0")
    };
    let gateway = by_ourselves(before(&sandbox, &lab)).start().await;
    for round in 0..4 {
        for name in [
            "manynames",
            "many.names@corp.example",
            "m.names@alias.example",
        ] {
            let guess = format!("guess-{round}-{name}");
            let answer = gateway.ask(&by(name, &guess, "MANY")).await;
            assert_eq!(answer.status(), 401, "{name}");
        }
    }
    let fresh = by_ourselves(before(&sandbox, &lab)).start().await;
    let answer = fresh.ask(&by("manynames", lab.password(), "MANY")).await;
    assert_eq!(answer.status(), 200, "the directory has locked the account");
}

/// What the directory says of an account is named, whether its password is right or not.
#[tokio::test]
async fn locked_and_expired_accounts_are_named() {
    let lab = Lab::shared();
    let sandbox = trusting();
    for user in ["lockedout", "ended", "mustchange"] {
        lab.tool(&["user", "create", user, lab.password()]);
    }
    lab.tool(&["user", "setexpiry", "ended", "--days=-2"]);
    lab.attribute("mustchange", "pwdLastSet", "0");
    // A gateway that stands in nobody's way.
    let open = before(&sandbox, &lab)
        .set("directory.lockout.failures", "0")
        .start()
        .await;
    for round in 0..6 {
        let guess = format!("guess-{round}");
        assert_eq!(
            open.ask(&by("lockedout", &guess, "STATE")).await.status(),
            401
        );
    }
    let ours = before(&sandbox, &lab).directory_account(&lab).start().await;
    for (user, why) in [
        ("lockedout", "account_locked"),
        ("ended", "account_expired"),
        ("mustchange", "password_must_change"),
    ] {
        for gateway in [&open, &ours] {
            let answer = gateway.ask(&by(user, lab.password(), "STATE")).await;
            assert_eq!(answer.status(), 401, "{user}");
            reason(gateway, why).await;
        }
    }
    assert_eq!(sandbox.count(&Filter::any().device("STATE")), 0);
}

/// A rule of a group may name a host.
#[tokio::test]
async fn groups_let_in_by_host() {
    let lab = Lab::shared();
    let sandbox = trusting();
    let gateway = before(&sandbox, &lab)
        .names(&["sales.corp.example", "mail.corp.example"])
        .set(
            "directory.groups.permitted",
            "Sales-Team=sales.corp.example/, Mobile-Mail-Users=mail.corp.example/Microsoft-Server-ActiveSync",
        )
        .start()
        .await;
    for (user, host, status) in [
        ("dave", "sales.corp.example", 200),
        ("dave", "mail.corp.example", 200),
        ("alice", "mail.corp.example", 200),
        ("alice", "MAIL.corp.example:443", 200),
        ("alice", "sales.corp.example", 403),
    ] {
        let request = by(user, lab.password(), "BYHOST")
            .without("Host")
            .header("Host", host);
        assert_eq!(
            gateway.ask(&request).await.status(),
            status,
            "{user} {host}"
        );
    }
    reason(&gateway, "group_not_here").await;
}
