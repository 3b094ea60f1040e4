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
        ("policy=1", "line 1, column 1: written"),
        ("[[policy]\n", "line 1, column "),
    ] {
        let message = Policies::parse(text).unwrap_err().to_string();
        let expected = expected.replace(": written", ": policy must be written");
        assert!(message.starts_with(&expected), "{message}\n{expected}");
    }
}

proptest::proptest! {
    #[test]
    fn any_text_is_policies_or_an_error(text in r#"(\[\[policy\]\]\n|id="[ab]"\n|action="block"\n|when=\{[a-z]{0,8}=(true|"x"|1|\{\})\}\n|[ -~]{0,9}\n){0,8}"#) {
        crate::fuzz::policies(text.as_bytes());
    }
}
