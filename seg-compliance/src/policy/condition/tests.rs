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
fn facts_hold_up_to_their_edges() {
    // It is 2026-11-22, 12:00:00.
    let seen = |time: &str| format!("{{\"last_seen\":\"{time}\"}}");
    for (when, time, expected) in [
        ("inactive_days=1", "2026-11-21T12:00:00Z", true),
        ("inactive_days=1", "2026-11-21T12:00:00.001Z", false),
        ("inactive_days=32767", "1937-03-07T12:00:00Z", true),
        ("inactive_days=32767", "1937-03-07T12:00:00.001Z", false),
        ("inactive_days=1", "2027-01-01T00:00:00Z", false),
    ] {
        assert_eq!(
            fires(when, Some(&seen(time)), ""),
            expected,
            "{when} {time}"
        );
    }
    let minimum = "os_minimum={ios=\"17\",android=\"13\",\"windows*\"=\"10.0.22000\"}";
    for (platform, version, expected) in [
        ("iOS", "16.7.10", true),
        ("ios", "9.3.6", true),
        ("ios", "17", false),
        ("ios", "17.0.3", false),
        ("ios", "16.5.1 (c)", true),
        ("android", "12", true),
        ("android", "13", false),
        ("Android", "4.4.2", true),
        ("WindowsPhone", "8.10.14219.341", true),
        ("windows", "10.0.19045.3803", true),
        ("windows", "10.0.22631.1", false),
        // Another platform has no minimum; a name is no version.
        ("macos", "10.15", false),
        ("ipados", "15.1", false),
        ("android", "Tiramisu", false),
    ] {
        let record = format!("{{\"platform\":\"{platform}\",\"os_version\":\"{version}\"}}");
        assert_eq!(fires(minimum, Some(&record), ""), expected, "{record}");
    }
    for record in ["{\"platform\":\"ios\"}", "{\"os_version\":\"1.0\"}"] {
        assert!(!fires(minimum, Some(record), ""), "{record}");
    }
    // The client is 10.1.2.3, at an IPv6 listener.
    for (network, inside) in [
        ("10.1.2.3", true),
        ("10.1.2.3/32", true),
        ("10.1.2.2/31", true),
        ("10.1.2.4/30", false),
        ("0.0.0.0/0", true),
        ("::/0", false),
        ("::ffff:10.0.0.0/104", true),
        ("::ffff:10.1.2.3", true),
        ("::ffff:192.0.2.0/120", false),
    ] {
        let holds = |key: &str| fires(&format!("{key}=\"{network}\""), None, "");
        assert_eq!(
            (holds("network"), holds("network_not")),
            (inside, !inside),
            "{network}"
        );
        let cel = format!("cel=\"request.address.inNetwork('{network}')\"");
        assert_eq!(fires(&cel, None, ""), inside, "{cel}");
    }
    // The device is the third of its user.
    for (most, expected) in [(2, true), (3, false)] {
        assert_eq!(
            fires(&format!("max_devices={most}"), Some("{}"), ""),
            expected
        );
    }
}

#[test]
fn each_policy_of_seg_v2_has_its_cases() {
    for (when, record, agent, expected) in [
        // Managed device.
        ("managed=false", "{\"managed\":false}", "", true),
        ("managed=false", "{\"managed\":true}", "", false),
        // Mail client: with wildcards, and a default for those that are not listed.
        ("user_agent=\"Outlook*\"", "{}", "Outlook-iOS/2.0", true),
        ("user_agent=\"*boxer*\"", "{}", "AirWatch Boxer/23.01", true),
        (
            "user_agent=\"Outlook*\"",
            "{}",
            "Apple-iPhone15C2/2205",
            false,
        ),
        (
            "user_agent_not=[\"Outlook*\",\"Apple-*\"]",
            "{}",
            "NineWorks/5",
            true,
        ),
        (
            "user_agent_not=[\"Outlook*\",\"Apple-*\"]",
            "{}",
            "apple-ipad",
            false,
        ),
        // User and user group.
        (
            "user=\"alice@*\"",
            "{\"user\":\"alice@corp.example\"}",
            "",
            true,
        ),
        (
            "user=\"bob@*\"",
            "{\"user\":\"alice@corp.example\"}",
            "",
            false,
        ),
        (
            "group=\"Sales\"",
            "{\"groups\":[\"sales\",\"all\"]}",
            "",
            true,
        ),
        ("group=\"Sales\"", "{\"groups\":[\"presales\"]}", "", false),
        ("group_not=\"Mail\"", "{\"groups\":[]}", "", true),
        // EAS device type: this one says SmartPhone.
        ("device_type=\"smart*\"", "{}", "", true),
        ("device_type_not=\"iPhone\"", "{}", "", true),
        ("device_type_not=\"SmartPhone\"", "{}", "", false),
        // Compromised and encryption: who never reported is not blocked.
        ("compromised=true", "{\"compromised\":true}", "", true),
        ("compromised=true", "{\"compromised\":false}", "", false),
        ("compromised=true", "{}", "", false),
        ("encrypted=false", "{\"encrypted\":false}", "", true),
        ("encrypted=false", "{\"encrypted\":true}", "", false),
        ("encrypted=false", "{}", "", false),
        // Model: platform and model.
        (
            "platform=\"ios\",model=\"iPad*\"",
            "{\"platform\":\"iOS\",\"model\":\"iPad13,4\"}",
            "",
            true,
        ),
        (
            "platform=\"ios\",model=\"iPad*\"",
            "{\"platform\":\"ios\",\"model\":\"iPhone15,2\"}",
            "",
            false,
        ),
        (
            "platform=\"ios\",model=\"iPad*\"",
            "{\"platform\":\"android\",\"model\":\"iPad13,4\"}",
            "",
            false,
        ),
        // Operating system: one version, or all below one.
        (
            "platform=\"ios\",os_version=\"16.*\"",
            "{\"platform\":\"ios\",\"os_version\":\"16.2\"}",
            "",
            true,
        ),
        (
            "platform=\"ios\",os_version=\"16.*\"",
            "{\"platform\":\"ios\",\"os_version\":\"17.1\"}",
            "",
            false,
        ),
        // Require ActiveSync profile.
        ("profile=false", "{\"profile\":false}", "", true),
        ("profile=false", "{\"profile\":true}", "", false),
        ("profile=false", "{}", "", false),
        // Beyond it: ownership and apps.
        (
            "ownership=\"personal\"",
            "{\"ownership\":\"Personal\"}",
            "",
            true,
        ),
        (
            "app_installed=\"com.bad.*\"",
            "{\"apps\":[\"com.bad.one\"]}",
            "",
            true,
        ),
        ("app_installed=\"com.bad.*\"", "{\"apps\":[]}", "", false),
        ("app_missing=\"com.vpn\"", "{\"apps\":[]}", "", true),
        ("app_missing=\"com.vpn\"", "{}", "", false),
    ] {
        assert_eq!(
            fires(when, Some(record), agent),
            expected,
            "{when} {record} {agent}"
        );
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
