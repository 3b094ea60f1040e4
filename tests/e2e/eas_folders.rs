//! Folders that a device does not see, or can't change: `[[eas.folders]]` of policies.toml.

use seg_core::sandbox::{Answer, Filter, Sandbox, Script};
use seg_tests::eas::Request;
use seg_tests::message::Message;
use seg_tests::{Gateway, GatewayBuilder, eventually};
use serde_json::json;

use crate::sandbox;

const POLICIES: &str = r#"
[[eas.folders]]
id = "no-notes"
action = "hide"
classes = ["notes"]
except = { groups = ["Board"] }

[[eas.folders]]
id = "calendar-to-look-at"
action = "read-only"
types = ["calendar"]
"#;

fn before(sandbox: &Sandbox) -> GatewayBuilder {
    let builder = Gateway::before(sandbox);
    builder.file("policies.toml", POLICIES);
    builder
}

fn element(token: u8, content: &[u8]) -> Vec<u8> {
    [&[token | 0x40], content, &[0x01]].concat()
}

fn text(token: u8, text: &str) -> Vec<u8> {
    element(token, &[&[0x03], text.as_bytes(), &[0x00]].concat())
}

fn message(page: &[u8], root: &[u8]) -> Vec<u8> {
    [&[3, 1, 0x6A, 0][..], page, root].concat()
}

/// FolderSync: Status, SyncKey, Changes with Count and these folders (id, name, type).
fn hierarchy(folders: &[(&str, &str, &str)]) -> Vec<u8> {
    let mut changes = text(0x17, &folders.len().to_string());
    for (id, name, kind) in folders {
        let parts = [
            text(0x08, id),
            text(0x09, "0"),
            text(0x07, name),
            text(0x0A, kind),
        ];
        changes.extend(element(0x0F, &parts.concat()));
    }
    let root = [text(0x0C, "1"), text(0x12, "7"), element(0x0E, &changes)];
    message(&[0, 7], &element(0x16, &root.concat()))
}

const ALL: [(&str, &str, &str); 4] = [
    ("5", "Inbox", "2"),
    ("8", "Calendar", "8"),
    ("10", "Notes", "10"),
    ("17", "Mine", "17"),
];

fn gives(sandbox: &Sandbox) {
    sandbox.clear_scripts();
    let answers = [
        ("FolderSync", hierarchy(&ALL)),
        (
            "Sync",
            b"\x03\x01\x6a\x00\x45\x4e\x031\x00\x01\x01".to_vec(),
        ),
        ("MoveItems", message(&[0, 5], &[0x05])),
    ];
    for (command, body) in answers {
        let answer = Answer::wbxml(body);
        sandbox.script(Script::answer(Filter::name(command), answer).always());
    }
}

fn folder_sync(device: &str, key: &str) -> Request {
    let body = message(&[0, 7], &element(0x16, &text(0x12, key)));
    Request::eas("FolderSync", "alice", device, body)
}

/// A Sync of one folder; with `change`, an item in it is deleted.
fn sync(device: &str, folder: &str, change: bool) -> Request {
    let mut parts = [text(0x0B, "3"), text(0x12, folder)].concat();
    if change {
        let delete = element(0x09, &text(0x0D, "8:1"));
        parts.extend(element(0x16, &delete));
    }
    let body = message(&[], &element(0x05, &element(0x1C, &element(0x0F, &parts))));
    Request::eas("Sync", "alice", device, body)
}

fn move_items(device: &str, to: &str) -> Request {
    let parts = [text(0x07, "5:1"), text(0x08, "5"), text(0x09, to)];
    let body = message(&[0, 5], &element(0x05, &element(0x06, &parts.concat())));
    Request::eas("MoveItems", "alice", device, body)
}

/// Page, root and Status.
fn says(answer: &Message, begin: &[u8]) -> bool {
    answer.body.starts_with(&message(begin, &[]))
}

const FOLDERS_ANEW: &[u8] = b"\x00\x07\x56\x4c\x039\x00";
const FOLDERS_FIRST: &[u8] = b"\x45\x4e\x0312\x00";
const SERVED: &[u8] = b"\x45\x4e\x031\x00";

