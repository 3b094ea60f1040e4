use proptest::prelude::*;

use super::*;
use crate::clock::ManualClock;
use crate::intern::Interner;
use crate::record::Facts;
use crate::{Ask, Protocol, Via};

fn with<R>(record: Option<&str>, use_it: impl FnOnce(&Subject<'_>, &Moment<'_>) -> R) -> R {
    let facts = record.map(|json| Facts::of_json(json, &Interner::default()));
    let ask = Ask {
        device: None,
        user: None,
        agent: "Apple-iPhone15C2/2205.92",
        device_type: "iPhone",
        protocol: Protocol::Eas,
        command: "Sync",
        via: Via {
            address: Some("192.0.2.7".parse().unwrap()),
            version: "16.1",
            ..Via::default()
        },
    };
    let clock = ManualClock::new("2026-11-22T12:00:00Z".parse().unwrap());
    let subject = Subject {
        ask: &ask,
        facts: facts.as_ref(),
        rank: 2,
        stale: None,
    };
    use_it(&subject, &Moment::new(&clock))
}

const RECORD: &str = r#"{"platform":"ios","os_version":"17.4","managed":true,
    "groups":["Mobile","Sales"],"apps":["com.a","com.b"],"user":"alice@corp.example",
    "last_seen":"2026-11-20T12:00:00Z"}"#;

fn holds(text: &str) -> bool {
    let expression = Expression::parse(text).unwrap_or_else(|error| panic!("{text}: {error:?}"));
    with(Some(RECORD), |subject, moment| {
        expression.holds(subject, moment)
    })
}

#[test]
fn expressions_mean_what_cel_says() {
    for text in [
        "true",
        "device.managed",
        "device.platform == 'ios' && version(device.os_version) >= version('17.2')",
        "!(device.platform in ['android', 'windows'])",
        "'Sales' in device.groups",
        "device.apps.exists(app, app.startsWith('com.') && app != 'com.a')",
        "device.apps.all(app, app.startsWith(\"com.\"))",
        "size(device.apps) == 2 && device.apps.size() < 3",
        "now - device.last_seen == duration('48h')",
        "device.last_seen + duration('3d') > now",
        "now < timestamp('2026-12-24T18:00:00Z')",
        "user.endsWith('@corp.example')",
        "request.address.inNetwork('192.0.2.0/24')",
        "request.agent.contains('iPhone') ? device.managed : false",
        "request.version == '16.1' && request.protocol == 'eas' && request.command == 'Sync'",
        "device.rank > 1 && 1 - 2 == -1",
        "has(device.platform) && !has(device.model)",
        "'IOS'.lowerAscii() == device.platform",
        "request.agent.matches('^Apple-iPhone[0-9]+C') && matches(user, '@corp[.]example$')",
        "!request.agent.matches('^iPhone') && 'a.c'.matches('a.c') && !'abc'.matches('a[.]c')",
        "device.apps.exists_one(app, app == 'com.a')",
        "!device.apps.exists_one(app, app.startsWith('com.')) && !device.apps.exists_one(app, app == 'x')",
        "2 + 3 * 4 == 14 && (2 + 3) * 4 == 20 && 7 / 2 == 3 && -7 / 2 == -3 && 7 % 3 == 1 && -7 % 3 == -1",
        "device.platform + '-' + device.os_version == 'ios-17.4'",
        // A Sunday, noon in Greenwich.
        "now.getFullYear() == 2026 && now.getMonth() == 10 && now.getDate() == 22",
        "now.getDayOfMonth() == 21 && now.getDayOfWeek() == 0 && now.getDayOfYear() == 325",
        "now.getHours() == 12 && now.getMinutes() == 0 && now.getHours('Europe/Berlin') == 13",
        "now.getMinutes('+05:30') == 30 && timestamp('2026-12-31T23:30:00Z').getMonth('+01:00') == 0",
        // What is missing makes nothing true or false by itself.
        "device.encrypted || device.managed",
        "device.managed || device.encrypted",
        "!(device.encrypted && false)",
        "1 + 2 + 3 == 6 || 1 == 2",
    ] {
        assert!(holds(text), "{text}");
    }
    for text in [
        "device.encrypted",
        "!device.encrypted",
        "device.encrypted == device.encrypted",
        "device.encrypted && device.managed",
        "device.model == 'x' || device.model != 'x'",
        "version(device.os_version) < version('17.4')",
        "device.apps.exists(app, app == 'com.z')",
        "9223372036854775807 + 1 > 0",
        "9223372036854775807 * 2 != 0",
        "1 / 0 == 0 || 1 % 0 == 0",
        "device.model.matches('.*') || !device.model.matches('.*')",
        "device.model + 'x' != 'x'",
        // One app of which nothing is known, and exactly one has to be.
        "device.apps.exists_one(app, app == 'com.a' || device.encrypted)",
        "device.updated.getHours() >= 0",
    ] {
        assert!(!holds(text), "{text}");
    }
}

