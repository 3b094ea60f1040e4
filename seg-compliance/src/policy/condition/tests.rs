//! Which facts a condition reads, and what becomes of those that nobody told.

use super::*;
use crate::clock::ManualClock;
use crate::intern::Interner;
use crate::{Ask, Protocol, Via, policy::Policies};

fn fires(when: &str, record: Option<&str>, agent: &str) -> bool {
    let text = format!("[[policy]]\nid=\"p\"\naction=\"block\"\nwhen={{{when}}}");
    let policies = Policies::parse(&text).unwrap();
    let facts = record.map(|json| Facts::of_json(json, &Interner::default()));
    let ask = Ask {
        device: None,
        user: None,
        agent,
        device_type: "SmartPhone",
        protocol: Protocol::Eas,
        command: "Sync",
        via: Via {
            address: Some("::ffff:10.1.2.3".parse().unwrap()),
            host: "mail.corp.example",
            path: "/Microsoft-Server-ActiveSync",
            method: "POST",
            version: "14.1",
            suspect: "another_user",
        },
    };
    let clock = ManualClock::new("2026-11-22T12:00:00Z".parse().unwrap());
    policies.iter().all(|policy| {
        policy.fires(
            &Subject {
                ask: &ask,
                facts: facts.as_ref(),
                rank: 3,
                stale: None,
            },
            &Moment::new(&clock),
        )
    })
}

#[test]
fn each_key_reads_its_fact() {
    let record = Some(
        r#"{"platform":"iOS","os_version":"16.7","managed":true,"compromised":false,
            "encrypted":true,"profile":true,"compliant":true,"ownership":"corporate",
            "passcode":true,"attested":false,"revoked":false,"apps":["com.a","com.b"],
            "last_seen":"2026-11-01T12:00:00Z","updated":"2026-11-22T00:00:00Z",
            "user":"alice@corp.example",
            "model":"iPhone15,2","groups":["Mobile-Mail-Users"]}"#,
    );
    for (when, expected) in [
        ("platform=\"ios\",os_version_below=\"17\"", true),
        ("platform=\"ios\",os_version_below=\"16\"", false),
        ("platform_not=[\"android\",\"windows*\"]", true),
        ("platform_not=\"i*\"", false),
        ("os_version_at_least=\"16.7\"", true),
        ("os_version=\"16.*\"", true),
        ("os_minimum={ios=\"17\",android=\"13\"}", true),
        ("os_minimum={ios=\"16\",android=\"17\"}", false),
        ("os_minimum={android=\"17\"}", false),
        ("model=[\"iPad*\",\"iPhone15*\"]", true),
        ("managed=false", false),
        (
            "managed=true,compliant=true,encrypted=true,profile=true",
            true,
        ),
        ("compromised=false", true),
        ("passcode=true,attested=false,revoked=false", true),
        ("attested=true", false),
        ("ownership=\"personal\"", false),
        ("group=\"mobile-*\"", true),
        ("group_not=\"mobile-*\"", false),
        ("group_not=\"admins\"", true),
        ("app_installed=[\"com.b\",\"com.z\"]", true),
        ("app_installed=\"com.z\"", false),
        ("app_missing=[\"com.a\",\"com.z\"]", true),
        ("app_missing=[\"com.a\",\"com.b\"]", false),
        ("inactive_days=21", true),
        ("inactive_days=22", false),
        ("facts_older_than=\"12h\"", true),
        ("facts_older_than=\"13h\"", false),
        ("max_devices=2", true),
        ("max_devices=3", false),
        ("user=\"*@corp.example\"", true),
        ("user_not=\"*@corp.example\"", false),
        ("user_agent=\"Apple*\"", true),
        ("user_agent_not=[\"Apple*\",\"Boxer*\"]", false),
        ("user_agent_not=\"Boxer*\"", true),
        (
            "device_type=\"smartphone\",protocol=\"eas\",command=\"sync\"",
            true,
        ),
        ("command_not=[\"Ping\",\"Sync\"]", false),
        ("protocol_version=\"14.1\"", true),
        ("protocol_version_below=\"14.0\"", false),
        ("protocol_version_below=\"16.0\"", true),
        ("host=\"mail.*\",path=\"/microsoft*\",method=\"post\"", true),
        ("method_not=\"POST\"", false),
        ("network=[\"10.0.0.0/8\",\"2001:db8::/32\"]", true),
        ("network_not=\"10.0.0.0/8\"", false),
        ("network=\"10.1.2.3\"", true),
        ("window={from=\"08:00\",to=\"18:00\"}", true),
        ("window={days=[\"mon-fri\"]}", false),
        ("from=2026-11-22T12:00:00Z", true),
        ("before=2026-11-22T12:00:00Z", false),
        ("from=\"2026-11-22T12:00:01Z\"", false),
        ("known=true", true),
        (
            "cel=\"device.platform.lowerAscii() == 'ios' && request.command == 'Sync'\"",
            true,
        ),
        ("", true),
    ] {
        assert_eq!(fires(when, record, "Apple-iPhone/1"), expected, "{when}");
    }
}