#[tokio::test]
async fn a_hidden_folder_is_not_there_and_a_read_only_one_stays_as_it_is() {
    let sandbox = sandbox::start();
    gives(&sandbox);
    let mut gateway = before(&sandbox).start().await;

    // Of a device whose folders nobody knows the first question is what they are.
    let answer = gateway.ask(&sync("PHONE", "5", false)).await;
    assert!(says(&answer, FOLDERS_FIRST), "{answer:?}");
    let answer = gateway.ask(&folder_sync("PHONE", "6")).await;
    assert!(says(&answer, FOLDERS_ANEW), "{answer:?}");
    assert_eq!(sandbox::count(&sandbox, "PHONE"), 0);
    let answer = gateway.ask(&folder_sync("PHONE", "0")).await;
    assert_eq!(&answer.body[..], &hierarchy(&ALL[..2])[..]);

    for (request, begin, what) in [
        (sync("PHONE", "5", true), SERVED, "the inbox"),
        (sync("PHONE", "8", false), SERVED, "a look at the calendar"),
        (sync("PHONE", "10", false), FOLDERS_FIRST, "notes"),
        (move_items("PHONE", "5"), b"\x00\x05\x05", "a move"),
        (
            move_items("PHONE", "8"),
            b"\x00\x05\x45\x4b\x03130\x00",
            "a move to the calendar",
        ),
    ] {
        let answer = gateway.ask(&request).await;
        assert!(says(&answer, begin), "{what}: {answer:?}");
    }
    // A change is taken back: the folder begins anew, with what the server has.
    let before = sandbox::count(&sandbox, "PHONE");
    let answer = gateway.ask(&sync("PHONE", "8", true)).await;
    let anew = [text(0x0B, "0"), text(0x12, "8"), text(0x0E, "3")].concat();
    let anew = message(&[], &element(0x05, &element(0x1C, &element(0x0F, &anew))));
    assert_eq!(&answer.body[..], &anew[..]);
    assert_eq!(sandbox::count(&sandbox, "PHONE"), before);
    gateway
        .event("the refused change", |event| {
            event["reason"] == "folder_read_only"
        })
        .await;

    // `explain` tells which rules there are for the device, and about which of its folders each decides.
    let target = "/v1/explain?device=PHONE&user=alice@sandbox.example&command=Sync";
    let told = gateway.admin.read(target).await;
    let steps = told["steps"].as_array().expect("steps").iter();
    let rules: Vec<_> = steps.filter(|step| step["step"] == "folders").collect();
    let [notes, calendar] = rules[..] else {
        panic!("{told}");
    };
    assert_eq!(
        (&notes["rule"], &notes["outcome"]),
        (&json!("no-notes"), &json!("hide"))
    );
    assert_eq!(notes["saw"]["folders"], json!(["10", "17"]));
    assert_eq!(calendar["outcome"], "read-only");
    assert_eq!(calendar["saw"]["folders"], json!(["8"]));

    // A restart forgets nothing of it that has reached the disk.
    let kept = gateway.path("data/folders.ndjson");
    eventually("the folders on disk", || async {
        let text = std::fs::read_to_string(&kept).unwrap_or_default();
        text.ends_with("}\n").then_some(())
    })
    .await;
    gateway.restart_after_kill().await;
    let answer = gateway.ask(&sync("PHONE", "5", false)).await;
    assert!(says(&answer, SERVED), "{answer:?}");
    let answer = gateway.ask(&sync("PHONE", "17", false)).await;
    assert!(says(&answer, FOLDERS_FIRST), "{answer:?}");

    // Somebody of the board sees the notes, byte for byte; the calendar is his to look at as well.
    let record = r#"{"groups":["Board"],"user":"alice@sandbox.example"}"#;
    gateway
        .admin
        .write("PUT", "/v1/devices/BOARD", record)
        .await;
    let target = "/v1/explain?device=BOARD&user=alice@sandbox.example&command=Sync";
    let told = gateway.admin.read(target).await.to_string();
    assert!(
        told.contains("calendar-to-look-at") && !told.contains("no-notes"),
        "{told}"
    );
    let answer = gateway.ask(&folder_sync("BOARD", "0")).await;
    assert_eq!(&answer.body[..], &hierarchy(&ALL)[..]);
    let answer = gateway.ask(&sync("BOARD", "10", true)).await;
    assert!(says(&answer, SERVED), "{answer:?}");
}

#[tokio::test]
async fn a_rule_about_no_folder_is_refused() {
    let sandbox = sandbox::start();
    let gateway = before(&sandbox).start().await;
    for (bad, why) in [
        (
            "[[eas.folders]]\nid = \"x\"\naction = \"hide\"\n",
            "is about none",
        ),
        (
            "[[eas.folders]]\nid = \"x\"\naction = \"hide\"\ntypes = [\"mail\"]\n",
            "no type of folder",
        ),
    ] {
        std::fs::write(gateway.path("policies.toml"), bad).expect("the file is written");
        let (status, said) = gateway.admin.request("POST", "/v1/reload", "").await;
        let message = said["error"]["message"].as_str().unwrap_or_default();
        assert!(status == 422 && message.contains(why), "{said}");
    }
}
