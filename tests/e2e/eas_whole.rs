//! Mail of which the device gets the beginning, judged by its whole text.

use seg_core::sandbox::{Answer, Filter, Script};
use seg_tests::ad::Lab;

use crate::eas_content::{
    LIMIT, body, element, gives, has, page, sync, sync_answer, text, with_policies,
};
use crate::{kerberos, sandbox};

const POLICIES: &str = "[[content]]\nid = 'secret'\n\
    classified = { body = ['TLP:RED'], text = 'Not here.' }\n";

/// A Body of plain text, and whether it was cut off.
fn cut(text_of: &str, truncated: &str) -> Vec<u8> {
    let content = [text(0x06, "1"), text(0x0D, truncated), text(0x0B, text_of)];
    element(0x0A, &content.concat())
}

/// ItemOperations: Fetch with Status, CollectionId, ServerId, Properties with the body.
fn whole_answer(text_of: &str) -> Vec<u8> {
    let fetch = [
        text(0x0D, "1"),
        page(0),
        text(0x12, "5"),
        text(0x0D, "5:1"),
        page(20),
        element(0x0B, &[page(17), cut(text_of, "0")].concat()),
        page(20),
    ];
    let root = [
        text(0x0D, "1"),
        element(0x0E, &element(0x06, &fetch.concat())),
    ];
    [vec![3, 1, 0x6A, 0], page(20), element(0x05, &root.concat())].concat()
}

/// A marking may stand behind the place where a server cuts a body off: the whole is asked for before
/// the beginning is given away, with the credentials and in the name of the device.
#[tokio::test]
async fn the_beginning_of_a_mail_is_judged_by_its_whole_text() {
    let sandbox = sandbox::start();
    let gateway = with_policies(&sandbox, POLICIES, LIMIT).await;
    let given = sync_answer("plans", &[cut("attack at", "1")]);
    let fetches = |device: &str| Filter::name("ItemOperations").device(device);

    gives(&sandbox, "Sync", given.clone());
    gives(&sandbox, "ItemOperations", whole_answer("attack at dawn"));
    let answer = gateway.ask(&sync("WHOLE1")).await;
    assert_eq!(&answer.body[..], &given[..], "{}", answer.text());
    let asked = sandbox.last(&fetches("WHOLE1")).expect("it was asked for");
    let ids = [text(0x12, "5"), text(0x0D, "5:1")].concat();
    assert!(asked.body.windows(ids.len()).any(|part| part == ids));
    assert_eq!(sandbox.count(&fetches("WHOLE1")), 1);

    sandbox.clear_scripts();
    gives(&sandbox, "Sync", given.clone());
    gives(
        &sandbox,
        "ItemOperations",
        whole_answer("attack at dawn, tlp:red"),
    );
    let answer = gateway.ask(&sync("WHOLE2")).await;
    let withheld = sync_answer("plans", &[cut("Not here.", "0")]);
    assert_eq!(&answer.body[..], &withheld[..], "{}", answer.text());

    // A server that does not give it: nobody has seen it.
    sandbox.clear_scripts();
    gives(&sandbox, "Sync", given);
    let failure = Answer::status(500);
    sandbox.script(Script::answer(fetches("WHOLE3"), failure).always());
    let answer = gateway.ask(&sync("WHOLE3")).await;
    assert!(
        !has(&answer, "attack") && has(&answer, "can't be checked"),
        "{answer:?}"
    );

    // What is there whole, or marked in its beginning, needs no question.
    for base in [body("1", "attack"), cut("tlp:red", "1")] {
        sandbox.clear_scripts();
        gives(&sandbox, "Sync", sync_answer("plans", &[base]));
        assert_eq!(gateway.ask(&sync("WHOLE4")).await.status(), 200);
    }
    assert_eq!(sandbox.count(&fetches("WHOLE4")), 0);
}

/// A Kerberos message serves one request: for the whole of a mail there is another one.
#[tokio::test]
async fn whole_mail_is_asked_for_behind_a_kerberos_login_too() {
    let lab = Lab::shared();
    let given = sync_answer("plans", &[cut("attack at", "1")]);
    let withheld = sync_answer("plans", &[cut("Not here.", "0")]);
    for (whole, expected) in [
        ("attack at dawn", &given),
        ("attack at dawn, tlp:red", &withheld),
    ] {
        let answers = tempfile::tempdir().expect("a folder");
        let whole = whole_answer(whole);
        for (name, body) in [("Sync", &given), ("ItemOperations", &whole)] {
            std::fs::write(answers.path().join(name), body).expect("the file is written");
        }
        let server = lab.bound_server_with(Some(answers.path()));
        let builder = kerberos::before(&lab).set(
            "email.server.host.and.port",
            format!("https://{}:{}", lab.address(), server.port),
        );
        builder.file("policies.toml", POLICIES);
        let gateway = builder.start().await;
        let request = sync("KRBWHOLE1").without("Authorization");
        for _ in 0..2 {
            let answer = kerberos::ask_as(&gateway, &lab, "alice", &request).await;
            assert_eq!(&answer.body[..], &expected[..], "{}", answer.text());
        }
    }
}