#[test]
fn what_nobody_reported_does_not_fire() {
    for when in [
        "managed=false",
        "compromised=true",
        "compromised=false",
        "encrypted=false",
        "platform=\"*\"",
        "platform_not=\"x\"",
        "os_version_below=\"99\"",
        "os_minimum={ios=\"99\"}",
        "group=\"*\"",
        "group_not=\"x\"",
        "app_missing=\"x\"",
        "app_installed=\"*\"",
        "inactive_days=1",
        "facts_older_than=\"1s\"",
        "user_agent=\"*\"",
        "cel=\"device.managed == false\"",
        "cel=\"device.platform != 'ios'\"",
        "cel=\"!(device.platform == 'ios')\"",
    ] {
        assert!(!fires(when, Some("{}"), ""), "{when} with an empty record");
        assert!(!fires(when, None, ""), "{when} without a record");
    }
    assert!(fires("known=false", None, ""));
    assert!(!fires(
        "os_version_below=\"99\"",
        Some(r#"{"os_version":"unknown"}"#),
        ""
    ));
}

#[test]
fn nobody_gets_around_a_policy_by_saying_less() {
    let clock = ManualClock::new("2026-11-22T12:00:00Z".parse().unwrap());
    let fires = |when: &str, ask: &Ask<'_>| {
        let text = format!("[[policy]]\nid=\"p\"\nwhen={{{when}}}\naction=\"block\"\n");
        let policies = Policies::parse(&text).unwrap();
        let subject = Subject {
            ask,
            facts: None,
            rank: 0,
            stale: None,
        };
        let moment = Moment::new(&clock);
        policies.walk(&subject, &moment, None).ends.is_some()
    };
    let nobody = Ask {
        device: None,
        user: None,
        agent: "",
        device_type: "",
        protocol: Protocol::Eas,
        command: "Sync",
        via: Via::default(),
    };
    let silent = Ask {
        via: Via {
            method: "POST",
            ..Via::default()
        },
        ..nobody
    };
    let ews = Ask {
        protocol: Protocol::Ews,
        ..silent
    };
    for (when, of_eas, of_ews) in [
        ("user_agent_not=\"Apple*\"", true, true),
        ("user_agent=\"*\"", false, false),
        ("cel=\"!request.agent.startsWith('Apple')\"", true, true),
        ("device_type_not=\"iPhone\"", true, false),
        ("cel=\"request.type != 'iPhone'\"", true, false),
        ("protocol_version_below=\"14.1\"", true, false),
        ("protocol_version_not=\"16.1\"", true, false),
        ("protocol_version_at_least=\"14.1\"", false, false),
        (
            "cel=\"version(request.version) < version('14.1')\"",
            true,
            false,
        ),
        ("network_not=\"10.0.0.0/8\"", true, true),
        ("network=\"0.0.0.0/0\"", false, false),
    ] {
        assert_eq!(fires(when, &silent), of_eas, "{when}, ActiveSync");
        assert_eq!(fires(when, &ews), of_ews, "{when}, EWS");
        // Where there is no request, nobody has kept anything to himself.
        assert!(!fires(when, &nobody), "{when}, without a request");
    }
}

#[test]
fn every_key_is_documented() {
    let documented = include_str!("../../../../docs/policies.md");
    for key in &KEYS {
        assert!(
            documented.contains(&format!("`{}`", key.name)),
            "{} is not in docs/policies.md",
            key.name
        );
    }
}
