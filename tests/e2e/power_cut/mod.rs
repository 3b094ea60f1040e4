//! A power cut takes what was never synced: the process gets a disk that keeps nothing else.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use seg_tests::Gateway;

use crate::sandbox::{self, FOLDER_SYNC_REFUSED, folder_sync};

/// Compiled for the test: it stands between the gateway and the C library.
const KEEP: &str = include_str!("keep.c");

#[tokio::test]
async fn a_power_cut_loses_no_acknowledged_change() {
    let sandbox = sandbox::start();
    let builder = Gateway::before(&sandbox);
    let mut gateway = builder.preload("keep.c", KEEP).start().await;
    let journal = gateway.path("data/journal");
    let mut blocked = Vec::new();
    let mut large_values = false;
    for round in 0..4 {
        // Small commits, and large ones with no two records alike.
        for index in 0..5 {
            let device = format!("CUT{round}X{index}");
            gateway.admin.block(&device).await;
            blocked.push(device);
        }
        let imported = import(&gateway, round).await;
        gateway.signal("KILL");
        gateway.ended().await;
        large_values |= fs::read_dir(journal.join("blobs"))
            .expect("sled's folder of large values")
            .flatten()
            .any(|entry| entry.path().extension().is_none());
        forget_what_was_not_synced(&journal);
        // A power cut may leave it behind.
        fs::remove_file(gateway.path("data/mark")).expect("the mark");
        gateway.restart_after_kill().await;
        for device in &blocked {
            let answer = gateway.ask(&folder_sync(device)).await;
            assert_eq!(
                &answer.body[..],
                FOLDER_SYNC_REFUSED,
                "{device} in round {round}"
            );
        }
        for device in imported {
            let found = gateway.admin.read(&format!("/v1/devices/{device}")).await;
            assert_eq!(found["device_id"], device.as_str(), "round {round}");
        }
    }
    assert!(
        large_values,
        "sled keeps large values in files of their own"
    );
}

/// Two thousand devices; gives the first and the last.
async fn import(gateway: &Gateway, round: u32) -> [String; 2] {
    let device = |index: u32| format!("IMPORTED{round}X{index}");
    let count = 2000;
    let lines: String = (0..count)
        .map(|index| {
            // A text that doesn't compress.
            let text: String = (0..24_u32)
                .map(|part| {
                    let mixed = (u64::from(round * count + index) * 24 + u64::from(part) + 1)
                        .wrapping_mul(0x9E37_79B9_7F4A_7C15);
                    format!("{:016x}", mixed ^ (mixed >> 29))
                })
                .collect();
            let device = device(index);
            format!("{{\"device_id\":\"{device}\",\"reason\":\"{text}\"}}\n")
        })
        .collect();
    gateway
        .admin
        .write("POST", "/v1/devices:import?source=mdm", &lines)
        .await;
    [device(0), device(count - 1)]
}

/// Each file becomes what it was when it was last synced; one that never was, or whose name was
/// never synced in its folder, is gone.
fn forget_what_was_not_synced(folder: &Path) {
    let names = fs::read_to_string(folder.join("names.kept")).unwrap_or_default();
    let known: HashSet<&str> = names.lines().collect();
    for entry in fs::read_dir(folder).expect("sled's folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.ends_with(".kept") {
            continue;
        }
        let kept = path.with_file_name(format!("{name}.kept"));
        if path.is_dir() {
            forget_what_was_not_synced(&path);
        } else if known.contains(&*name) && kept.exists() {
            fs::copy(&kept, &path).expect("the file is written");
        } else {
            fs::remove_file(&path).expect("the file is removed");
        }
    }
}