#[test]
fn what_is_wrong_is_refused_with_its_place() {
    for (text, at, part) in [
        (
            "device.platfrom == 'ios'",
            0,
            "\"device.platfrom\" is not known",
        ),
        (
            "true && device.platform",
            8,
            "this is a text, a bool is needed",
        ),
        (
            "device.platform < 17",
            16,
            "< does not go with a text and a whole number",
        ),
        ("device.managed < true", 15, "does not go with"),
        ("version('new') < version('1')", 8, "no version"),
        (
            "duration(device.platform) > duration('1h')",
            9,
            "text in quotes",
        ),
        ("device.platform == 'ios", 19, "not closed"),
        ("device.platform ==", 18, "a value"),
        ("(true", 5, "\")\""),
        ("true true", 5, "the end"),
        ("device.apps.exists(a, a.exists(b, true))", 23, ""),
        ("search(device.platform)", 0, "not known"),
        ("matches(device.platform)", 0, "takes a text and"),
        ("user.matches(device.platform)", 13, "in quotes"),
        ("user.matches('(')", 13, "no regular expression"),
        (
            "user.matches('((a{50}){50}){50}')",
            13,
            "no regular expression",
        ),
        ("device.platform * 2 == 2", 16, "* does not go with a text"),
        ("now.getHours('Mars') == 1", 13, "time zone"),
        ("now.getHours(user) == 1", 13, "in quotes"),
        ("user.getHours() == 1", 0, "a timestamp is needed"),
        ("request.address.inNetwork('x')", 26, "network"),
        ("1", 0, "bool is needed"),
        ("true # false", 5, "no meaning"),
    ] {
        let error = Expression::parse(text).unwrap_err();
        assert!(error.message.contains(part), "{text}: {error:?}");
        assert_eq!(error.at, at, "{text}: {error:?}");
    }
}

#[test]
fn what_an_expression_may_cost_is_bounded() {
    let long = format!("'{}' == 'x'", "a".repeat(LENGTH_MAX));
    let many = vec!["true"; NODES_MAX].join("&&");
    let deep = format!("{}true{}", "(".repeat(DEPTH_MAX), ")".repeat(DEPTH_MAX));
    for text in [long, many, deep, "!".repeat(DEPTH_MAX + 1) + "true"] {
        assert!(Expression::parse(&text).is_err(), "{}", text.len());
    }
}

#[test]
fn what_an_expression_may_take_for_one_device_is_known_when_it_is_loaded() {
    // Each app looked for among the groups, or among the apps.
    let twice = "device.apps.exists(app, app in device.groups)";
    let chosen = "device.apps.exists(app, app in (device.managed ? device.apps : ['a']))";
    let many = vec!["device.apps.exists(x, x.startsWith('a') && x.size() > 3)"; 16].join("||");
    // A large pattern looked for in each app.
    let large =
        "device.apps.exists(app, app.matches('(com|org)[.](example|sample)[.][a-z]{1,40}'))";
    for text in [twice, chosen, &many, large] {
        let error = Expression::parse(text).unwrap_err();
        assert!(error.message.contains("steps for one device"), "{error:?}");
    }
    for text in [
        "device.apps.exists(app, app in ['com.a', 'com.b', 'com.c'])",
        "device.apps.exists(app, app.matches('^com[.]example'))",
        "request.agent.matches('(Apple|Samsung)-[A-Za-z0-9]{1,40}/[0-9.]+')",
        "device.groups.all(group, group.startsWith('Mobile') || group in ['A', 'B'])",
        "device.apps.exists(a, a == 'x') && device.apps.exists(b, b == 'y') && 'A' in device.groups",
        &vec!["!(device.platform in ['ios'])"; 30].join("||"),
    ] {
        assert!(Expression::parse(text).is_ok(), "{text}");
    }
}

#[test]
fn it_tells_when_time_will_change_it() {
    for (text, until) in [
        (
            "now - device.last_seen > duration('3d')",
            Some("2026-11-23T12:00:00Z"),
        ),
        ("now - device.last_seen >= duration('1d')", None),
        (
            "now >= timestamp('2026-12-24T18:00:00Z')",
            Some("2026-12-24T18:00:00Z"),
        ),
        ("device.last_seen < timestamp('2026-12-24T18:00:00Z')", None),
        ("now.getHours() < 7", Some("2026-11-22T12:01:00Z")),
        (
            "(now + duration('50s')).getHours() < 7",
            Some("2026-11-22T12:00:10Z"),
        ),
        ("device.last_seen.getHours() < 7", None),
    ] {
        let expression = Expression::parse(text).unwrap();
        let noted = with(Some(RECORD), |subject, moment| {
            expression.holds(subject, moment);
            moment.until()
        });
        let expected = until.map_or(Moment::ALWAYS, |until| {
            until.parse::<jiff::Timestamp>().unwrap().as_millisecond()
        });
        assert_eq!(noted, expected, "{text}");
    }
}

proptest! {
    #[test]
    fn any_text_is_an_expression_or_an_error(text in r#"[ a-z.()\[\]'"!&|=<>?:,+*/%-]{0,60}"#) {
        crate::fuzz::policy_expression(text.as_bytes());
    }

    #[test]
    fn any_words_are_an_expression_or_an_error(
        words in proptest::collection::vec(prop_oneof![
            Just("device.apps"), Just("device.managed"), Just("now"), Just("&&"), Just("||"),
            Just("=="), Just("("), Just(")"), Just("'a'"), Just("1"), Just("!"), Just(".exists(x,"),
            Just("x"), Just("-"), Just("duration('1h')"), Just("in"), Just("?"), Just(":"),
            Just("*"), Just("/"), Just("%"), Just(".matches("), Just(".exists_one(x,"), Just(".getHours()"),
        ], 0..12),
    ) {
        crate::fuzz::policy_expression(words.join(" ").as_bytes());
    }
}
