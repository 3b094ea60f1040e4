use super::*;

#[test]
fn the_example_of_the_design_is_read() {
    let policies = Policies::parse(
        "[eas]\nx=1\n[[policy]]\nid=\"ios-min\"\nwhen={platform=\"ios\",os_version_below=\"17\"}\naction=\"block\"\n",
    )
    .unwrap();
    let read: Vec<_> = policies
        .iter()
        .map(|p| (p.id().to_string(), p.line()))
        .collect();
    assert_eq!(read, [("ios-min".to_owned(), 3)]);
}

#[test]
fn the_examples_of_the_documentation_are_read() {
    let page = include_str!("../../../docs/policies.md");
    let mut examples = 0;
    for block in page.split("```toml\n").skip(1) {
        let text = block.split("```").next().unwrap();
        if let Err(error) = Policies::parse(text) {
            panic!("{error}\n{text}");
        }
        examples += 1;
    }
    assert!(examples >= 4);
}

#[test]
fn what_is_wrong_is_named_with_line_and_column() {
    for (text, expected) in [
        (
            "\n[[policy]]\nid=\"a\"\nwhen={jailbroken=true}\naction=\"block\"",
            "line 4, column 7: policy \"a\": when.jailbroken is not known; known are ",
        ),
        (
            "[[policy]]\nid=\"a\"\naction=\"deny\"",
            "line 3, column 1: policy \"a\": unknown variant `deny`",
        ),
        (
            "[[policy]]\naction=\"block\"",
            "line 1, column 1: missing field `id`",
        ),
        (
            "[[policy]]\nid=\"a\"\naction=\"allow\"\n[[policy]]\nid=\"a\"\naction=\"allow\"",
            "line 4, column 1: policy \"a\": another policy has the same id",
        ),
        (
            "[[policy]]\nid=\"a\"\naction=\"allow\"\nscop={}",
            "line 4, column 1: policy \"a\": unknown field `scop`",
        ),
        (
            "[[policy]]\nid=\"a\"\naction=\"block\"\nwhen={managed=\"no\"}",
            "line 4, column 7: policy \"a\": when.managed must be true or false",
        ),
        (
            "[[policy]]\nid=\"a\"\naction=\"block\"\nwhen={cel=\"device.managed && x\"}",
            "line 4, column 30: policy \"a\": when.cel: \"x\" is not known",
        ),
        (
            "[[policy]]\nid=\"a\"\naction=\"block\"\n[policy.when]\ncel='''\ndevice.managed &&\n  1'''",
            "line 7, column 3: policy \"a\": when.cel: this is a whole number",
        ),
        (
            "[[policy]]\nid=\"a\"\naction=\"block\"\nwhen={network=[\"10.0.0.0/8\", \"x\"]}",
            "line 4, column 30: policy \"a\": when.network: \"x\" is no network",
        ),
        (
            "[[policy]]\nid=\"a\"\naction=\"block\"\nwhen={inactive_days=40000}",
            "line 4, column 7: policy \"a\": when.inactive_days must be a whole number, 1 to 32767",
        ),
        (
            "[eas]\nx=1\n[[polcy]]\nid=\"a\"\naction=\"block\"",
            "line 3, column 3: unknown field `polcy`, expected one of policy, content, eas, ews",
        ),
        (
            "[[policy]]\nid=\"a\"\naction=\"block\"\nwhen={platform=[]}",
            "line 4, column 7: policy \"a\": when.platform must be a list of at least one text",
        ),
        (
            "[[policy]]\nid=\"a\"\naction=\"block\"\nwhen={os_minimum={}}",
            "line 4, column 7: policy \"a\": when.os_minimum: names 1 to",
        ),
        (
            "[[policy]]\nid=\"a\"\naction=\"block\"\nwhen={window={zone=\"Mars/Olympus\"}}",
            "line 4, column 15: policy \"a\": when.window: \"Mars/Olympus\" is no time zone",
        ),
        ("policy=1", "line 1, column 1: written"),
        ("[[policy]\n", "line 1, column "),
    ] {
        let message = Policies::parse(text).unwrap_err().to_string();
        let expected = expected.replace(": written", ": policy must be written");
        assert!(message.starts_with(&expected), "{message}\n{expected}");
    }
}

#[test]
fn numbers_are_taken_up_to_their_edges() {
    for (when, taken) in [
        ("inactive_days=1", true),
        ("inactive_days=32767", true),
        ("inactive_days=0", false),
        ("inactive_days=32768", false),
        ("inactive_days=-1", false),
        ("inactive_days=1.5", false),
        ("inactive_days=\"30\"", false),
        ("inactive_days=99999999999999999999", false),
        ("max_devices=1", true),
        ("max_devices=10000", true),
        ("max_devices=0", false),
        ("max_devices=10001", false),
        ("facts_older_than=\"1s\"", true),
        ("facts_older_than=\"-1s\"", false),
        ("facts_older_than=36", false),
        ("os_version_below=\"17\"", true),
        ("os_version_below=17", false),
        ("os_minimum={ios=17}", false),
        ("network=[\"10.0.0.0/33\"]", false),
        ("from=2027-01-01", false),
    ] {
        let text = format!("[[policy]]\nid=\"p\"\naction=\"block\"\nwhen={{{when}}}");
        let read = Policies::parse(&text);
        assert_eq!(read.is_ok(), taken, "{when}: {read:?}");
        if let Err(error) = read {
            let key = when.split('=').next().unwrap();
            let error = error.to_string();
            assert!(
                error.contains(&format!("policy \"p\": when.{key}")),
                "{error}"
            );
        }
    }
}

#[test]
fn a_file_has_no_more_than_it_may() {
    let policy = |index: usize| format!("[[policy]]\nid=\"p{index}\"\naction=\"block\"\n");
    let many: String = (0..POLICIES_MAX).map(policy).collect();
    assert!(Policies::parse(&many).is_ok());
    let error = Policies::parse(&(many + &policy(POLICIES_MAX))).unwrap_err();
    assert!(error.message.contains("more than"), "{error}");
    for (key, word) in [("platform", "ios"), ("network", "10.0.0.0/8")] {
        let words = |count: usize| vec![format!("\"{word}\""); count].join(",");
        let text = |count: usize| {
            let words = words(count);
            format!("[[policy]]\nid=\"p\"\naction=\"block\"\nwhen={{{key}=[{words}]}}")
        };
        assert!(Policies::parse(&text(WORDS_MAX)).is_ok(), "{key}");
        let error = Policies::parse(&text(WORDS_MAX + 1)).unwrap_err();
        assert!(error.message.contains("more than"), "{key}: {error}");
    }
}

proptest::proptest! {
    #[test]
    fn any_text_is_policies_or_an_error(text in r#"(\[\[policy\]\]\n|id="[ab]"\n|action="block"\n|when=\{[a-z]{0,8}=(true|"x"|1|\{\})\}\n|[ -~]{0,9}\n){0,8}"#) {
        crate::fuzz::policies(text.as_bytes());
    }
}
